"""Refreshing access tokens: rotation, lost answers, and stolen tokens.

# spec: client-server-api/#refreshing-access-tokens
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from homeserver.changes import Subscription
from homeserver.main import Server, running_server
from tests.support.api import PASSWORD, Answer, Api, Json, open_api
from tests.support.servers import server_config


@pytest.fixture
async def conn(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def _login(api: Api, **fields: object) -> Json:
    body = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": PASSWORD}
    answer = await api.as_token(None).post("/login", {**body, "refresh_token": True, **fields})
    assert answer.status == 200, answer
    return dict(answer.body)


async def _refresh(api: Api, token: object) -> Answer:
    return await api.as_token(None).post("/refresh", {"refresh_token": token})


async def _works(api: Api, token: str) -> bool:
    answer = await api.as_token(token).get("/account/whoami")
    assert answer.status in (200, 401)
    return answer.status == 200


async def test_a_client_that_can_refresh_gets_tokens_that_expire(alice: Api) -> None:
    """With `refresh_token: true` login gives a refresh token and a lifetime; without it neither."""
    session = await _login(alice)
    assert session["expires_in_ms"] == 300_000
    assert session["refresh_token"] != session["access_token"]
    assert "refresh_token" not in await _login(alice, refresh_token=False)


async def test_registration_gives_refresh_tokens_too(api: Api) -> None:
    """`refresh_token: true` means the same to /register."""
    body = {"username": "bob", "password": PASSWORD, "auth": {"type": "m.login.dummy"}, "refresh_token": True}
    answer = await api.post("/register", body)
    assert answer.status == 200
    assert (await _refresh(api, answer.body["refresh_token"])).status == 200


async def test_a_refresh_keeps_the_device(alice: Api) -> None:
    """The new tokens are for the same device, and the old pair is worth nothing once the new one is used."""
    session = await _login(alice)
    answer = await _refresh(alice, session["refresh_token"])
    assert answer.status == 200
    assert answer.body["expires_in_ms"] == 300_000
    assert "device_id" not in answer.body
    who = await alice.as_token(answer.body["access_token"]).get("/account/whoami")
    assert who.body["device_id"] == session["device_id"]
    assert not await _works(alice, session["access_token"])


async def test_an_expired_token_can_be_refreshed(alice: Api, conn: asyncpg.Connection) -> None:
    """Expiry of the access token is a soft logout, after which the refresh token works.

    # spec: client-server-api/#soft-logout
    """
    session = await _login(alice)
    await conn.execute("UPDATE access_tokens SET expires_ts = 1 WHERE expires_ts IS NOT NULL")
    gone = await alice.as_token(session["access_token"]).get("/account/whoami")
    assert (gone.status, gone.errcode, gone.body["soft_logout"]) == (401, "M_UNKNOWN_TOKEN", True)
    answer = await _refresh(alice, session["refresh_token"])
    assert await _works(alice, answer.body["access_token"])


async def test_a_client_that_lost_the_answer_asks_again(alice: Api) -> None:
    """Until one of the new tokens is used the old refresh token stays good, and so does the old access token."""
    session = await _login(alice)
    lost = (await _refresh(alice, session["refresh_token"])).body
    assert await _works(alice, session["access_token"])
    found = await _refresh(alice, session["refresh_token"])
    assert found.status == 200
    assert await _works(alice, found.body["access_token"])
    assert not await _works(alice, lost["access_token"])
    assert (await _refresh(alice, found.body["refresh_token"])).status == 200


@pytest.mark.parametrize("used", ["access_token", "refresh_token"])
async def test_a_spent_refresh_token_ends_the_session(alice: Api, used: str) -> None:
    """Who comes with a token whose successor is in use has stolen it or been robbed: nobody keeps the session."""
    session = await _login(alice)
    new = (await _refresh(alice, session["refresh_token"])).body
    if used == "access_token":
        assert await _works(alice, new["access_token"])
    else:
        new = (await _refresh(alice, new["refresh_token"])).body
    answer = await _refresh(alice, session["refresh_token"])
    assert (answer.status, answer.errcode) == (401, "M_UNKNOWN_TOKEN")
    assert not answer.body.get("soft_logout", False)
    assert not await _works(alice, new["access_token"])
    assert (await _refresh(alice, new["refresh_token"])).status == 401
    devices = [device["device_id"] for device in (await alice.get("/devices")).body["devices"]]
    assert devices == [alice.device_id]


async def test_a_thief_and_the_owner_do_not_both_go_on(alice: Api) -> None:
    """Of two answers to the same refresh, the one that is used first counts; using the other ends the session."""
    session = await _login(alice)
    first = (await _refresh(alice, session["refresh_token"])).body
    second = (await _refresh(alice, session["refresh_token"])).body
    assert await _works(alice, first["access_token"])
    assert not await _works(alice, second["access_token"])
    assert await _works(alice, first["access_token"])
    assert (await _refresh(alice, second["refresh_token"])).status == 401
    assert not await _works(alice, first["access_token"])


async def test_two_answers_used_at_once_leave_one_winner(alice: Api) -> None:
    """However many requests come at the same moment with both, no more than one of the two tokens goes on."""
    session = await _login(alice)
    pairs = [(await _refresh(alice, session["refresh_token"])).body for _ in range(2)]
    await asyncio.gather(*(_works(alice, pair["access_token"]) for pair in pairs * 10))
    assert [await _works(alice, pair["access_token"]) for pair in pairs].count(True) == 1


async def test_refreshing_at_once_breaks_nothing(alice: Api) -> None:
    """Twenty refreshes with one token at once: each gives tokens, and the newest work."""
    session = await _login(alice)
    answers = await asyncio.gather(*(_refresh(alice, session["refresh_token"]) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    last = await _refresh(alice, session["refresh_token"])
    assert await _works(alice, last.body["access_token"])


async def test_few_unused_answers_are_kept(alice: Api, conn: asyncpg.Connection) -> None:
    """Asking again and again does not fill the database."""
    session = await _login(alice)
    for _ in range(30):
        await _refresh(alice, session["refresh_token"])
    assert await conn.fetchval("SELECT count(*) FROM refresh_tokens") <= 11
    assert await conn.fetchval("SELECT count(*) FROM access_tokens") <= 12


@pytest.mark.parametrize("token", ["", "nonsense", "tpar_" + "0" * 32 + "_" + "A" * 43, "x" * 500, "é"])
async def test_unknown_refresh_tokens(alice: Api, token: str) -> None:
    """What is no refresh token of ours is unknown, and nothing happens."""
    answer = await _refresh(alice, token)
    assert (answer.status, answer.errcode) == (401, "M_UNKNOWN_TOKEN")
    assert await _works(alice, alice.token or "")


@pytest.mark.parametrize("body", [{}, {"refresh_token": None}, {"refresh_token": 5}, {"refresh_token": ["a"]}])
async def test_refreshes_of_the_wrong_form(api: Api, body: Json) -> None:
    """The token must be there, and a string."""
    assert (await api.post("/refresh", body)).status == 400


async def test_an_access_token_refreshes_nothing(alice: Api) -> None:
    """The two kinds of token are not interchangeable."""
    session = await _login(alice)
    assert (await _refresh(alice, session["access_token"])).status == 401
    assert not await _works(alice, session["refresh_token"])


async def test_a_refresh_token_that_is_not_used_expires(alice: Api, conn: asyncpg.Connection) -> None:
    """With refresh_token_days, a client that was away for longer logs in again: a soft logout, the device stays."""
    session = await _login(alice)
    await conn.execute("UPDATE refresh_tokens SET expires_ts = 1")
    answer = await _refresh(alice, session["refresh_token"])
    assert (answer.status, answer.errcode, answer.body["soft_logout"]) == (401, "M_UNKNOWN_TOKEN", True)
    again = await _login(alice, device_id=session["device_id"])
    assert await _works(alice, again["access_token"])


async def test_how_long_tokens_last_is_configured(database: str, tmp_path: Path, conn: asyncpg.Connection) -> None:
    """The operator says how long access tokens last, and refresh tokens that are not used."""
    config = server_config(database, tmp_path, sessions={"access_token_seconds": 60, "refresh_token_days": 2})
    async with running_server(config) as server, open_api(server.url) as api:
        session = await _login(await api.register("alice"))
        assert session["expires_in_ms"] == 60_000
        assert (await _refresh(api, session["refresh_token"])).body["expires_in_ms"] == 60_000
        rows = await conn.fetch("SELECT expires_ts - created_ts AS lasts FROM refresh_tokens")
        assert [row["lasts"] for row in rows] == [2 * 24 * 3600 * 1000] * 2


async def test_logging_in_again_ends_the_old_refresh_token(alice: Api) -> None:
    """A device has one session: a login on it ends what was there before, and the old token ends nothing."""
    session = await _login(alice)
    again = await _login(alice, device_id=session["device_id"])
    assert (await _refresh(alice, session["refresh_token"])).status == 401
    assert await _works(alice, again["access_token"])


async def test_logging_in_on_one_device_at_once(alice: Api) -> None:
    """Of many logins on one device at the same moment one lasts, and none fails."""
    await asyncio.gather(*(_login(alice, device_id="SAME") for _ in range(8)))
    last = await _login(alice, device_id="SAME")
    assert (await _refresh(alice, last["refresh_token"])).status == 200


async def test_nothing_waits_for_each_other(alice: Api) -> None:
    """Logins, refreshes, first uses and log-outs of one device at once: each is answered, and none fails."""

    async def go_on(number: int) -> set[int]:
        seen = set()
        for turn in range(6):
            body = {"type": "m.login.password", "user": "alice", "password": PASSWORD, "device_id": "SAME"}
            session = await alice.as_token(None).post("/login", {**body, "refresh_token": True})
            new = await _refresh(alice, session.body["refresh_token"])
            token = new.body.get("access_token", session.body["access_token"])
            who = await alice.as_token(token).get("/account/whoami")
            out = await alice.as_token(token).post("/logout" if (number + turn) % 3 else "/logout/all")
            seen |= {session.status, new.status, who.status, out.status}
        return seen

    answers = await asyncio.gather(*(go_on(number) for number in range(6)))
    assert set().union(*answers) <= {200, 401}


async def test_logout_ends_the_refresh_token(alice: Api) -> None:
    """After /logout nothing can be refreshed."""
    session = await _login(alice)
    assert (await alice.as_token(session["access_token"]).post("/logout")).status == 200
    assert (await _refresh(alice, session["refresh_token"])).status == 401


async def test_refresh_tokens_are_never_stored(alice: Api, conn: asyncpg.Connection) -> None:
    """Who reads the database finds no token that could be used, nor the part that all of a session share."""
    session = await _login(alice)
    rows = await conn.fetch("SELECT s::text AS row FROM sessions s UNION ALL SELECT r::text FROM refresh_tokens r")
    text = "\n".join(row["row"] for row in rows)
    assert session["device_id"] in text
    for part in session["refresh_token"].split("_", 2):
        assert part not in text


async def test_a_long_poll_ends_with_its_session(alice: Api, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever logs out need not wait for the sync of that session to time out, and other sessions' go on."""
    other = await alice.as_token(None).login("alice")
    since = (await other.get("/sync")).body["next_batch"]
    own_since = (await alice.get("/sync")).body["next_batch"]
    waits = asyncio.Event()
    subscription_wait = Subscription.wait

    async def wait(self: Subscription, timeout: float) -> bool:
        waits.set()
        return await subscription_wait(self, timeout)

    monkeypatch.setattr(Subscription, "wait", wait)
    waiting = asyncio.create_task(other.get("/sync", query={"since": since, "timeout": "60000"}))
    async with asyncio.timeout(20):
        await waits.wait()
        assert (await other.post("/logout")).status == 200
        answer = await waiting
    assert (answer.status, answer.errcode) == (401, "M_UNKNOWN_TOKEN")
    assert (await alice.get("/sync", query={"since": own_since})).status == 200
