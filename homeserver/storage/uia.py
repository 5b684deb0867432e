"""User-interactive authentication in progress: what has been proved, by hashes of the session ids.

See `accounts.interactive_auth` for what a session is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from homeserver.protocol.canonical_json import decode_json, encode_json
from homeserver.storage.stream import Connection


@dataclass(slots=True)
class UiaProgress:
    """`completed` leads from the stages that are done, in their order, to what must be remembered of them; `params` is
    a hash of the parameters that they were done for."""

    key: bytes
    params: bytes
    created_ts: int
    completed: dict[str, Any] = field(default_factory=dict)
    used: bool = False


async def find_progress(conn: Connection, key: bytes) -> UiaProgress | None:
    row = await conn.fetchrow("SELECT params, created_ts, completed, used FROM uia_sessions WHERE key = $1", key)
    return _progress(key, row) if row is not None else None


async def lock_progress(conn: Connection, key: bytes, params: bytes, created_ts: int) -> UiaProgress:
    """What has been proved in a session, locked until the transaction ends; it is entered, for `params`, if need be."""
    await conn.execute(
        "INSERT INTO uia_sessions (key, params, completed, created_ts) VALUES ($1, $2, '[]', $3) "
        "ON CONFLICT DO NOTHING",
        key,
        params,
        created_ts,
    )
    row = await conn.fetchrow(
        "SELECT params, created_ts, completed, used FROM uia_sessions WHERE key = $1 FOR UPDATE", key
    )
    return _progress(key, row)


async def update_progress(conn: Connection, progress: UiaProgress) -> None:
    # As a list of pairs: jsonb does not keep the order of keys, and the order of the stages matters.
    await conn.execute(
        "UPDATE uia_sessions SET completed = $2, used = $3 WHERE key = $1",
        progress.key,
        encode_json(list(progress.completed.items())).decode(),
        progress.used,
    )


async def delete_expired(conn: Connection, before_ms: int) -> list[UiaProgress]:
    """Forgets the sessions that began before `before_ms`. Returns them."""
    rows = await conn.fetch(
        "DELETE FROM uia_sessions WHERE created_ts < $1 RETURNING key, params, created_ts, completed, used", before_ms
    )
    return [_progress(row["key"], row) for row in rows]


def _progress(key: bytes, row: Any) -> UiaProgress:
    return UiaProgress(key, row["params"], row["created_ts"], dict(decode_json(row["completed"])), row["used"])
