"""What accounts that are linked to accounts elsewhere can do with that."""

from __future__ import annotations

import pytest

from homeserver.accounts.single_sign_on.linking import suggested_localpart
from homeserver.accounts.single_sign_on.provider import Identity
from homeserver.main import Server
from tests.support.api import Api


async def test_signing_in_elsewhere_proves_as_much_as_the_password(server: Server, alice: Api) -> None:
    """Who is linked may prove before something grave either with the password or by signing in in the browser; who
    has no password, only so."""

    async def flows() -> list[list[str]]:
        answer = await alice.delete(f"/devices/{alice.device_id}")
        assert answer.status == 401
        return [flow["stages"] for flow in answer.body["flows"]]

    assert await flows() == [["m.login.password"]]
    pool = server.services.pool
    await pool.execute(
        "INSERT INTO external_ids (provider_id, subject, user_nid, shown_as, linked_ts) "
        "SELECT 'there', 'alice', user_nid, 'alice', 0 FROM accounts"
    )
    assert await flows() == [["m.login.password"], ["m.login.sso"]]
    await pool.execute("UPDATE accounts SET password_hash = NULL")
    assert await flows() == [["m.login.sso"]]


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        (Identity("1", localpart="Alice"), "alice"),
        (Identity("1", localpart="Alice.B@corp.example"), "alice.b"),
        (Identity("1", localpart="Аліса"), ""),
        (Identity("1", localpart="_admin"), "admin"),
        (Identity("1", localpart="a b\tc:d"), "a-b-c-d"),
        (Identity("1", email="bob@example.org"), "bob"),
        (Identity("1", localpart="x" * 1000), "x" * 64),
        (Identity("1"), ""),
    ],
)
def test_a_user_name_is_suggested(identity: Identity, name: str) -> None:
    """Whatever somebody is called elsewhere, what is suggested here is a user name, or nothing."""
    assert suggested_localpart(identity) == name
