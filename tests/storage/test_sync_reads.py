"""Reads of syncs that must not grow with the room."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg

from homeserver.storage.sync_reads import heroes


async def _fill(conn: asyncpg.Connection, members: int) -> tuple[int, int]:
    """A room with so many members, the number of the first of whom is given with the room's."""
    room_nid = await conn.fetchval(
        "INSERT INTO rooms (room_id, room_version, created_ts) VALUES ('!large:test', '11', 0) RETURNING room_nid"
    )
    first = await conn.fetchval(
        "WITH made AS (INSERT INTO users (user_id, server) "
        "SELECT '@user' || n || ':test', 'test' FROM generate_series(1, $1::int) n RETURNING user_nid) "
        "SELECT min(user_nid) FROM made",
        members,
    )
    await conn.execute(
        "INSERT INTO room_members (room_nid, user_nid, membership, event_nid, pos) "
        "SELECT $1, user_nid, 'join', user_nid, user_nid FROM users WHERE user_nid >= $2",
        room_nid,
        first,
    )
    await conn.execute("ANALYZE room_members")
    return room_nid, first


async def test_heroes_of_a_large_room_are_read_from_an_index(make_database: Callable[[], Awaitable[str]]) -> None:
    """Whom a room is named after is found among the first members, without a look at the other 20,000; where nobody
    else is left, among those who have gone."""
    conn = await asyncpg.connect(await make_database())
    try:
        room_nid, first = await _fill(conn, 20_000)
        assert (await heroes(conn, [room_nid], first))[room_nid] == [f"@user{n}:test" for n in range(2, 7)]
        counted = (
            "SELECT pg_stat_get_xact_tuples_fetched('room_members'::regclass) "
            "+ pg_stat_get_xact_tuples_returned('room_members'::regclass)"
        )
        async with conn.transaction():
            before = await conn.fetchval(counted)
            await heroes(conn, [room_nid], first)
            assert await conn.fetchval(counted) - before < 200
        await conn.execute("UPDATE room_members SET membership = 'leave' WHERE user_nid <> $1", first)
        assert (await heroes(conn, [room_nid], first))[room_nid] == [f"@user{n}:test" for n in range(2, 7)]
    finally:
        await conn.close()
