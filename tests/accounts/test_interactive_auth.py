"""User-interactive authentication in several stages: what is proved counts once, in order, for one operation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from homeserver.accounts import interactive_auth
from homeserver.accounts.interactive_auth import (
    REGISTRATION_TOKEN,
    AuthRequired,
    Challenge,
    Flow,
    Stage,
    expire_sessions,
)
from homeserver.protocol.errors import BadJson, BadRequest, Forbidden
from homeserver.protocol.events import JsonObject
from homeserver.storage.pool import create_pool
from homeserver.storage.registration_tokens import begin_use, is_usable
from homeserver.storage.stream import Connection, Pool

_FLOWS: list[Flow] = [("code", "token"), ("code", "dummy", "token")]
_BODY = {"username": "alice", "n": [1, {"b": 1, "a": 2.5}]}


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    pool = await create_pool(database, 4)
    yield pool
    await pool.close()


async def _check_code(auth: JsonObject) -> None:
    if auth.get("code") != "right":
        raise Forbidden("Wrong code")


async def _record(conn: Connection, auth: JsonObject) -> str:
    return str(auth.get("token"))


def _challenge(pool: Pool, operation: str = "register") -> Challenge:
    stages = {
        "code": Stage(check=_check_code, params={"hint": "right"}),
        "token": Stage(record=_record),
        "dummy": Stage(),
    }
    return Challenge(pool, operation, _FLOWS, stages)


async def _refused(challenge: Challenge, auth: JsonObject | None, body: JsonObject | None = None) -> JsonObject:
    """What the client is told that has more to prove."""
    with pytest.raises(AuthRequired) as caught:
        await challenge.answer({**(body or _BODY), **({"auth": auth} if auth is not None else {})})
    assert caught.value.status == 401
    return caught.value.body()


async def test_stages_are_proved_one_after_the_other(pool: Pool) -> None:
    """Each answer says what is done; with the last stage of a flow the operation may go on, and knows what was kept."""
    challenge = _challenge(pool)
    first = await _refused(challenge, None)
    assert first["flows"] == [{"stages": ["code", "token"]}, {"stages": ["code", "dummy", "token"]}]
    assert first["params"] == {"code": {"hint": "right"}}
    assert "completed" not in first
    second = await _refused(challenge, {"type": "code", "code": "right", "session": first["session"]})
    assert second["completed"] == ["code"]
    assert second["session"] == first["session"]
    proof = await challenge.answer({**_BODY, "auth": {"type": "token", "token": "t", "session": first["session"]}})
    async with pool.acquire() as conn, conn.transaction():
        assert await proof.use(conn) == {"code": None, "token": "t"}


async def test_the_order_of_a_flow_is_kept(pool: Pool) -> None:
    """A later stage can't be proved before an earlier one."""
    told = await _refused(_challenge(pool), {"type": "token", "token": "t", "session": "s"})
    assert told["errcode"] == "M_UNRECOGNIZED"
    assert "completed" not in told
    await _refused(_challenge(pool), {"type": "code", "code": "right", "session": "s"})
    told = await _refused(_challenge(pool), {"type": "dummy", "session": "s"})
    assert told["completed"] == ["code", "dummy"]
    await _challenge(pool).answer({**_BODY, "auth": {"type": "token", "session": "s"}})


async def test_a_failed_proof_may_be_tried_again(pool: Pool) -> None:
    """A stage that fails says why and leaves what was proved before."""
    challenge = _challenge(pool)
    told = await _refused(challenge, {"type": "code", "code": "wrong", "session": "s"})
    assert (told["errcode"], told["error"]) == ("M_FORBIDDEN", "Wrong code")
    told = await _refused(challenge, {"type": "code", "code": "right", "session": "s"})
    assert "errcode" not in told
    told = await _refused(challenge, {"type": "magic", "session": "s"})
    assert told["completed"] == ["code"]


async def test_a_completed_stage_is_not_proved_again(pool: Pool) -> None:
    """Repeating a stage, or asking with the session alone, says how far it has come."""
    challenge = _challenge(pool)
    await _refused(challenge, {"type": "code", "code": "right", "session": "s"})
    assert (await _refused(challenge, {"type": "code", "code": "wrong", "session": "s"}))["completed"] == ["code"]
    assert (await _refused(challenge, {"session": "s"}))["completed"] == ["code"]


