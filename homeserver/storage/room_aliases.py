"""Room aliases of this server."""

from __future__ import annotations

from homeserver.storage.stream import Connection


async def insert_alias(conn: Connection, alias: str, room_nid: int, creator_nid: int, created_ts: int) -> None:
    """Enters an alias.

    :raises asyncpg.UniqueViolationError: if it is taken
    """
    await conn.execute(
        "INSERT INTO room_aliases (alias, room_nid, creator_nid, created_ts) VALUES ($1, $2, $3, $4)",
        alias,
        room_nid,
        creator_nid,
        created_ts,
    )


async def room_of_alias(conn: Connection, alias: str) -> str | None:
    """The id of the room that the alias points to."""
    room_id: str | None = await conn.fetchval(
        "SELECT r.room_id FROM room_aliases a JOIN rooms r USING (room_nid) WHERE a.alias = $1", alias
    )
    return room_id


async def alias_creator(conn: Connection, alias: str) -> int | None:
    """The number of the user who made the alias."""
    nid: int | None = await conn.fetchval("SELECT creator_nid FROM room_aliases WHERE alias = $1", alias)
    return nid


async def delete_alias(conn: Connection, alias: str) -> None:
    await conn.execute("DELETE FROM room_aliases WHERE alias = $1", alias)


async def aliases_of_room(conn: Connection, room_nid: int) -> list[str]:
    rows = await conn.fetch("SELECT alias FROM room_aliases WHERE room_nid = $1 ORDER BY created_ts, alias", room_nid)
    return [row["alias"] for row in rows]


async def move_aliases(conn: Connection, from_nid: int, to_nid: int) -> list[str]:
    """Lets all aliases of one room point to another; those moved."""
    rows = await conn.fetch(
        "UPDATE room_aliases SET room_nid = $2 WHERE room_nid = $1 RETURNING alias", from_nid, to_nid
    )
    return [row["alias"] for row in rows]
