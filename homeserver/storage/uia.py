"""User-interactive authentication in progress.

Neither the session ids that clients hold nor the parameters of their requests (new passwords are among them) are
stored, only hashes of both; see `accounts.interactive_auth`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from homeserver.protocol.canonical_json import decode_json, encode_json
from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class UiaSession:
    """`completed` leads from stages that are done to what must be remembered of them."""

    key: str
    operation: str
    params: bytes
    completed: dict[str, Any]
    created_ts: int


async def insert_session(conn: Connection, session: UiaSession) -> None:
    await conn.execute(
        "INSERT INTO uia_sessions (session_id, operation, params, completed, created_ts) VALUES ($1, $2, $3, $4, $5)",
        session.key,
        session.operation,
        session.params,
        encode_json(session.completed).decode(),
        session.created_ts,
    )


async def find_session(conn: Connection, key: str) -> UiaSession | None:
    """The session, locked until the end of the transaction."""
    row = await conn.fetchrow(
        "SELECT session_id, operation, params, completed::text AS completed, created_ts FROM uia_sessions "
        "WHERE session_id = $1 FOR UPDATE",
        key,
    )
    return _session(row) if row is not None else None


async def update_session(conn: Connection, key: str, *, params: bytes, completed: dict[str, Any]) -> None:
    await conn.execute(
        "UPDATE uia_sessions SET params = $2, completed = $3 WHERE session_id = $1",
        key,
        params,
        encode_json(completed).decode(),
    )


async def delete_session(conn: Connection, key: str) -> UiaSession | None:
    """Ends a session. Returns it as it was, None if it had ended before."""
    row = await conn.fetchrow(
        "DELETE FROM uia_sessions WHERE session_id = $1 "
        "RETURNING session_id, operation, params, completed::text AS completed, created_ts",
        key,
    )
    return _session(row) if row is not None else None


async def delete_expired_sessions(conn: Connection, before_ms: int) -> list[UiaSession]:
    """Ends the sessions that began before `before_ms`. Returns them."""
    rows = await conn.fetch(
        "DELETE FROM uia_sessions WHERE created_ts < $1 "
        "RETURNING session_id, operation, params, completed::text AS completed, created_ts",
        before_ms,
    )
    return [_session(row) for row in rows]


def _session(row: Any) -> UiaSession:
    return UiaSession(
        row["session_id"], row["operation"], row["params"], decode_json(row["completed"]), row["created_ts"]
    )
