"""User-interactive authentication: what is proved counts once, in order, for one operation of one user."""

from __future__ import annotations

import asyncio
import base64
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
    Sessions,
    Stage,
    complete_stage,
    expire_sessions,
    prove_stage,
    read_session,
)
from homeserver.protocol.errors import BadJson, Forbidden, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.storage.pool import create_pool
from homeserver.storage.registration_tokens import begin_use, is_usable
from homeserver.storage.stream import Connection

_FLOWS: list[Flow] = [("code", "token"), ("code", "dummy", "token")]
_BODY = {"username": "alice", "n": [1, {"b": 1, "a": 2.5}]}


@pytest.fixture
async def sessions(database: str) -> AsyncIterator[Sessions]:
    pool = await create_pool(database, 6)
    yield Sessions(pool, b"a key")
    await pool.close()


async def _check_code(auth: JsonObject) -> None:
    if auth.get("code") != "right":
        raise Forbidden("Wrong code")


async def _record(conn: Connection, auth: JsonObject) -> str:
    return str(auth.get("token"))


_STAGES = {
    "code": Stage(check=_check_code, params={"hint": "right"}),
    "token": Stage(record=_record),
    "dummy": Stage(),
    "page": Stage(elsewhere=True),
}


def _challenge(
    sessions: Sessions, operation: str = "register", user_id: str | None = None, flows: list[Flow] | None = None
) -> Challenge:
    return Challenge(sessions, operation, flows or _FLOWS, _STAGES, user_id)


async def _refused(challenge: Challenge, auth: JsonObject | None, body: JsonObject | None = None) -> JsonObject:
    """What the client is told that has more to prove."""
    with pytest.raises(AuthRequired) as caught:
        await challenge.answer({**(body or _BODY), **({"auth": auth} if auth is not None else {})})
    assert caught.value.status == 401
    return caught.value.body()


async def _begin(challenge: Challenge, body: JsonObject | None = None) -> str:
    """The id of a new session."""
    session: str = (await _refused(challenge, None, body))["session"]
    return session


async def test_stages_are_proved_one_after_the_other(sessions: Sessions) -> None:
    """Each answer says what is done; with the last stage of a flow the operation may go on, and knows what was kept."""
    challenge = _challenge(sessions)
    first = await _refused(challenge, None)
    assert first["flows"] == [{"stages": ["code", "token"]}, {"stages": ["code", "dummy", "token"]}]
    assert first["params"] == {"code": {"hint": "right"}}
    assert "completed" not in first
    second = await _refused(challenge, {"type": "code", "code": "right", "session": first["session"]})
    assert second["completed"] == ["code"]
    assert second["session"] == first["session"]
    proof = await challenge.answer({**_BODY, "auth": {"type": "token", "token": "t", "session": first["session"]}})
    async with sessions.pool.acquire() as conn, conn.transaction():
        assert await proof.use(conn) == {"code": None, "token": "t"}


async def test_the_order_of_a_flow_is_kept(sessions: Sessions) -> None:
    """A later stage can't be proved before an earlier one."""
    challenge = _challenge(sessions)
    session = await _begin(challenge)
    told = await _refused(challenge, {"type": "token", "token": "t", "session": session})
    assert told["errcode"] == "M_UNRECOGNIZED"
    assert "completed" not in told
    await _refused(challenge, {"type": "code", "code": "right", "session": session})
    told = await _refused(challenge, {"type": "dummy", "session": session})
    assert told["completed"] == ["code", "dummy"]
    await challenge.answer({**_BODY, "auth": {"type": "token", "session": session}})


async def test_a_failed_proof_may_be_tried_again(sessions: Sessions) -> None:
    """A stage that fails says why and leaves what was proved before."""
    challenge = _challenge(sessions)
    session = await _begin(challenge)
    told = await _refused(challenge, {"type": "code", "code": "wrong", "session": session})
    assert (told["errcode"], told["error"], told["session"]) == ("M_FORBIDDEN", "Wrong code", session)
    told = await _refused(challenge, {"type": "code", "code": "right", "session": session})
    assert "errcode" not in told
    told = await _refused(challenge, {"type": "magic", "session": session})
    assert told["completed"] == ["code"]


async def test_a_completed_stage_is_not_proved_again(sessions: Sessions) -> None:
    """Repeating a stage, or asking with the session alone, says how far it has come."""
    challenge = _challenge(sessions)
    session = await _begin(challenge)
    await _refused(challenge, {"type": "code", "code": "right", "session": session})
    assert (await _refused(challenge, {"type": "code", "code": "wrong", "session": session}))["completed"] == ["code"]
    assert (await _refused(challenge, {"session": session}))["completed"] == ["code"]


