"""User-interactive authentication: proving once more who one is before something grave, or that one may register.

A session is bound to the operation that it was begun for and to the parameters of the request, so that what was proved
to delete one device can't be used to delete another. It takes a row in the database only between two stages: a flow of
one stage is proved and used in the same request and needs none, and asking what is needed costs nothing. The session
ids that clients hold and the parameters (new passwords are among them) are never stored, only hashes of both; that of
the parameters is keyed with the session id, so that nobody can try passwords on it who has only the database.

# spec: client-server-api/#user-interactive-authentication-api
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import asyncpg

from homeserver.protocol.canonical_json import encode_canonical_json
from homeserver.protocol.errors import BadJson, BadRequest, Forbidden, InvalidEvent, MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.storage import registration_tokens, uia
from homeserver.storage.stream import Connection, Pool

log = logging.getLogger(__name__)

Flow: TypeAlias = tuple[str, ...]

REGISTRATION_TOKEN = "m.login.registration_token"  # noqa: S105 - the name of a stage
_LIFETIME_MS = 60 * 60 * 1000
_EXPIRE_EVERY = 600.0  # seconds
_MAX_SESSION_ID = 255


@dataclass(frozen=True, slots=True)
class Stage:
    """One kind of proof. Both functions raise Forbidden if the `auth` object that the client sent proves nothing.

    `check` may take its time and holds no transaction. `record` does what must be undone if the rest fails; what it
    returns (a JSON value) is kept until the operation. `params` is what the client must know for this stage.
    """

    check: Callable[[JsonObject], Awaitable[None]] | None = None
    record: Callable[[Connection, JsonObject], Awaitable[Any]] | None = None
    params: JsonObject = field(default_factory=dict)


class AuthRequired(MatrixError):
    """More must be proved. The body says what, and which stages are done; `errcode` only if a proof has failed."""

    status = 401

    def __init__(
        self, flows: Sequence[Flow], stages: Mapping[str, Stage], session_id: str, completed: Sequence[str] = ()
    ) -> None:
        super().__init__("More authentication is needed")
        self._failure: MatrixError | None = None
        self._fields: JsonObject = {
            "flows": [{"stages": list(flow)} for flow in flows],
            "params": {name: stage.params for name, stage in stages.items() if stage.params},
            "session": session_id,
        }
        if completed:
            self._fields["completed"] = list(completed)

    def because(self, failure: MatrixError) -> AuthRequired:
        """The same, with the reason why the last proof failed."""
        self._failure = failure
        return self

    def body(self) -> JsonObject:
        return {**(self._failure.body() if self._failure is not None else {}), **self._fields}


@dataclass(frozen=True, slots=True)
class Proof:
    """All that was asked for has been proved. `use` it in the transaction of the operation."""

    key: str | None  # of the stored session, if there is one
    last: Stage
    last_name: str
    auth: JsonObject

    async def use(self, conn: Connection) -> dict[str, Any]:
        """Uses the proof up. Inside the transaction of the operation.

        :returns: what each stage wanted to be remembered
        :raises BadRequest: if it has been used already
        :raises Forbidden: if the last stage can't be recorded any more
        """
        completed: dict[str, Any] = {}
        if self.key is not None:
            session = await uia.delete_session(conn, self.key)
            if session is None:
                raise BadRequest("This authentication session has been used")
            completed = session.completed
        if self.last_name and self.last_name not in completed:
            completed[self.last_name] = await self.last.record(conn, self.auth) if self.last.record else None
        return completed


@dataclass(frozen=True, slots=True)
class Challenge:
    """What must be proved for one operation. `operation` names it with its path and, if there is one, its user."""

    pool: Pool
    operation: str
    flows: Sequence[Flow]
    stages: Mapping[str, Stage]

    async def answer(self, body: JsonObject) -> Proof:
        """Takes the `auth` of a request and says whether it completes a flow.

        :param body: the request's; all of it but `auth` is what the proof is for
        :raises AuthRequired: if more is needed, or the proof is wrong
        :raises BadJson: if `auth` is not of the form that the specification says
        """
        auth = body.get("auth")
        if auth is None:
            raise self._required(_new_session_id())
        session_id = _text(auth, "session") or _new_session_id()
        key = hashlib.sha256(session_id.encode()).hexdigest()
        params = _digest(session_id, body)
        completed = await self._completed(key, params)
        name = _text(auth, "type")
        if name and name not in completed:
            await self._check(name, auth, session_id, completed)
        done = [*completed, *([name] if name and name not in completed else [])]
        if any(set(flow) <= set(done) for flow in self.flows):
            return Proof(key if completed else None, self.stages.get(name, Stage()), name, auth)
        if name and name not in completed:
            await self._store(key, params, name, auth)
        raise self._required(session_id, done)

    async def _check(self, name: str, auth: JsonObject, session_id: str, completed: Mapping[str, Any]) -> None:
        # The stages of a flow are completed in its order.
        due = {flow[len(completed)] for flow in self.flows if tuple(completed) == flow[: len(completed)] != flow}
        try:
            if name not in due:
                raise Forbidden("This is not one of the stages that are due", errcode="M_UNRECOGNIZED")
            check = self.stages[name].check
            if check is not None:
                await check(auth)
        except Forbidden as failure:
            raise self._required(session_id, list(completed)).because(failure) from None

    async def _completed(self, key: str, params: bytes) -> dict[str, Any]:
        """The stages that are done, in the order they were done in. None of a session for anything else."""
        async with self.pool.acquire() as conn:
            session = await uia.find_session(conn, key)
        return session.completed if session is not None and self._is_ours(session, params) else {}

    def _is_ours(self, session: uia.UiaSession, params: bytes) -> bool:
        return (
            session.operation == self.operation
            and hmac.compare_digest(session.params, params)
            and session.created_ts > _now_ms() - _LIFETIME_MS
        )

    async def _store(self, key: str, params: bytes, name: str, auth: JsonObject) -> None:
        stage = self.stages[name]
        new = uia.UiaSession(key, self.operation, params, {}, _now_ms())
        async with self.pool.acquire() as conn, conn.transaction():
            session = await uia.lock_session(conn, new)
            if not self._is_ours(session, params):
                await _give_back(conn, session)
                session = new
            if name not in session.completed:
                session.completed[name] = await stage.record(conn, auth) if stage.record is not None else None
                await uia.update_session(conn, session)

    def _required(self, session_id: str, completed: Sequence[str] = ()) -> AuthRequired:
        return AuthRequired(self.flows, self.stages, session_id, completed)


async def expire_sessions(pool: Pool) -> None:
    """Ends sessions that nobody has finished, and gives back what they held."""
    async with pool.acquire() as conn, conn.transaction():
        for session in await uia.delete_expired_sessions(conn, _now_ms() - _LIFETIME_MS):
            await _give_back(conn, session)


async def expire_sessions_now_and_then(pool: Pool) -> None:
    """Does that for ever."""
    while True:
        await asyncio.sleep(_EXPIRE_EVERY)
        try:
            await expire_sessions(pool)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            log.warning("Could not end expired authentication sessions: %s", error)


async def _give_back(conn: Connection, session: uia.UiaSession) -> None:
    token = session.completed.get(REGISTRATION_TOKEN)
    if isinstance(token, str):
        await registration_tokens.abandon_use(conn, token)


def _now_ms() -> int:
    return int(time.time() * 1000)


def _new_session_id() -> str:
    return secrets.token_urlsafe(24)


def _text(auth: Any, key: str) -> str:
    value = auth.get(key, "") if isinstance(auth, dict) else None
    if not isinstance(value, str) or len(value) > _MAX_SESSION_ID:
        raise BadJson("auth must be an object with a type and a session")
    return value


def _digest(session_id: str, body: JsonObject) -> bytes:
    try:
        params = encode_canonical_json({key: value for key, value in body.items() if key != "auth"}, strict=False)
    except InvalidEvent as error:
        raise BadJson(f"The body can't be used: {error}") from None
    return hmac.digest(session_id.encode(), params, "sha256")
