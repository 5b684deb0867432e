"""What administrators see of files, and choose of them."""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.storage.media import COLUMNS, MediaRow
from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class MediaUse:
    """How much a user has uploaded."""

    user_id: str
    files: int
    size: int


async def media_of_user(
    conn: Connection, user_nid: int, *, offset: int, limit: int, backwards: bool
) -> tuple[list[MediaRow], int]:
    """What a user has uploaded, the newest first unless asked `backwards`, and how much that is in all."""
    order = "ASC" if backwards else "DESC"
    records = await conn.fetch(
        f"SELECT {COLUMNS} FROM media WHERE user_nid = $1 AND sha256 IS NOT NULL "  # noqa: S608
        f"ORDER BY media_nid {order} OFFSET $2 LIMIT $3",
        user_nid,
        offset,
        limit,
    )
    total: int = await conn.fetchval("SELECT count(*) FROM media WHERE user_nid = $1 AND sha256 IS NOT NULL", user_nid)
    return [MediaRow(**record) for record in records], total


async def unquarantined_of_user(conn: Connection, user_nid: int, limit: int) -> list[int]:
    """Some of what a user has uploaded, or is about to. Not what is quarantined: it may be evidence."""
    records = await conn.fetch(
        "SELECT media_nid FROM media WHERE user_nid = $1 AND quarantined_by IS NULL LIMIT $2", user_nid, limit
    )
    return [record["media_nid"] for record in records]


async def set_quarantined(conn: Connection, origin: str, media_id: str, by: str | None) -> bool:
    """Says that nobody is given it, or (None) that they are again. Returns whether it is there."""
    done = await conn.fetchval(
        "UPDATE media SET quarantined_by = $3 WHERE origin = $1 AND media_id = $2 RETURNING 1", origin, media_id, by
    )
    return done is not None


async def quarantine_of_user(conn: Connection, user_nid: int, by: str) -> int:
    """Quarantines all that a user has uploaded. Returns how many were not yet."""
    records = await conn.fetch(
        "UPDATE media SET quarantined_by = $2 WHERE user_nid = $1 AND quarantined_by IS NULL RETURNING 1",
        user_nid,
        by,
    )
    return len(records)


async def cached_before(conn: Connection, server_name: str, before_ts: int, limit: int) -> list[int]:
    """Copies of other servers' files that nobody has looked at since (ms). What is quarantined is not among them."""
    records = await conn.fetch(
        "SELECT media_nid FROM media WHERE origin <> $1 AND last_access_ts < $2 AND quarantined_by IS NULL LIMIT $3",
        server_name,
        before_ts,
        limit,
    )
    return [record["media_nid"] for record in records]


async def media_use(conn: Connection, *, offset: int, limit: int) -> tuple[list[MediaUse], int]:
    """The users who have uploaded anything, those with most first, and how many they are."""
    records = await conn.fetch(
        "SELECT u.user_id, count(*) AS files, sum(m.size)::bigint AS size FROM media m JOIN users u USING (user_nid) "
        "WHERE m.sha256 IS NOT NULL GROUP BY u.user_id ORDER BY size DESC, u.user_id OFFSET $1 LIMIT $2",
        offset,
        limit,
    )
    total: int = await conn.fetchval(
        "SELECT count(DISTINCT user_nid) FROM media WHERE user_nid IS NOT NULL AND sha256 IS NOT NULL"
    )
    return [MediaUse(**record) for record in records], total
