"""What sessions of OAuth 2.0 must prove: not with a password, but in the browser.

# spec: client-server-api/#oauth-authentication
"""

from __future__ import annotations

import asyncio

import pytest

from homeserver.accounts.oauth2.key_reset import allow_reset
from homeserver.main import Server
from homeserver.storage.accounts import find_account
from tests.support.api import PASSWORD, Api, Json
from tests.support.keys import Identity
from tests.support.oauth2 import OAuth2, registered

USER = "@alice:test.example"
PATH = "/keys/device_signing/upload"


@pytest.fixture
async def oauth2(server: Server, alice: Api) -> OAuth2:
    """A public client of `server`, where alice has an account."""
    return await registered(server, alice)


@pytest.fixture
async def phone(oauth2: OAuth2) -> Api:
    """alice in a session of OAuth 2.0, with cross-signing keys."""
    api = oauth2.api.as_token((await oauth2.sign_in(USER))["access_token"])
    assert (await api.post(PATH, Identity(USER).upload())).status == 200
    return api


async def _agree(server: Server) -> None:
    async with server.services.pool.acquire() as conn:
        account = await find_account(conn, USER)
        assert account is not None
        await allow_reset(conn, account.user_nid)


async def test_keys_are_replaced_after_the_user_agreed(phone: Api, server: Server) -> None:
    """The client shows a page, and asks again with the session alone; that works once."""
    new = Identity(USER).upload()
    asked = await phone.post(PATH, new)
    assert asked.status == 401
    assert {"stages": ["m.oauth"]} in asked.body["flows"]
    url = f"{server.url}/account?action=org.matrix.cross_signing_reset"
    assert asked.body["params"]["m.oauth"] == {"url": url}
    body: Json = {**new, "auth": {"session": asked.body["session"]}}
    early = await phone.post(PATH, body)
    assert (early.status, early.errcode) == (401, "M_FORBIDDEN")
    await _agree(server)
    assert (await phone.post(PATH, body)).status == 200
    other = Identity(USER).upload()
    assert (await phone.post(PATH, other)).status == 401
    assert (await phone.post(PATH, {**other, "auth": {"session": asked.body["session"]}})).status == 401


async def test_the_older_name_of_the_stage(phone: Api, server: Server) -> None:
    """Clients that know only the proposal's name find it beside the other."""
    new = Identity(USER).upload()
    asked = await phone.post(PATH, new)
    stage = "org.matrix.cross_signing_reset"
    assert {"stages": [stage]} in asked.body["flows"]
    await _agree(server)
    auth = {"type": stage, "session": asked.body["session"]}
    assert (await phone.post(PATH, {**new, "auth": auth})).status == 200


async def test_an_agreement_is_used_once(phone: Api, server: Server) -> None:
    """Of several uploads at the same moment one replaces the keys."""
    await _agree(server)
    answers = await asyncio.gather(
        *(phone.post(PATH, {**Identity(USER).upload(), "auth": {"session": ""}}) for _ in range(5))
    )
    assert [answer.status for answer in answers].count(200) == 1


@pytest.mark.parametrize("auth", [5, "x", [], {"type": "m.login.password", "password": PASSWORD}, {"session": 5}])
async def test_a_password_proves_nothing_here(phone: Api, auth: object) -> None:
    """A session that must not know the password can't use it."""
    answer = await phone.post(PATH, {**Identity(USER).upload(), "auth": auth})
    assert answer.status in (400, 401)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/delete_devices", {"devices": ["PHONE12345"]}),
        ("DELETE", "/devices/PHONE12345", {}),
        ("POST", "/account/password", {"new_password": "another password"}),
        ("POST", "/account/deactivate", {}),
        ("POST", "/_matrix/client/v1/login/get_token", {}),
    ],
)
async def test_what_is_done_in_the_browser_alone(phone: Api, method: str, path: str, body: Json) -> None:
    """Whatever else must be proved is for the account's pages, with the password or without it."""
    auth = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": PASSWORD}
    for sent in (body, {**body, "auth": auth}):
        answer = await phone.request(method, path, sent)
        assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    assert (await phone.get("/account/whoami")).status == 200


async def test_logout_needs_no_proof(phone: Api) -> None:
    """The session can end itself."""
    assert (await phone.post("/logout")).status == 200
    assert (await phone.get("/account/whoami")).status == 401
