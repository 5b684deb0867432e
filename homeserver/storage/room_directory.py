"""The directory of published rooms: this server's own list and those of application services' networks.

The largest rooms come first. A page begins after a place (members, number of the room), so that its cost does not
depend on how many pages came before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from homeserver.storage.room_summaries import SUMMARY_COLUMNS, RoomSummary, summary_of_row
from homeserver.storage.stream import Connection


class Place(NamedTuple):
    """A room's place in the list."""

    joined_members: int
    room_nid: int


@dataclass(frozen=True, slots=True)
class DirectoryFilter:
    """Which rooms: those with `term` in name, topic or alias, and one of `room_types` (None for rooms without one), in
    the list of this server, of the network `instance_id`, or in any."""

    term: str | None = None
    room_types: Sequence[str | None] | None = None
    instance_id: str | None = None
    all_networks: bool = False


def instance_id(appservice_id: str, network_id: str) -> str:
    """What clients call a network of an application service.  # spec: application-service-api/#third-party-networks"""
    return f"{appservice_id}|{network_id}"


def _conditions(filter: DirectoryFilter, arguments: list[Any]) -> str:
    def argument(value: Any) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    if filter.all_networks:
        listed = "(s.published OR s.room_nid IN (SELECT room_nid FROM network_rooms))"
    elif filter.instance_id is not None:
        ours = argument(filter.instance_id)
        listed = f"s.room_nid IN (SELECT room_nid FROM network_rooms WHERE instance_id = {ours})"  # noqa: S608
    else:
        listed = "s.published"
    conditions = [listed, "s.joined_members > 0"]
    if filter.term:
        conditions.append(f"strpos(s.search, {argument(filter.term.casefold())}) > 0")
    if filter.room_types is not None:
        types = argument([room_type for room_type in filter.room_types if room_type is not None])
        plain = argument(None in filter.room_types)
        conditions.append(f"(s.room_type = ANY({types}::text[]) OR s.room_type IS NULL AND {plain})")
    return " AND ".join(conditions)


async def directory_page(
    conn: Connection, filter: DirectoryFilter, *, count: int, place: Place | None, backwards: bool
) -> list[RoomSummary]:
    """At most `count` rooms after `place` (or before it), in the order of the list."""
    arguments: list[Any] = []
    condition = _conditions(filter, arguments)
    if place is not None:
        arguments += place
        sign = ">" if backwards else "<"
        condition += f" AND (s.joined_members, s.room_nid) {sign} (${len(arguments) - 1}, ${len(arguments)})"
    order = "ASC" if backwards else "DESC"
    arguments.append(count)
    rows = await conn.fetch(
        f"SELECT {SUMMARY_COLUMNS} FROM room_summaries s JOIN rooms r USING (room_nid) WHERE {condition} "  # noqa: S608
        f"ORDER BY s.joined_members {order}, s.room_nid {order} LIMIT ${len(arguments)}",
        *arguments,
    )
    page = [summary_of_row(row) for row in rows]
    return page[::-1] if backwards else page


async def directory_size(conn: Connection, filter: DirectoryFilter) -> int:
    """How many rooms there are in all."""
    arguments: list[Any] = []
    condition = _conditions(filter, arguments)
    number: int = await conn.fetchval(
        f"SELECT count(*) FROM room_summaries s WHERE {condition}",  # noqa: S608
        *arguments,
    )
    return number


async def set_network_room(conn: Connection, instance: str, room_nid: int, listed: bool) -> None:
    """Puts the room into the list of a network, or takes it out."""
    if listed:
        await conn.execute("INSERT INTO network_rooms VALUES ($1, $2) ON CONFLICT DO NOTHING", instance, room_nid)
    else:
        await conn.execute("DELETE FROM network_rooms WHERE instance_id = $1 AND room_nid = $2", instance, room_nid)


async def move_network_rooms(conn: Connection, from_nid: int, to_nid: int) -> None:
    """Lets networks list one room instead of another."""
    await conn.execute("UPDATE network_rooms SET room_nid = $2 WHERE room_nid = $1", from_nid, to_nid)