async def test_a_session_is_begun_by_the_first_proof_too(sessions: Sessions) -> None:
    """Clients that send a proof at once, without a session, are told one to go on with."""
    challenge = _challenge(sessions)
    told = await _refused(challenge, {"type": "code", "code": "right"})
    assert told["completed"] == ["code"]
    await challenge.answer({**_BODY, "auth": {"type": "token", "session": told["session"]}})


async def test_a_proof_is_for_one_operation_of_one_user(sessions: Sessions) -> None:
    """What was proved for one operation, one user or one set of parameters is worth nothing for another."""
    challenge = _challenge(sessions, user_id="@alice:a")
    session = await _begin(challenge)
    await _refused(challenge, {"type": "code", "code": "right", "session": session})
    auth = {"type": "token", "session": session}
    others: list[tuple[Challenge, JsonObject]] = [
        (_challenge(sessions, "delete", "@alice:a"), _BODY),
        (_challenge(sessions, user_id="@bob:a"), _BODY),
        (_challenge(sessions), _BODY),
        (challenge, {**_BODY, "username": "mallory"}),
        (challenge, {**_BODY, "n": [1, {"b": 1, "a": 2.25}]}),
        (challenge, {**_BODY, "more": None}),
    ]
    for other, body in others:
        told = await _refused(other, auth, body)
        assert "completed" not in told
        assert told["session"] != session
    # Nor did any of that do harm to the session.
    assert (await _refused(challenge, {"session": session}))["completed"] == ["code"]


async def test_parameters_may_change_until_something_is_proved(sessions: Sessions) -> None:
    """A client may ask what is needed before it knows the name that will be registered, and go on with that session.

    From the first proof on the session is for the parameters that it was given for.
    """
    challenge = _challenge(sessions)
    session = await _begin(challenge, {"initial": "nothing"})
    told = await _refused(challenge, {"type": "code", "code": "right", "session": session})
    assert (told["session"], told["completed"]) == (session, ["code"])
    for body in ({"initial": "nothing"}, {**_BODY, "username": "mallory"}):
        told = await _refused(challenge, {"type": "token", "session": session}, body)
        assert "completed" not in told
        assert told["session"] != session
    await challenge.answer({**_BODY, "auth": {"type": "token", "session": session}})


async def test_what_a_page_proves_is_for_what_the_session_was_begun_with(sessions: Sessions) -> None:
    """Nobody who has something confirmed in a browser for one request can use that for another."""
    challenge = _challenge(sessions, "POST /x", "@alice:a", [("page",)])
    session = await _begin(challenge)
    await complete_stage(sessions, session, "page")
    told = await _refused(challenge, {"session": session}, {**_BODY, "username": "mallory"})
    assert "completed" not in told
    await challenge.answer({**_BODY, "auth": {"session": session}})


