"""Rooms as administrators look through them: by page, by a part of a name, in an order of their choice."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson

from homeserver.storage.account_lists import containing
from homeserver.storage.names import Names
from homeserver.storage.stream import Connection

_LOCAL_MEMBERS = (
    "(SELECT count(*) FROM room_members m JOIN users u USING (user_nid) "
    "WHERE m.room_nid = r.room_nid AND m.membership = 'join' AND u.server = $1)"
)
_STATE_EVENTS = (
    "(SELECT count(*) FROM room_state st WHERE st.room_nid = r.room_nid AND st.to_pos = 9223372036854775807)"
)
_CREATOR = (
    "(SELECT u.user_id FROM room_state st JOIN state_keys k USING (state_key_nid) JOIN events e USING (event_nid) "
    "JOIN users u ON u.user_nid = e.sender_nid "
    "WHERE st.room_nid = r.room_nid AND st.to_pos = 9223372036854775807 AND k.type = 'm.room.create' LIMIT 1)"
)

# The column, and whether the largest comes first.
ORDERS = {
    "name": ("s.name", False),
    "alphabetical": ("s.name", False),
    "canonical_alias": ("s.canonical_alias", False),
    "joined_members": ("s.joined_members", True),
    "size": ("s.joined_members", True),
    "joined_local_members": (_LOCAL_MEMBERS, True),
    "version": ("r.room_version", True),
    "creator": (_CREATOR, False),
    "encryption": ("s.encryption", False),
    "federatable": ("r.room_id", False),  # nearly all are
    "public": ("s.published", False),
    "join_rules": ("s.join_rule", False),
    "guest_access": ("s.guest_can_join", False),
    "history_visibility": ("s.world_readable", False),
    "state_events": (_STATE_EVENTS, True),
}


@dataclass(frozen=True, slots=True)
class RoomFilter:
    """Which rooms: None is any. `search` is part of the name or alias, or a whole room id."""

    search: str | None = None
    public: bool | None = None
    empty: bool | None = None


@dataclass(frozen=True, slots=True)
class ListedRoom:
    """A room as a list shows it."""

    room_nid: int
    room_id: str
    room_version: str
    name: str | None
    topic: str | None
    avatar_url: str | None
    canonical_alias: str | None
    joined_members: int
    joined_local_members: int
    state_events: int
    encryption: str | None
    join_rule: str | None
    room_type: str | None
    published: bool


_COLUMNS = (
    "r.room_nid, r.room_id, r.room_version, s.name, s.topic, s.avatar_url, s.canonical_alias, "
    f"coalesce(s.joined_members, 0) AS joined_members, {_LOCAL_MEMBERS} AS joined_local_members, "
    f"{_STATE_EVENTS} AS state_events, s.encryption, s.join_rule, s.room_type, "
    "coalesce(s.published, false) AS published"
)
# A room whose state this server does not know is only a name to it.
_FROM = "FROM rooms r LEFT JOIN room_summaries s USING (room_nid)"
_WHERE = (
    "WHERE r.extremities <> '{}' AND ($2::text IS NULL OR s.name ILIKE $2 OR s.canonical_alias ILIKE $2 "
    "OR r.room_id = $3) AND ($4::boolean IS NULL OR coalesce(s.published, false) = $4) "
    "AND ($5::boolean IS NULL OR (coalesce(s.joined_members, 0) = 0) = $5)"
)


async def list_rooms(
    conn: Connection, server: str, wanted: RoomFilter, *, order_by: str, backwards: bool, offset: int, limit: int
) -> tuple[list[ListedRoom], int]:
    """One page of the rooms, and how many there are in all.

    :param server: this one, whose members are counted apart
    :param order_by: a key of ORDERS
    """
    column, largest_first = ORDERS[order_by]
    direction = "DESC" if backwards != largest_first else "ASC"
    arguments = (server, containing(wanted.search), wanted.search, wanted.public, wanted.empty)
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} {_FROM} {_WHERE} ORDER BY {column} {direction} NULLS LAST, r.room_id {direction} "
        "OFFSET $6 LIMIT $7",
        *arguments,
        offset,
        limit,
    )
    total: int = await conn.fetchval(
        f"SELECT count(*) {_FROM} {_WHERE} AND $1::text IS NOT NULL",
        *arguments,
    )
    return [ListedRoom(**row) for row in rows], total


async def find_listed(conn: Connection, server: str, room_nid: int) -> ListedRoom | None:
    """One room; None if this server does not know its state."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} {_FROM} WHERE r.room_nid = $2 AND r.extremities <> '{{}}'",
        server,
        room_nid,
    )
    return ListedRoom(**row) if row is not None else None


@dataclass(frozen=True, slots=True)
class RoomRules:
    """What the state of a room says beyond its summary."""

    creator: str | None = None
    federatable: bool = True
    guest_access: str | None = None
    history_visibility: str | None = None


async def rules_of(conn: Connection, names: Names, room_nids: Collection[int]) -> dict[int, RoomRules]:
    """That of each of these rooms."""
    types = ("m.room.create", "m.room.guest_access", "m.room.history_visibility")
    keys = await names.state_key_nids([(type, "") for type in types])
    rows = await conn.fetch(
        "SELECT s.room_nid, s.state_key_nid, e.json, u.user_id FROM room_state s JOIN events e USING (event_nid) "
        "JOIN users u ON u.user_nid = e.sender_nid "
        "WHERE s.room_nid = ANY($1) AND s.state_key_nid = ANY($2) AND s.to_pos = 9223372036854775807",
        list(room_nids),
        list(keys.values()),
    )
    found: dict[int, dict[str, Any]] = {nid: {} for nid in room_nids}
    types_by_nid = {nid: key[0] for key, nid in keys.items()}
    for row in rows:
        values, content = found[row["room_nid"]], orjson.loads(row["json"])["content"]
        match types_by_nid[row["state_key_nid"]]:
            case "m.room.create":
                values["creator"], values["federatable"] = row["user_id"], content.get("m.federate") is not False
            case "m.room.guest_access":
                values["guest_access"] = _text(content.get("guest_access"))
            case _:
                values["history_visibility"] = _text(content.get("history_visibility"))
    return {nid: RoomRules(**values) for nid, values in found.items()}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


async def local_devices_in(conn: Connection, server: str, room_nid: int) -> int:
    """How many devices the members of this server have."""
    number: int = await conn.fetchval(
        "SELECT count(*) FROM room_members m JOIN users u USING (user_nid) JOIN devices d USING (user_nid) "
        "WHERE m.room_nid = $1 AND m.membership = 'join' AND u.server = $2",
        room_nid,
        server,
    )
    return number


async def is_forgotten(conn: Connection, server: str, room_nid: int) -> bool:
    """Whether everyone of this server who was in the room has forgotten it."""
    remembered: bool = await conn.fetchval(
        "SELECT EXISTS (SELECT FROM room_members m JOIN users u USING (user_nid) "
        "WHERE m.room_nid = $1 AND u.server = $2 AND NOT m.forgotten)",
        room_nid,
        server,
    )
    return not remembered


async def local_members(conn: Connection, server: str, room_nid: int) -> list[tuple[str, str]]:
    """(user id, membership) of the users of this server who are in the room, invited or knocking."""
    rows = await conn.fetch(
        "SELECT u.user_id, m.membership FROM room_members m JOIN users u USING (user_nid) "
        "WHERE m.room_nid = $1 AND u.server = $2 AND m.membership IN ('join', 'invite', 'knock') ORDER BY m.pos",
        room_nid,
        server,
    )
    return [(row["user_id"], row["membership"]) for row in rows]
