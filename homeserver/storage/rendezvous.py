"""Rendezvous sessions: small texts that two devices leave for each other."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class RendezvousSession:
    """`version` grows with every write."""

    rendezvous_id: str
    data: bytes
    version: int
    changed_ts: int
    expires_ts: int


_COLUMNS = "rendezvous_id, data, version, changed_ts, expires_ts"


def _session(row: asyncpg.Record | None) -> RendezvousSession | None:
    return RendezvousSession(**row) if row is not None else None


async def insert_session(
    conn: Connection, rendezvous_id: str, data: bytes, content_type: str, *, now_ms: int, expires_ts: int
) -> None:
    """Enters a session, and forgets those that have expired."""
    await conn.execute("DELETE FROM rendezvous_sessions WHERE expires_ts <= $1", now_ms)
    await conn.execute(
        "INSERT INTO rendezvous_sessions (rendezvous_id, data, content_type, changed_ts, expires_ts) "
        "VALUES ($1, $2, $3, $4, $5)",
        rendezvous_id,
        data,
        content_type,
        now_ms,
        expires_ts,
    )


async def count_sessions(conn: Connection, now_ms: int) -> int:
    count: int = await conn.fetchval("SELECT count(*) FROM rendezvous_sessions WHERE expires_ts > $1", now_ms)
    return count


async def find_session(
    conn: Connection, rendezvous_id: str, content_type: str, now_ms: int, *, lock: bool = False
) -> RendezvousSession | None:
    """:param lock: whether others who do the same wait until the transaction ends"""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM rendezvous_sessions WHERE rendezvous_id = $1 AND content_type = $2 "  # noqa: S608
        f"AND expires_ts > $3 {'FOR UPDATE' if lock else ''}",
        rendezvous_id,
        content_type,
        now_ms,
    )
    return _session(row)


async def update_session(conn: Connection, rendezvous_id: str, data: bytes, now_ms: int) -> RendezvousSession:
    """Replaces what is there. The session is locked, so it is there."""
    row = await conn.fetchrow(
        "UPDATE rendezvous_sessions SET data = $2, version = version + 1, changed_ts = $3 "  # noqa: S608
        f"WHERE rendezvous_id = $1 RETURNING {_COLUMNS}",
        rendezvous_id,
        data,
        now_ms,
    )
    session = _session(row)
    assert session is not None, "it is locked"
    return session


async def delete_session(conn: Connection, rendezvous_id: str, content_type: str, now_ms: int) -> bool:
    """:returns: whether there was one"""
    done = await conn.fetchval(
        "DELETE FROM rendezvous_sessions WHERE rendezvous_id = $1 AND content_type = $2 AND expires_ts > $3 "
        "RETURNING true",
        rendezvous_id,
        content_type,
        now_ms,
    )
    return bool(done)
