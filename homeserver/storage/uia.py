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
    """`completed` leads from the stages that are done, in their order, to what must be remembered of them."""

    key: str
    operation: str
    params: bytes
    completed: dict[str, Any]
    created_ts: int


_COLUMNS = "session_id, operation, params, completed::text AS completed, created_ts"


async def find_session(conn: Connection, key: str) -> UiaSession | None:
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM uia_sessions WHERE session_id = $1", key)  # noqa: S608
    return _session(row) if row is not None else None


async def lock_session(conn: Connection, new: UiaSession) -> UiaSession:
    """The session with the key of `new`, made like it if there is none, and locked until the transaction ends."""
    await conn.execute(
        "INSERT INTO uia_sessions (session_id, operation, params, completed, created_ts) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT DO NOTHING",
        *_values(new),
    )
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM uia_sessions WHERE session_id = $1 FOR UPDATE",  # noqa: S608
        new.key,
    )
    return _session(row)


async def update_session(conn: Connection, session: UiaSession) -> None:
    await conn.execute(
        "UPDATE uia_sessions SET operation = $2, params = $3, completed = $4, created_ts = $5 WHERE session_id = $1",
        *_values(session),
    )


async def delete_session(conn: Connection, key: str) -> UiaSession | None:
    """Ends a session. Returns it as it was, None if it had ended before."""
    row = await conn.fetchrow(f"DELETE FROM uia_sessions WHERE session_id = $1 RETURNING {_COLUMNS}", key)  # noqa: S608
    return _session(row) if row is not None else None


async def delete_expired_sessions(conn: Connection, before_ms: int) -> list[UiaSession]:
    """Ends the sessions that began before `before_ms`. Returns them."""
    rows = await conn.fetch(f"DELETE FROM uia_sessions WHERE created_ts < $1 RETURNING {_COLUMNS}", before_ms)  # noqa: S608
    return [_session(row) for row in rows]


def _values(session: UiaSession) -> tuple[str, str, bytes, str, int]:
    # As a list of pairs: jsonb does not keep the order of keys, and the order of the stages matters.
    completed = encode_json(list(session.completed.items())).decode()
    return (session.key, session.operation, session.params, completed, session.created_ts)


def _session(row: Any) -> UiaSession:
    completed = dict(decode_json(row["completed"]))
    return UiaSession(row["session_id"], row["operation"], row["params"], completed, row["created_ts"])
