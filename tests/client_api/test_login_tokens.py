"""Logging in with a token that another device of the user was given.

# spec: client-server-api/#post_matrixclientv1loginget_token
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from homeserver.main import running_server
from tests.support.api import PASSWORD, Answer, Api, open_api
from tests.support.servers import server_config

_PATH = "/_matrix/client/v1/login/get_token"


async def _token(alice: Api, password: str = PASSWORD) -> Answer:
    asked = await alice.post(_PATH, {})
    assert asked.status == 401
    identifier = {"type": "m.id.user", "user": alice.user_id}
    auth = {"type": "m.login.password", "identifier": identifier, "password": password}
    return await alice.post(_PATH, {"auth": {**auth, "session": asked.body["session"]}})


async def _login(alice: Api, token: object) -> Answer:
    return await alice.as_token(None).post("/login", {"type": "m.login.token", "token": token})


async def test_a_token_signs_in_another_device(alice: Api) -> None:
    """Who proves once more who they are gets a token, and whoever has that logs in as them, once."""
    given = await _token(alice)
    assert given.status == 200
    assert given.body["expires_in_ms"] == 120_000
    answer = await _login(alice, given.body["login_token"])
    assert answer.status == 200
    assert answer.body["user_id"] == alice.user_id
    assert answer.body["device_id"] != alice.device_id
    again = await _login(alice, given.body["login_token"])
    assert (again.status, again.errcode) == (403, "M_FORBIDDEN")


async def test_the_password_is_asked_for_each_time(alice: Api) -> None:
    """A token is not given for a wrong password, and not for an earlier proof."""
    assert (await _token(alice, "wrong")).status == 401
    assert (await _token(alice)).status == 200
    assert (await alice.post(_PATH, {})).status == 401


async def test_of_many_logins_with_one_token_one_succeeds(alice: Api) -> None:
    """However many come at the same moment."""
    token = (await _token(alice)).body["login_token"]
    answers = await asyncio.gather(*(_login(alice, token) for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [200] + [403] * 9


async def test_tokens_expire_and_are_not_stored(alice: Api, database: str) -> None:
    """After two minutes a token is worth nothing; the database never had it, only its hash."""
    token = (await _token(alice)).body["login_token"]
    conn = await asyncpg.connect(database)
    assert token not in await conn.fetchval("SELECT string_agg(t::text, ' ') FROM login_tokens t")
    await conn.execute("UPDATE login_tokens SET expires_ts = expires_ts - 120001")
    await conn.close()
    assert (await _login(alice, token)).status == 403


async def test_the_token_of_an_account_that_is_gone(alice: Api, database: str) -> None:
    """Deactivation ends what was given before."""
    token = (await _token(alice)).body["login_token"]
    conn = await asyncpg.connect(database)
    await conn.execute("UPDATE accounts SET deactivated = true")
    await conn.close()
    answer = await _login(alice, token)
    assert (answer.status, answer.errcode) == (403, "M_USER_DEACTIVATED")


@pytest.mark.parametrize("token", ["", "nonsense", "x" * 513, 5, None])
async def test_what_is_no_token(alice: Api, token: object) -> None:
    """Nobody is logged in with nonsense."""
    assert (await _login(alice, token)).status in (400, 403)


async def test_it_can_be_switched_off(database: str, tmp_path: Path) -> None:
    """Without sessions.login_tokens it is neither announced nor done."""
    config = server_config(database, tmp_path, sessions={"login_tokens": False})
    async with running_server(config) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        capabilities = (await alice.get("/capabilities")).body["capabilities"]
        assert capabilities["m.get_login_token"] == {"enabled": False}
        flows = {flow["type"]: flow for flow in (await api.get("/login")).body["flows"]}
        assert "get_login_token" not in flows["m.login.token"]
        assert (await alice.post(_PATH, {})).errcode == "M_UNRECOGNIZED"


async def test_it_is_announced(alice: Api) -> None:
    """Clients that are signed in find it among the capabilities, others with the ways to log in."""
    capabilities = (await alice.get("/capabilities")).body["capabilities"]
    assert capabilities["m.get_login_token"] == {"enabled": True}
    flows = (await alice.get("/login")).body["flows"]
    assert {"type": "m.login.token", "get_login_token": True} in flows
