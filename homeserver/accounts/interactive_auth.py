"""User-interactive authentication: proving once more who one is before something grave, or that one may register.

The id of a session says by itself what it is for: the operation, the user, the parameters of the request (as a keyed
hash: new passwords are among them) and when it began, signed with a key of this server. So nobody can begin a session
for somebody else, and asking what is needed costs no row. A row comes into being when a stage of several is done, here
or on a page in a browser, and when a session is used up: of two requests that complete the same session at once, one is
carried out. The row is found by a hash of the id, so who reads the database can't go on with anybody's session.

From the first proof on a session is for the parameters that it was given for, so that what was proved to delete one
device can't be used to delete another. Before that they may change: clients ask what registering takes before anybody
has typed a name.

    Challenge.answer     takes the `auth` of a request: AuthRequired, or a Proof
    Proof.use            in the transaction of the operation
    Challenge.answer_all the same for a form that asks for everything at once
    read_session         what a page in a browser must know of a session
    complete_stage       says that a stage was done there

# spec: client-server-api/#user-interactive-authentication-api
"""

from __future__ import annotations

import asyncio
import base64
import binascii
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
from homeserver.protocol.errors import BadJson, Forbidden, InvalidEvent, MatrixError, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.storage import registration_tokens, uia
from homeserver.storage.stream import Connection, Pool

log = logging.getLogger(__name__)

Flow: TypeAlias = tuple[str, ...]

REGISTRATION_TOKEN = "m.login.registration_token"  # noqa: S105 - the name of a stage
_LIFETIME_MS = 60 * 60 * 1000
_EXPIRE_EVERY = 600.0  # seconds
_KEPT_LONGER_MS = 10 * 60 * 1000  # what is used up stays so for requests that began just before the end
_MAX_SESSION_ID = 800
_MAX_OPERATION = 200  # bytes: a session id must not grow with what somebody writes into a path
_NONCE, _TIME, _HASH = 12, 6, 16  # bytes


@dataclass(frozen=True, slots=True)
class Stage:
    """One kind of proof. Both functions raise Forbidden if the `auth` object that the client sent proves nothing.

    `check` may take its time and holds no transaction. `record` does what must be undone if the rest fails; what it
    returns (a JSON value) is kept until the operation. `params` is what the client must know for this stage. A stage
    that is `elsewhere` is done on a page in a browser, and never by what a client sends.
    """

    check: Callable[[JsonObject], Awaitable[None]] | None = None
    record: Callable[[Connection, JsonObject], Awaitable[Any]] | None = None
    params: JsonObject = field(default_factory=dict)
    elsewhere: bool = False


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


@dataclass(frozen=True, slots=True, repr=False)
class Sessions:
    """Where sessions are kept, and the key that signs their ids."""

    pool: Pool
    key: bytes


def make_sessions(pool: Pool, secret: str) -> Sessions:
    """:param secret: one that only this server has; every process of it has the same"""
    return Sessions(pool, hmac.digest(secret.encode(), b"user-interactive authentication", "sha256"))


@dataclass(frozen=True, slots=True)
class OpenSession:
    """What the id of a session says, and what has been proved in it so far. Without a user it is for registering."""

    session_id: str
    operation: str
    user_id: str | None
    completed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProofOfAll:
    """All stages of a flow have been proved in one request. `use` it in the transaction of the operation."""

    stages: Mapping[str, Stage]
    auths: Mapping[str, JsonObject]

    async def use(self, conn: Connection) -> dict[str, Any]:
        """Inside the transaction of the operation.

        :returns: what each stage wanted to be remembered
        :raises Forbidden: if a stage can't be recorded any more
        """
        completed: dict[str, Any] = {}
        for name, auth in self.auths.items():
            record = self.stages[name].record
            completed[name] = await record(conn, auth) if record is not None else None
        return completed


