"""Logging in and out, and what a session is worth."""

from __future__ import annotations

import asyncpg
import pytest

from homeserver.main import Server
from tests.support.api import PASSWORD, Api


async def test_the_ways_to_log_in_are_told(api: Api) -> None:
    """GET /login names every type that POST /login takes."""
    types = [flow["type"] for flow in (await api.get("/login")).body["flows"]]
    assert types == ["m.login.password", "m.login.sso", "m.login.token", "m.login.application_service"]


@pytest.mark.parametrize(
    "who",
    [
        {"identifier": {"type": "m.id.user", "user": "alice"}},
        {"identifier": {"type": "m.id.user", "user": "@alice:test.example"}},
        {"identifier": {"type": "m.id.user", "user": "Alice"}},
        {"user": "alice"},
        {"user": "@alice:test.example"},
    ],
)
async def test_a_user_is_named_in_any_of_the_ways(alice: Api, who: dict[str, object]) -> None:
    """An identifier object or the old `user`; the whole id or its localpart; capitals don't matter."""
    answer = await alice.as_token(None).post("/login", {"type": "m.login.password", "password": PASSWORD, **who})
    assert answer.status == 200
    assert answer.body["user_id"] == "@alice:test.example"
    assert (await alice.as_token(answer.body["access_token"]).get("/account/whoami")).status == 200


@pytest.mark.parametrize(
    ("body", "status", "errcode"),
    [
        ({"identifier": {"type": "m.id.user", "user": "alice"}, "password": "wrong"}, 403, "M_FORBIDDEN"),
        ({"identifier": {"type": "m.id.user", "user": "nobody"}, "password": PASSWORD}, 403, "M_FORBIDDEN"),
        (
            {"identifier": {"type": "m.id.user", "user": "@alice:other.example"}, "password": PASSWORD},
            403,
            "M_FORBIDDEN",
        ),
        ({"identifier": {"type": "m.id.thirdparty", "medium": "email", "address": "a@b"}, "password": "x"}, 403, None),
        ({"identifier": {"type": "m.id.phone", "country": "GB", "phone": "1"}, "password": PASSWORD}, 403, None),
        ({"medium": "email", "address": "a@b", "password": PASSWORD}, 403, None),
        ({"identifier": {"type": "x"}, "password": PASSWORD}, 400, "M_INVALID_PARAM"),
        ({"identifier": 5, "password": PASSWORD}, 400, "M_BAD_JSON"),
        ({"identifier": {"type": "m.id.user"}, "password": PASSWORD}, 400, "M_MISSING_PARAM"),
        ({"user": "alice"}, 400, "M_MISSING_PARAM"),
        ({"user": "alice", "password": PASSWORD, "type": "m.login.magic"}, 400, "M_UNKNOWN"),
        ({"user": "alice", "password": PASSWORD, "type": None}, 400, "M_MISSING_PARAM"),
        ({"user": "alice", "password": PASSWORD, "device_id": "x" * 300}, 400, "M_INVALID_PARAM"),
    ],
)
async def test_a_login_that_fails(alice: Api, body: dict[str, object], status: int, errcode: str | None) -> None:
    """Who is wrong about user or password is forbidden, the same for both; who sends nonsense is told what."""
    answer = await alice.as_token(None).post("/login", {"type": "m.login.password", **body})
    assert answer.status == status
    assert errcode is None or answer.errcode == errcode


async def test_each_login_is_a_device(alice: Api) -> None:
    """Without a device id each login makes a new device, and all of them work side by side."""
    other = await alice.as_token(None).login("alice", initial_device_display_name="Desk")
    assert other.device_id != alice.device_id
    names = {
        device["device_id"]: device.get("display_name") for device in (await alice.get("/devices")).body["devices"]
    }
    assert names == {alice.device_id: None, other.device_id: "Desk"}


async def test_logging_in_again_on_a_device_ends_its_old_token(alice: Api) -> None:
    """A device that exists keeps its name and gets a new token; the one before is worth nothing.

    # spec: client-server-api/#relationship-between-access-tokens-and-devices
    """
    again = await alice.as_token(None).login(
        "alice", device_id=alice.device_id, initial_device_display_name="Another name"
    )
    assert again.device_id == alice.device_id
    assert (await alice.get("/account/whoami")).errcode == "M_UNKNOWN_TOKEN"
    devices = (await again.get("/devices")).body["devices"]
    assert [device["device_id"] for device in devices] == [alice.device_id]
    assert "display_name" not in devices[0]


