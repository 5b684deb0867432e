"""What other servers ask of a room: events as they are stored, without taking them apart, and their users' past."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import orjson

from homeserver.storage.events import COLUMNS, FROM, StoredEvent, stored_event
from homeserver.storage.stream import Connection


async def pdus_of(conn: Connection, nids: Collection[int]) -> list[orjson.Fragment]:
    """The PDUs of these numbers, to be spliced into a response."""
    rows = await conn.fetch("SELECT json FROM events WHERE event_nid = ANY($1)", list(nids))
    return [orjson.Fragment(row["json"]) for row in rows]


async def events_not_deeper(conn: Connection, room_nid: int, depth: int, limit: int) -> list[StoredEvent]:
    """Events of the DAG (no outliers) of at most that depth, the deepest first: likely ancestors of one there."""
    rows = await conn.fetch(
        f"SELECT {COLUMNS} FROM {FROM} WHERE e.room_nid = $1 AND e.depth <= $2 AND e.status < 3 "  # noqa: S608
        "ORDER BY e.depth DESC LIMIT $3",
        room_nid,
        depth,
        limit,
    )
    return [stored_event(row) for row in rows]


async def users_of_server(conn: Connection, room_nid: int, server: str) -> list[str]:
    """The ids of that server's users who are or were anything in the room."""
    rows = await conn.fetch(
        "SELECT u.user_id FROM room_members m JOIN users u USING (user_nid) WHERE m.room_nid = $1 AND u.server = $2",
        room_nid,
        server,
    )
    return [row["user_id"] for row in rows]


async def visibilities_ever(conn: Connection, room_nid: int, state_key_nid: int) -> list[bytes]:
    """The PDUs that set this key in the room's state at any time. For a key with few of them."""
    rows = await conn.fetch(
        "SELECT e.json FROM room_state s JOIN events e USING (event_nid) "
        "WHERE s.room_nid = $1 AND s.state_key_nid = $2",
        room_nid,
        state_key_nid,
    )
    return [row["json"] for row in rows]


async def pdus_by_nid(conn: Connection, nids: Collection[int]) -> dict[int, bytes]:
    """event_nid -> PDU."""
    rows = await conn.fetch("SELECT event_nid, json FROM events WHERE event_nid = ANY($1)", list(nids))
    return {row["event_nid"]: row["json"] for row in rows}


async def last_joined_pos(conn: Connection, room_nid: int, state_key_nids: Sequence[int]) -> int | None:
    """The last position at which any of these member keys became a join; None if that never was."""
    pos: int | None = await conn.fetchval(
        "SELECT max(s.from_pos) FROM room_state s JOIN events e USING (event_nid) "
        "WHERE s.room_nid = $1 AND s.state_key_nid = ANY($2) "
        "AND convert_from(e.json, 'UTF8')::json -> 'content' ->> 'membership' = 'join'",
        room_nid,
        list(state_key_nids),
    )
    return pos