@dataclass(frozen=True, slots=True)
class Proof:
    """All that was asked for has been proved. `use` it in the transaction of the operation."""

    challenge: Challenge
    session: _SessionId | None  # None if nobody but this request knows of it
    last_name: str
    body: JsonObject

    async def use(self, conn: Connection) -> dict[str, Any]:
        """Uses the proof up. Inside the transaction of the operation.

        :returns: what each stage wanted to be remembered
        :raises AuthRequired: if it has been used already
        :raises Forbidden: if the last stage can't be recorded any more
        """
        completed: dict[str, Any] = {}
        if self.session is not None:
            params = self.session.digest_of(self.body)
            progress = await uia.lock_progress(conn, self.session.row_key, params, self.session.created_ts)
            if progress.used or progress.params != params:
                raise self.challenge.used_up(self.body)
            completed, progress.completed, progress.used = progress.completed, {}, True
            await uia.update_progress(conn, progress)
        if self.last_name and self.last_name not in completed:
            record = self.challenge.stages[self.last_name].record
            completed[self.last_name] = await record(conn, self.body["auth"]) if record is not None else None
        return completed


@dataclass(frozen=True, slots=True)
class Challenge:
    """What must be proved for one operation. `operation` names it with its path; `user_id` is whoever is asked."""

    sessions: Sessions
    operation: str
    flows: Sequence[Flow]
    stages: Mapping[str, Stage]
    user_id: str | None = None

    async def answer(self, body: JsonObject) -> Proof:
        """Takes the `auth` of a request and says whether it completes a flow.

        A session that is unknown, has expired or is for anything else counts as none: what the request itself proves
        still holds, for itself alone.

        :param body: the request's; all of it but `auth` is what the proof is for
        :raises AuthRequired: if more is needed, or the proof is wrong
        :raises BadJson: if `auth` is not of the form that the specification says
        """
        auth = body.get("auth")
        if auth is None:
            raise self._required(self._new_session(body))
        name = _text(auth, "type")
        session, progress = await self._session_of(auth, body)
        if progress is not None and progress.used:
            raise self.used_up(body)
        known = session is not None
        session = session or self._new_session(body)
        completed = progress.completed if progress is not None else {}
        if name and name not in completed:
            await self._check(name, auth, session, completed)
        done = [*completed, *([name] if name and name not in completed else [])]
        if self._suffices(done):
            return Proof(self, session if known else None, name, body)
        if name and name not in completed:
            await self._store(session, name, body, list(completed))
        raise self._required(session, done)

    async def answer_all(self, auths: Mapping[str, JsonObject]) -> ProofOfAll:
        """Checks a whole flow at once, for a form that has asked for everything.

        :param auths: what a client would send for each stage, by its name
        :raises Forbidden: if they are no flow, or one proves nothing
        """
        if not any(set(flow) == set(auths) for flow in self.flows):
            raise Forbidden("Something that is needed is missing")
        for name, auth in auths.items():
            stage = self.stages[name]
            if stage.elsewhere:
                raise Forbidden("This stage has a page of its own")
            if stage.check is not None:
                await stage.check(auth)
        return ProofOfAll(self.stages, auths)

    def used_up(self, body: JsonObject) -> AuthRequired:
        """What is said to who comes with a session that has been used."""
        failure = Forbidden("This authentication session has been used")
        return self._required(self._new_session(body)).because(failure)

    def _suffices(self, done: Sequence[str]) -> bool:
        return any(set(flow) <= set(done) for flow in self.flows)

    async def _check(self, name: str, auth: JsonObject, session: _SessionId, completed: Mapping[str, Any]) -> None:
        try:
            # The stages of a flow are completed in its order; what was done on a page may have come before its turn.
            if name not in {_next_stage(flow, completed) for flow in self.flows}:
                raise Forbidden("This is not one of the stages that are due", errcode="M_UNRECOGNIZED")
            stage = self.stages[name]
            if stage.elsewhere:
                raise Forbidden("This stage is completed in a web browser")
            if stage.check is not None:
                await stage.check(auth)
        except Forbidden as failure:
            raise self._required(session, list(completed)).because(failure) from None

    async def _store(self, session: _SessionId, name: str, body: JsonObject, completed: Sequence[str]) -> None:
        record = self.stages[name].record

        async def value(conn: Connection) -> Any:
            return await record(conn, body["auth"]) if record is not None else None

        try:
            await _complete(self.sessions, session, name, value, session.digest_of(body))
        except _Used:
            raise self.used_up(body) from None
        except Forbidden as failure:
            raise self._required(session, completed).because(failure) from None

    def _required(self, session: _SessionId, completed: Sequence[str] = ()) -> AuthRequired:
        return AuthRequired(self.flows, self.stages, str(session), completed)

    def _new_session(self, body: JsonObject) -> _SessionId:
        nonce = secrets.token_bytes(_NONCE)
        digest = _digest(self.sessions.key, nonce, body)
        return _SessionId(self.sessions.key, nonce, _now_ms(), digest, self._purpose())

    def _purpose(self) -> str:
        operation = self.operation
        if len(operation.encode()) > _MAX_OPERATION:
            digest = hashlib.sha256(operation.encode()).hexdigest()
            operation = f"{operation[: _MAX_OPERATION // 8]}… {digest}"
        return f"{self.user_id or ''}\n{operation}"

    async def _session_of(self, auth: JsonObject, body: JsonObject) -> tuple[_SessionId | None, uia.UiaProgress | None]:
        """The session that the client names, and what has been proved in it; None if it is not for this request."""
        session = _parse(self.sessions.key, _text(auth, "session"))
        if session is None or session.purpose != self._purpose():
            return None, None
        async with self.sessions.pool.acquire() as conn:
            progress = await uia.find_progress(conn, session.row_key)
        if progress is not None and not progress.used and progress.params != session.digest_of(body):
            return None, None
        return session, progress