async def test_tokens_are_never_stored(alice: Api, database: str) -> None:
    """Who reads the database finds no token that could be used, nor a password."""
    conn = await asyncpg.connect(database)
    rows = await conn.fetch("SELECT t::text AS row FROM access_tokens t UNION ALL SELECT a::text FROM accounts a")
    await conn.close()
    text = "\n".join(row["row"] for row in rows)
    assert text
    assert alice.token is not None
    assert alice.token not in text
    assert alice.token.encode().hex() not in text
    assert PASSWORD not in text


async def test_logout_ends_the_session_and_the_device(alice: Api) -> None:
    """After /logout the token is unknown and the device gone; other sessions go on."""
    other = await alice.as_token(None).login("alice")
    answer = await alice.request("POST", "/logout")
    assert (answer.status, answer.body) == (200, {})
    gone = await alice.get("/account/whoami")
    assert (gone.status, gone.errcode) == (401, "M_UNKNOWN_TOKEN")
    assert not gone.body.get("soft_logout", False)
    assert [device["device_id"] for device in (await other.get("/devices")).body["devices"]] == [other.device_id]


async def test_logout_all_ends_every_session(alice: Api) -> None:
    """After /logout/all no token of the user works; those of others do."""
    other = await alice.as_token(None).login("alice")
    bob = await alice.as_token(None).register("bob")
    assert (await alice.post("/logout/all")).status == 200
    assert (await alice.get("/account/whoami")).status == 401
    assert (await other.get("/account/whoami")).status == 401
    assert (await bob.get("/account/whoami")).status == 200


async def test_an_expired_token_is_a_soft_logout(alice: Api, database: str) -> None:
    """A client whose token has expired keeps what it has and logs in again.  # spec: client-server-api/#soft-logout"""
    conn = await asyncpg.connect(database)
    await conn.execute("UPDATE access_tokens SET expires_ts = 1")
    await conn.close()
    answer = await alice.get("/account/whoami")
    assert (answer.status, answer.errcode, answer.body["soft_logout"]) == (401, "M_UNKNOWN_TOKEN", True)


@pytest.mark.parametrize(
    ("headers", "errcode"),
    [
        ({}, "M_MISSING_TOKEN"),
        ({"Authorization": "Bearer nonsense"}, "M_UNKNOWN_TOKEN"),
        ({"Authorization": "Bearer " + "x" * 10000}, "M_UNKNOWN_TOKEN"),
        ({"Authorization": "Bearer é"}, "M_UNKNOWN_TOKEN"),
        ({"Authorization": "Bearer "}, "M_MISSING_TOKEN"),
        ({"Authorization": "Basic YTpi"}, "M_MISSING_TOKEN"),
        ({"Authorization": "X-Matrix origin=a"}, "M_MISSING_TOKEN"),
    ],
)
async def test_without_a_good_token_nothing_is_done(api: Api, headers: dict[str, str], errcode: str) -> None:
    """Missing and unknown tokens are told apart.  # spec: client-server-api/#using-access-tokens"""
    answer = await api.get("/account/whoami", headers=headers)
    assert (answer.status, answer.errcode) == (401, errcode)


async def test_a_token_in_the_address_counts_only_if_configured(alice: Api, server: Server) -> None:
    """By default a token in the query string, where it ends up in logs, is not looked at."""
    answer = await alice.as_token(None).get(f"/account/whoami?access_token={alice.token}")
    assert (answer.status, answer.errcode) == (401, "M_MISSING_TOKEN")


async def test_last_seen_is_written(alice: Api, server: Server) -> None:
    """A device shows when and from where it was used."""
    await alice.get("/account/whoami")
    await server.http.authenticator.activity.write()
    device = (await alice.get(f"/devices/{alice.device_id}")).body
    assert device["last_seen_ip"] == "127.0.0.1"
    assert device["last_seen_ts"] > 1_700_000_000_000
