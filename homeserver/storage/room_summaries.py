"""What rooms show of themselves to those outside, a row each: the directory, previews and spaces read nothing else.

The row is written by the append that changes the state it is made of (`rooms.summary` says how), never by a message.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import asyncpg

from homeserver.storage.events import COLUMNS, StoredEvent, stored_event
from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class Shown:
    """What a room's state says to those outside."""

    name: str | None = None
    topic: str | None = None
    canonical_alias: str | None = None
    avatar_url: str | None = None
    join_rule: str = "invite"
    world_readable: bool = False
    guest_can_join: bool = False
    room_type: str | None = None
    encryption: str | None = None
    allowed_room_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RoomSummary:
    """A room as others may be told of it."""

    room_nid: int
    room_id: str
    room_version: str
    joined_members: int
    shown: Shown


SUMMARY_COLUMNS = (
    "s.room_nid, r.room_id, r.room_version, s.joined_members, s.name, s.topic, s.canonical_alias, s.avatar_url, "
    "s.join_rule, s.world_readable, s.guest_can_join, s.room_type, s.encryption, s.allowed_room_ids"
)


def summary_of_row(row: asyncpg.Record) -> RoomSummary:
    """A row of SUMMARY_COLUMNS as a value."""
    values = dict(row)
    about = {name: values.pop(name) for name in ("room_nid", "room_id", "room_version", "joined_members")}
    allowed = tuple(values.pop("allowed_room_ids"))
    return RoomSummary(**about, shown=Shown(**values, allowed_room_ids=allowed))


async def insert_summary(conn: Connection, room_nid: int, *, published: bool) -> None:
    """Enters a room that has just been made."""
    await conn.execute("INSERT INTO room_summaries (room_nid, published) VALUES ($1, $2)", room_nid, published)


async def add_joined(conn: Connection, room_nid: int, number: int) -> None:
    """Counts so many joined members more, or fewer. Must run under the room's lock."""
    await conn.execute(
        "INSERT INTO room_summaries (room_nid, joined_members) VALUES ($1, $2) ON CONFLICT (room_nid) "
        "DO UPDATE SET joined_members = room_summaries.joined_members + excluded.joined_members",
        room_nid,
        number,
    )


async def write_shown(conn: Connection, room_nid: int, shown: Shown) -> None:
    """Sets what the room's state says. Must run under the room's lock."""
    text = "\n".join(part for part in (shown.name, shown.topic, shown.canonical_alias) if part)
    await conn.execute(
        "INSERT INTO room_summaries (room_nid, name, topic, canonical_alias, avatar_url, join_rule, world_readable, "
        "guest_can_join, room_type, encryption, allowed_room_ids, search) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (room_nid) DO UPDATE SET "
        "name = excluded.name, topic = excluded.topic, canonical_alias = excluded.canonical_alias, "
        "avatar_url = excluded.avatar_url, join_rule = excluded.join_rule, world_readable = excluded.world_readable, "
        "guest_can_join = excluded.guest_can_join, room_type = excluded.room_type, encryption = excluded.encryption, "
        "allowed_room_ids = excluded.allowed_room_ids, search = excluded.search",
        room_nid,
        shown.name,
        shown.topic,
        shown.canonical_alias,
        shown.avatar_url,
        shown.join_rule,
        shown.world_readable,
        shown.guest_can_join,
        shown.room_type,
        shown.encryption,
        list(shown.allowed_room_ids),
        text.casefold(),
    )


async def summaries_here(conn: Connection, room_ids: Collection[str], server: str) -> dict[str, RoomSummary]:
    """The summaries of those of these rooms that someone of `server` is in: room_id -> summary."""
    rows = await conn.fetch(
        f"SELECT {SUMMARY_COLUMNS} FROM rooms r JOIN room_summaries s USING (room_nid) "  # noqa: S608
        "WHERE r.room_id = ANY($1) AND s.joined_members > 0 AND EXISTS (SELECT 1 FROM room_members m "
        "JOIN users u USING (user_nid) WHERE m.room_nid = r.room_nid AND m.membership = 'join' AND u.server = $2)",
        list(room_ids),
        server,
    )
    return {row["room_id"]: summary_of_row(row) for row in rows}


async def memberships_in(conn: Connection, user_nid: int, room_ids: Collection[str]) -> dict[str, str]:
    """room_id -> membership of one user, where there is any."""
    rows = await conn.fetch(
        "SELECT r.room_id, m.membership FROM rooms r JOIN room_members m USING (room_nid) "
        "WHERE r.room_id = ANY($1) AND m.user_nid = $2",
        list(room_ids),
        user_nid,
    )
    return {row["room_id"]: row["membership"] for row in rows}


async def server_memberships_in(conn: Connection, server: str, room_ids: Collection[str]) -> dict[str, str]:
    """room_id -> "join" if anyone of that server is joined, else "invite" if anyone is invited."""
    rows = await conn.fetch(
        "SELECT r.room_id, max(m.membership) AS membership FROM rooms r JOIN room_members m USING (room_nid) "
        "JOIN users u USING (user_nid) WHERE r.room_id = ANY($1) AND u.server = $2 "
        "AND m.membership IN ('invite', 'join') GROUP BY r.room_id",
        list(room_ids),
        server,
    )
    return {row["room_id"]: row["membership"] for row in rows}


async def space_children(conn: Connection, room_nid: int) -> list[StoredEvent]:
    """The m.space.child events in the room's current state."""
    rows = await conn.fetch(
        f"SELECT {COLUMNS} FROM room_state s JOIN state_keys k USING (state_key_nid) "  # noqa: S608
        "JOIN events e ON e.event_nid = s.event_nid JOIN rooms r ON r.room_nid = s.room_nid "
        "WHERE s.room_nid = $1 AND s.to_pos = 9223372036854775807 AND k.type = 'm.space.child'",
        room_nid,
    )
    return [stored_event(row) for row in rows]


async def is_published(conn: Connection, room_nid: int) -> bool:
    """Whether the room is in the directory of this server."""
    found: bool | None = await conn.fetchval("SELECT published FROM room_summaries WHERE room_nid = $1", room_nid)
    return bool(found)


async def set_published(conn: Connection, room_nid: int, published: bool) -> None:
    """Puts the room into the directory of this server, or takes it out."""
    await conn.execute(
        "INSERT INTO room_summaries (room_nid, published) VALUES ($1, $2) "
        "ON CONFLICT (room_nid) DO UPDATE SET published = excluded.published",
        room_nid,
        published,
    )
