"""What is kept of registrations: documents that were accepted, rooms to be joined, guests who become users."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class PendingJoin:
    """A room, by its address or id, that a new user is still to join, and how often that has failed."""

    user_nid: int
    user_id: str
    room: str
    tries: int


async def insert_accepted_terms(conn: Connection, user_nid: int, versions: Mapping[str, str], now_ms: int) -> None:
    """:param versions: of each document the version that was accepted"""
    await conn.execute(
        "INSERT INTO accepted_terms (user_nid, policy, version, accepted_ts) "
        "SELECT $1, policy, version, $4 FROM unnest($2::text[], $3::text[]) AS t (policy, version) "
        "ON CONFLICT DO NOTHING",
        user_nid,
        list(versions),
        list(versions.values()),
        now_ms,
    )


async def accepted_terms(conn: Connection, user_nid: int) -> list[tuple[str, str, int]]:
    """Which version of which document the user has accepted, and when (ms), the oldest first."""
    rows = await conn.fetch(
        "SELECT policy, version, accepted_ts FROM accepted_terms WHERE user_nid = $1 ORDER BY accepted_ts, policy",
        user_nid,
    )
    return [(row["policy"], row["version"], row["accepted_ts"]) for row in rows]


async def upgrade_guest(conn: Connection, user_nid: int, password_hash: str | None) -> bool:
    """Makes a user of a guest. Returns whether it was one."""
    done = await conn.fetchval(
        "UPDATE accounts SET guest = false, password_hash = $2 WHERE user_nid = $1 AND guest AND NOT deactivated "
        "RETURNING true",
        user_nid,
        password_hash,
    )
    return bool(done)


async def insert_pending_joins(conn: Connection, user_nid: int, rooms: Iterable[str], now_ms: int) -> None:
    await conn.execute(
        "INSERT INTO pending_joins (user_nid, room, next_ts) SELECT $1, room, $3 FROM unnest($2::text[]) AS t (room) "
        "ON CONFLICT DO NOTHING",
        user_nid,
        list(rooms),
        now_ms,
    )


async def due_joins(conn: Connection, now_ms: int, limit: int) -> list[PendingJoin]:
    rows = await conn.fetch(
        "SELECT j.user_nid, u.user_id, j.room, j.tries FROM pending_joins j JOIN users u USING (user_nid) "
        "WHERE j.next_ts <= $1 ORDER BY j.next_ts LIMIT $2",
        now_ms,
        limit,
    )
    return [PendingJoin(**row) for row in rows]


async def delete_pending_join(conn: Connection, join: PendingJoin) -> None:
    await conn.execute("DELETE FROM pending_joins WHERE user_nid = $1 AND room = $2", join.user_nid, join.room)


async def postpone_join(conn: Connection, join: PendingJoin, next_ts: int) -> None:
    """It has failed and is to be tried again at `next_ts`."""
    await conn.execute(
        "UPDATE pending_joins SET tries = tries + 1, next_ts = $3 WHERE user_nid = $1 AND room = $2",
        join.user_nid,
        join.room,
        next_ts,
    )
