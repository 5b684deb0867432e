"""Guests among the accounts, and the rooms that they are in.  # spec: client-server-api/#guest-access"""

from __future__ import annotations

from homeserver.storage.stream import Connection


async def is_guest(conn: Connection, user_id: str) -> bool:
    """Whether there is such an account here, and it is a guest's."""
    found: bool = await conn.fetchval(
        "SELECT EXISTS (SELECT FROM accounts a JOIN users u USING (user_nid) WHERE u.user_id = $1 AND a.guest)", user_id
    )
    return found


async def guests_in(conn: Connection, room_nid: int) -> list[str]:
    """The ids of the guests who are joined to the room."""
    rows = await conn.fetch(
        "SELECT u.user_id FROM accounts a JOIN room_members m USING (user_nid) JOIN users u USING (user_nid) "
        "WHERE a.guest AND m.room_nid = $1 AND m.membership = 'join' ORDER BY m.pos",
        room_nid,
    )
    return [row["user_id"] for row in rows]


async def rooms_without_guest_access(conn: Connection) -> list[int]:
    """The rooms that guests are joined to although they take none."""
    rows = await conn.fetch(
        "SELECT DISTINCT m.room_nid FROM accounts a JOIN room_members m USING (user_nid) "
        "JOIN room_summaries s USING (room_nid) WHERE a.guest AND m.membership = 'join' AND NOT s.guest_can_join"
    )
    return [row["room_nid"] for row in rows]
