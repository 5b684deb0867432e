"""Presence as it was last written down, and who is to be told of it: those who share rooms."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from homeserver.storage.stream import Connection


class PresenceRow(NamedTuple):
    """`server` is that of the user."""

    user_nid: int
    user_id: str
    server: str
    presence: str
    status_msg: str | None
    last_active_ts: int


async def load_presence(conn: Connection, limit: int) -> list[PresenceRow]:
    """What was written, of those who were there or have a status; at most `limit`, the most recent."""
    rows = await conn.fetch(
        "SELECT p.user_nid, u.user_id, u.server, p.presence, p.status_msg, p.last_active_ts "
        "FROM presence p JOIN users u USING (user_nid) "
        "WHERE p.presence <> 'offline' OR p.status_msg IS NOT NULL ORDER BY p.last_active_ts DESC LIMIT $1",
        limit,
    )
    return [PresenceRow(*row) for row in rows]


async def write_presence(conn: Connection, rows: Sequence[tuple[int, str, str | None, int]]) -> None:
    """Writes down (user_nid, presence, status_msg, last_active_ts) of many users at once."""
    await conn.execute(
        "INSERT INTO presence (user_nid, presence, status_msg, last_active_ts) "
        "SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]) "
        "ON CONFLICT (user_nid) DO UPDATE SET presence = excluded.presence, status_msg = excluded.status_msg, "
        "last_active_ts = excluded.last_active_ts",
        *([row[column] for row in rows] for column in range(4)),
    )


async def rooms_of_users(conn: Connection, user_nids: Collection[int]) -> list[int]:
    """Every room that any of these users is joined to."""
    rows = await conn.fetch(
        "SELECT DISTINCT room_nid FROM room_members WHERE user_nid = ANY($1) AND membership = 'join'", list(user_nids)
    )
    return [row["room_nid"] for row in rows]


async def joined_users(conn: Connection, user_ids: Collection[str]) -> dict[str, int]:
    """user_id -> user_nid, of those of these users who are joined to any room that is known here."""
    rows = await conn.fetch(
        "SELECT u.user_id, u.user_nid FROM users u WHERE u.user_id = ANY($1) AND EXISTS "
        "(SELECT FROM room_members m WHERE m.user_nid = u.user_nid AND m.membership = 'join')",
        list(user_ids),
    )
    return {row["user_id"]: row["user_nid"] for row in rows}


async def shared_servers(conn: Connection, user_nid: int) -> list[str]:
    """Every server with a user in a room that this user is joined to."""
    rows = await conn.fetch(
        "SELECT DISTINCT u.server FROM room_members mine "
        "JOIN room_members m ON m.room_nid = mine.room_nid AND m.membership = 'join' "
        "JOIN users u ON u.user_nid = m.user_nid WHERE mine.user_nid = $1 AND mine.membership = 'join'",
        user_nid,
    )
    return [row["server"] for row in rows]


async def members_among(conn: Connection, room_nids: Collection[int], user_nids: Collection[int]) -> set[int]:
    """Those of these users who are joined to one of these rooms."""
    if not room_nids or not user_nids:
        return set()
    rows = await conn.fetch(
        "SELECT w.user_nid FROM unnest($2::bigint[]) AS w (user_nid) WHERE EXISTS (SELECT FROM room_members m "
        "WHERE m.user_nid = w.user_nid AND m.membership = 'join' AND m.room_nid = ANY($1))",
        list(room_nids),
        list(user_nids),
    )
    return {row["user_nid"] for row in rows}