async def read_session(sessions: Sessions, session_id: str) -> OpenSession | None:
    """What a session is for and how far it is; None if there is none of that id, or it has expired or been used."""
    session = _parse(sessions.key, session_id)
    if session is None:
        return None
    async with sessions.pool.acquire() as conn:
        progress = await uia.find_progress(conn, session.row_key)
    if progress is not None and progress.used:
        return None
    user_id, _, operation = session.purpose.partition("\n")
    return OpenSession(session_id, operation, user_id or None, tuple(progress.completed) if progress else ())


async def complete_stage(
    sessions: Sessions,
    session_id: str,
    name: str,
    value: Any = None,
    *,
    record: Callable[[Connection], Awaitable[Any]] | None = None,
) -> None:
    """Says that a stage was done on a page in a browser, so that the client's next request goes on from there.

    Whoever calls this has checked the proof, and that it is the session's user who gave it.

    :param value: what the operation is to know of the stage (a JSON value)
    :param record: makes the value instead, in the transaction, as that of a Stage does
    :raises NotFound: if there is no such session, or it has expired or been used
    """
    session = _parse(sessions.key, session_id)

    async def given(conn: Connection) -> Any:
        return await record(conn) if record is not None else value

    try:
        if session is None:
            raise _Used
        await _complete(sessions, session, name, given)
    except _Used:
        raise NotFound("There is no such authentication session any more") from None


async def prove_stage(sessions: Sessions, session_id: str, name: str, stage: Stage, auth: JsonObject) -> None:
    """Checks on a page what a client would otherwise send as `auth`, and completes the stage.

    :raises Forbidden: if it proves nothing
    :raises NotFound: as `complete_stage` does
    """
    if stage.elsewhere:
        raise Forbidden("This stage has a page of its own")
    if stage.check is not None:
        await stage.check(auth)

    async def record(conn: Connection) -> Any:
        return await stage.record(conn, auth) if stage.record is not None else None

    await complete_stage(sessions, session_id, name, record=record)


