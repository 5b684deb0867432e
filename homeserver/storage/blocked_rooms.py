"""Rooms that nobody of this server may be in. They need not be known here."""

from __future__ import annotations

from homeserver.storage.stream import Connection


async def block_room(conn: Connection, room_id: str, blocked_by: str, now_ms: int) -> bool:
    """Returns whether it was not blocked yet."""
    done = await conn.fetchval(
        "INSERT INTO blocked_rooms (room_id, blocked_by, created_ts) VALUES ($1, $2, $3) "
        "ON CONFLICT DO NOTHING RETURNING true",
        room_id,
        blocked_by,
        now_ms,
    )
    return bool(done)


async def unblock_room(conn: Connection, room_id: str) -> bool:
    """Returns whether it was blocked."""
    return bool(await conn.fetchval("DELETE FROM blocked_rooms WHERE room_id = $1 RETURNING true", room_id))


async def blocker_of(conn: Connection, room_id: str) -> str | None:
    """Who has blocked the room, if anyone has."""
    found: str | None = await conn.fetchval("SELECT blocked_by FROM blocked_rooms WHERE room_id = $1", room_id)
    return found