async def test_a_used_session_is_used_for_other_parameters_too(sessions: Sessions) -> None:
    """Of two requests with one session and different parameters, each with its own proof, one is carried out."""
    challenge = _challenge(sessions, flows=[("token",)])
    auth = {"type": "token", "session": await _begin(challenge)}
    bodies: list[JsonObject] = [{"n": 1, "auth": auth}, {"n": 2, "auth": auth}]
    proofs = [await challenge.answer(body) for body in bodies]

    async def use(index: int) -> Any:
        async with sessions.pool.acquire() as conn, conn.transaction():
            return await proofs[index].use(conn)

    results = await asyncio.gather(use(0), use(1), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["AuthRequired", "dict"]


async def test_a_stage_proved_twice_at_once_is_for_one_of_the_requests(sessions: Sessions) -> None:
    """Two requests with different parameters that prove the same stage at once: what one proved is not the other's."""
    challenge = _challenge(sessions)
    session = await _begin(challenge)
    auth = {"type": "code", "code": "right", "session": session}
    bodies: list[JsonObject] = [{"username": "alice"}, {"username": "mallory"}]
    await asyncio.gather(*(_refused(challenge, auth, body) for body in bodies))
    told = [await _refused(challenge, {"session": session}, body) for body in bodies]
    assert sum("completed" in one for one in told) == 1


async def test_nobody_makes_up_a_session(sessions: Sessions) -> None:
    """An id that this server has not given out, or that was changed, is none: fixing somebody else's gains nothing."""
    challenge = _challenge(sessions)
    session = await _begin(challenge)
    raw = bytearray(base64.urlsafe_b64decode(session + "=" * (-len(session) % 4)))
    changed = []
    for index in (0, 15, 20, 40, len(raw) - 1):
        flipped = bytearray(raw)
        flipped[index] ^= 1
        changed.append(base64.urlsafe_b64encode(bytes(flipped)).rstrip(b"=").decode())
    foreign = await _begin(_challenge(Sessions(sessions.pool, b"another key")))
    for bad in (*changed, foreign, "s", "", session + "=", session[:-1], session + "A", "é", " " + session, "\ud800"):
        told = await _refused(challenge, {"type": "code", "code": "right", "session": bad})
        assert told["session"] not in (bad, session)
        assert await read_session(sessions, bad) is None
        with pytest.raises(NotFound):
            await complete_stage(sessions, bad, "code")
        assert "completed" not in await _refused(challenge, {"session": bad})
    assert "completed" not in await _refused(challenge, {"session": session})


@pytest.mark.parametrize("flows", [[("code", "token")], [("token",)]], ids=["two stages", "one stage"])
async def test_a_session_is_used_once(sessions: Sessions, flows: list[Flow]) -> None:
    """Of many requests that complete the same session at once, one goes on; later ones are told to begin anew."""
    challenge = _challenge(sessions, flows=flows)
    session = await _begin(challenge)
    if len(flows[0]) == 2:
        await _refused(challenge, {"type": "code", "code": "right", "session": session})
    body = {**_BODY, "auth": {"type": "token", "session": session}}
    proofs = await asyncio.gather(*(challenge.answer(body) for _ in range(5)))

    async def use(index: int) -> Any:
        async with sessions.pool.acquire() as conn, conn.transaction():
            return await proofs[index].use(conn)

    results = await asyncio.gather(*(use(index) for index in range(5)), return_exceptions=True)
    assert sum(isinstance(result, dict) for result in results) == 1
    assert sum(isinstance(result, AuthRequired) for result in results) == 4
    told = await _refused(challenge, {"type": "token", "session": session})
    assert told["errcode"] == "M_FORBIDDEN"
    assert told["session"] != session
    assert "completed" not in told


async def test_an_operation_that_fails_does_not_use_the_session_up(sessions: Sessions) -> None:
    """What is rolled back was not used: the client may correct its mistake and come again."""
    challenge = _challenge(sessions, flows=[("token",)])
    session = await _begin(challenge)
    body = {**_BODY, "auth": {"type": "token", "session": session}}
    proof = await challenge.answer(body)
    async with sessions.pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await proof.use(conn)
        await transaction.rollback()
    async with sessions.pool.acquire() as conn, conn.transaction():
        assert await (await challenge.answer(body)).use(conn) == {"token": "None"}


async def test_a_stage_is_completed_on_a_page(sessions: Sessions) -> None:
    """What was done in a browser counts when the client comes back with the session alone, with the value it left."""
    challenge = _challenge(sessions, "POST /x", "@alice:a", [("code", "page")])
    session = await _begin(challenge)
    told = await _refused(challenge, {"type": "code", "code": "right", "session": session})
    told = await _refused(challenge, {"type": "page", "session": session})
    assert told["errcode"] == "M_FORBIDDEN"
    known = await read_session(sessions, session)
    assert known is not None
    assert (known.operation, known.user_id, known.completed) == ("POST /x", "@alice:a", ("code",))
    await complete_stage(sessions, session, "page", {"by": "browser"})
    proof = await challenge.answer({**_BODY, "auth": {"session": session}})
    async with sessions.pool.acquire() as conn, conn.transaction():
        assert await proof.use(conn) == {"code": None, "page": {"by": "browser"}}
    assert await read_session(sessions, session) is None
    with pytest.raises(NotFound):
        await complete_stage(sessions, session, "page")


async def test_a_page_checks_like_the_api(sessions: Sessions) -> None:
    """A stage that a client would send is checked and recorded the same when it comes from a form."""
    challenge = _challenge(sessions)
    session = await _begin(challenge)
    with pytest.raises(Forbidden):
        await prove_stage(sessions, session, "code", _STAGES["code"], {"code": "wrong"})
    with pytest.raises(Forbidden):
        await prove_stage(sessions, session, "page", _STAGES["page"], {})
    await prove_stage(sessions, session, "code", _STAGES["code"], {"code": "right"})
    await prove_stage(sessions, session, "token", _STAGES["token"], {"token": "t"})
    proof = await challenge.answer({**_BODY, "auth": {"session": session}})
    async with sessions.pool.acquire() as conn, conn.transaction():
        assert await proof.use(conn) == {"code": None, "token": "t"}


async def test_a_form_proves_everything_at_once(sessions: Sessions) -> None:
    """A whole flow is checked in one go; less than a flow, or a wrong part of it, is refused."""
    challenge = _challenge(sessions)
    right: dict[str, JsonObject] = {"code": {"code": "right"}, "token": {"token": "t"}}
    proof = await challenge.answer_all(right)
    async with sessions.pool.acquire() as conn, conn.transaction():
        assert await proof.use(conn) == {"code": None, "token": "t"}
    wrong: list[dict[str, JsonObject]] = [{}, {"token": {"token": "t"}}, {**right, "code": {"code": "wrong"}}]
    for auths in wrong:
        with pytest.raises(Forbidden):
            await challenge.answer_all(auths)


async def test_a_session_ends_by_itself(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an hour a session is worth nothing, and the use of a token that it held is given back."""
    pool = sessions.pool
    await pool.execute("INSERT INTO registration_tokens (token, uses_allowed) VALUES ('t', 1)")

    async def record(conn: Connection, auth: JsonObject) -> str:
        assert await begin_use(conn, "t", 0)
        return "t"

    stages = {REGISTRATION_TOKEN: Stage(record=record), "dummy": Stage()}
    challenge = Challenge(sessions, "register", [(REGISTRATION_TOKEN, "dummy")], stages)
    session = await _begin(challenge)
    told = await _refused(challenge, {"type": REGISTRATION_TOKEN, "session": session})
    assert told["completed"] == [REGISTRATION_TOKEN]
    async with pool.acquire() as conn:
        assert not await is_usable(conn, "t", 0)
    now = interactive_auth._now_ms()
    monkeypatch.setattr(interactive_auth, "_now_ms", lambda: now + 3_600_001)
    assert "completed" not in await _refused(challenge, {"session": session})
    assert await read_session(sessions, session) is None
    monkeypatch.setattr(interactive_auth, "_now_ms", lambda: now + 4_200_001)
    await expire_sessions(pool)
    async with pool.acquire() as conn:
        assert await is_usable(conn, "t", 0)


async def test_neither_sessions_nor_parameters_are_stored(sessions: Sessions, database: str) -> None:
    """Who reads the database can't go on with anyone's session, nor see the password in its request."""
    body = {"new_password": "swordfish", "username": "alice"}
    told = await _refused(_challenge(sessions), {"type": "code", "code": "right"}, body)
    conn = await asyncpg.connect(database)
    text = await conn.fetchval("SELECT string_agg(s::text, ' ') FROM uia_sessions s")
    await conn.close()
    assert text
    for secret in (told["session"], "swordfish"):
        assert secret not in text
        assert secret.encode().hex() not in text


async def test_a_session_id_tells_nothing_of_the_parameters(sessions: Sessions) -> None:
    """The id ends up in addresses of pages: it holds no hash that a password could be tried on without the key."""
    challenge = _challenge(sessions)
    assert await _begin(challenge, {"new_password": "x"}) != await _begin(challenge, {"new_password": "x"})
    raw = base64.urlsafe_b64decode(await _begin(challenge, {"new_password": "swordfish"}) + "==")
    assert b"swordfish" not in raw


async def test_a_session_id_stays_short(sessions: Sessions) -> None:
    """Whatever stands in the path of an operation, its session can be sent back, and is for that operation alone."""
    one, other = (_challenge(sessions, "DELETE /devices/" + "é" * 30_000 + end, "@" + "a" * 250 + ":a") for end in "ab")
    session = await _begin(one)
    assert len(session) <= 800
    await _refused(one, {"type": "code", "code": "right", "session": session})
    assert (await _refused(one, {"session": session}))["completed"] == ["code"]
    assert "completed" not in await _refused(other, {"session": session})


async def test_asking_what_is_needed_stores_nothing(sessions: Sessions) -> None:
    """The first request of everyone who passes by costs no row."""
    for _ in range(3):
        await _refused(_challenge(sessions), None)
    assert await sessions.pool.fetchval("SELECT count(*) FROM uia_sessions") == 0


@pytest.mark.parametrize("auth", [5, "x", [], {"type": None}, {"type": 1}, {"type": "code", "session": "x" * 900}])
async def test_auth_of_the_wrong_form(sessions: Sessions, auth: Any) -> None:
    """What is no auth object is bad JSON, not a failed proof."""
    with pytest.raises(BadJson):
        await _challenge(sessions).answer({**_BODY, "auth": auth})