async def expire_sessions(pool: Pool) -> None:
    """Ends sessions that nobody has finished, and gives back what they held."""
    async with pool.acquire() as conn, conn.transaction():
        for progress in await uia.delete_expired(conn, _now_ms() - _LIFETIME_MS - _KEPT_LONGER_MS):
            token = progress.completed.get(REGISTRATION_TOKEN)
            if isinstance(token, str):
                await registration_tokens.abandon_use(conn, token)


async def expire_sessions_now_and_then(pool: Pool) -> None:
    """Does that for ever."""
    while True:
        await asyncio.sleep(_EXPIRE_EVERY)
        try:
            await expire_sessions(pool)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            log.warning("Could not end expired authentication sessions: %s", error)


class _Used(Exception):
    """The session can't be gone on with."""


async def _complete(
    sessions: Sessions,
    session: _SessionId,
    name: str,
    value: Callable[[Connection], Awaitable[Any]],
    params: bytes | None = None,
) -> None:
    """:param params: of the request that proves it; None for a page, which goes on with those that there are"""
    async with sessions.pool.acquire() as conn, conn.transaction():
        progress = await uia.lock_progress(conn, session.row_key, params or session.digest, session.created_ts)
        if progress.used or (params is not None and progress.params != params):
            raise _Used
        if name not in progress.completed:
            progress.completed[name] = await value(conn)
            await uia.update_progress(conn, progress)


def _next_stage(flow: Flow, completed: Mapping[str, Any]) -> str | None:
    return next((name for name in flow if name not in completed), None)


@dataclass(frozen=True, slots=True, repr=False)
class _SessionId:
    """The id of a session. As text: nonce, time, hash of the parameters, what it is for, and a signature of that."""

    key: bytes
    nonce: bytes
    created_ts: int
    digest: bytes
    purpose: str

    def __str__(self) -> str:
        head = self.nonce + self.created_ts.to_bytes(_TIME, "big") + self.digest
        signed = head + self.purpose.encode("utf-8", "surrogatepass")
        return _encode(signed + hmac.digest(self.key, b"session:" + signed, "sha256")[:_HASH])

    def digest_of(self, body: JsonObject) -> bytes:
        """The keyed hash of the parameters of a request in this session."""
        return _digest(self.key, self.nonce, body)

    @property
    def row_key(self) -> bytes:
        return hashlib.sha256(str(self).encode()).digest()


def _parse(key: bytes, text: str) -> _SessionId | None:
    """The session whose id this is; None if it is none of ours, or has expired."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    signed, signature = raw[:-_HASH], raw[-_HASH:]
    if len(signed) < _NONCE + _TIME + _HASH:
        return None
    if not hmac.compare_digest(signature, hmac.digest(key, b"session:" + signed, "sha256")[:_HASH]):
        return None
    if _encode(raw) != text:
        return None  # the same bits written another way would be another session
    nonce, rest = signed[:_NONCE], signed[_NONCE:]
    created_ts = int.from_bytes(rest[:_TIME], "big")
    if created_ts <= _now_ms() - _LIFETIME_MS:
        return None
    purpose = rest[_TIME + _HASH :].decode("utf-8", "surrogatepass")
    return _SessionId(key, nonce, created_ts, rest[_TIME : _TIME + _HASH], purpose)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _now_ms() -> int:
    return int(time.time() * 1000)


def _text(auth: Any, key: str) -> str:
    value = auth.get(key, "") if isinstance(auth, dict) else None
    if not isinstance(value, str) or len(value) > _MAX_SESSION_ID:
        raise BadJson("auth must be an object with a type and a session")
    return value


def _digest(key: bytes, nonce: bytes, body: JsonObject) -> bytes:
    try:
        params = encode_canonical_json({key: value for key, value in body.items() if key != "auth"}, strict=False)
    except InvalidEvent as error:
        raise BadJson(f"The body can't be used: {error}") from None
    return hmac.digest(key, b"params:" + nonce + params, "sha256")[:_HASH]