async def test_a_proof_is_for_one_operation(pool: Pool) -> None:
    """What was proved for one operation, or one set of parameters, is worth nothing for another."""
    await _refused(_challenge(pool), {"type": "code", "code": "right", "session": "s"})
    elsewhere = await _refused(_challenge(pool, "delete"), {"type": "token", "session": "s"})
    assert "completed" not in elsewhere
    changed = await _refused(_challenge(pool), {"type": "token", "session": "s"}, {**_BODY, "username": "mallory"})
    assert "completed" not in changed
    assert (await _refused(_challenge(pool), {"session": "s"}))["completed"] == ["code"]
    # A session that is begun anew for something else is that from then on.
    await _refused(_challenge(pool, "delete"), {"type": "code", "code": "right", "session": "s"})
    assert "completed" not in await _refused(_challenge(pool), {"session": "s"})


async def test_a_proof_is_used_once(pool: Pool) -> None:
    """Of two requests that complete the same session at once, one goes on."""
    challenge = _challenge(pool)
    await _refused(challenge, {"type": "code", "code": "right", "session": "s"})
    body = {**_BODY, "auth": {"type": "token", "session": "s"}}
    proofs = await asyncio.gather(*(challenge.answer(body) for _ in range(3)))

    async def use(index: int) -> Any:
        async with pool.acquire() as conn, conn.transaction():
            return await proofs[index].use(conn)

    results = await asyncio.gather(*(use(index) for index in range(3)), return_exceptions=True)
    assert sum(isinstance(result, dict) for result in results) == 1
    assert sum(isinstance(result, BadRequest) for result in results) == 2


async def test_a_session_ends_by_itself(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an hour a session is worth nothing, and the use of a token that it held is given back."""
    await pool.execute("INSERT INTO registration_tokens (token, uses_allowed) VALUES ('t', 1)")

    async def record(conn: Connection, auth: JsonObject) -> str:
        assert await begin_use(conn, "t", 0)
        return "t"

    stages = {REGISTRATION_TOKEN: Stage(record=record), "dummy": Stage()}
    challenge = Challenge(pool, "register", [(REGISTRATION_TOKEN, "dummy")], stages)
    told = await _refused(challenge, {"type": REGISTRATION_TOKEN, "session": "s"})
    assert told["completed"] == [REGISTRATION_TOKEN]
    async with pool.acquire() as conn:
        assert not await is_usable(conn, "t", 0)
    later = interactive_auth._now_ms() + 3_600_001
    monkeypatch.setattr(interactive_auth, "_now_ms", lambda: later)
    assert "completed" not in await _refused(challenge, {"session": "s"})
    await expire_sessions(pool)
    async with pool.acquire() as conn:
        assert await is_usable(conn, "t", 0)


async def test_neither_sessions_nor_parameters_are_stored(pool: Pool, database: str) -> None:
    """Who reads the database can't go on with anyone's session, nor see the password in its request."""
    body = {"new_password": "swordfish", "username": "alice"}
    await _refused(_challenge(pool), {"type": "code", "code": "right", "session": "the-session-id"}, body)
    conn = await asyncpg.connect(database)
    text = await conn.fetchval("SELECT string_agg(s::text, ' ') FROM uia_sessions s")
    await conn.close()
    assert text
    for secret in ("the-session-id", "swordfish"):
        assert secret not in text
        assert secret.encode().hex() not in text


async def test_asking_what_is_needed_stores_nothing(pool: Pool) -> None:
    """The first request of everyone who passes by costs no row."""
    for _ in range(3):
        await _refused(_challenge(pool), None)
    assert await pool.fetchval("SELECT count(*) FROM uia_sessions") == 0


@pytest.mark.parametrize("auth", [5, "x", [], {"type": None}, {"type": 1}, {"type": "code", "session": "x" * 300}])
async def test_auth_of_the_wrong_form(pool: Pool, auth: Any) -> None:
    """What is no auth object is bad JSON, not a failed proof."""
    with pytest.raises(BadJson):
        await _challenge(pool).answer({**_BODY, "auth": auth})
