"""One request: read, and if there is nothing to tell, wait until there is; then remember what was told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from homeserver.protocol.events import JsonObject
from homeserver.protocol.filters import DEFAULT_FILTER
from homeserver.storage.sync_reads import ignored_user_list, known_user_nids
from homeserver.sync.device_keys import told_keys
from homeserver.sync.service import LONGEST_WAIT
from homeserver.sync.sliding.connections import Connections, Issue, Position
from homeserver.sync.sliding.extensions import tell_extensions
from homeserver.sync.sliding.filters import direct_rooms
from homeserver.sync.sliding.plan import plan_rooms
from homeserver.sync.sliding.request import SlidingRequest
from homeserver.sync.sliding.room_list import find_rooms
from homeserver.sync.sliding.room_response import tell_rooms
from homeserver.sync.view import Sources, View, ignored_users


@dataclass(slots=True)
class Reading:
    """A response without its token. `joined`: the rooms in which something may happen that changes it."""

    json: JsonObject
    issue: Issue
    joined: set[int]

    @property
    def keys(self) -> JsonObject:
        """What it says of the device's keys."""
        return told_keys(self.json["extensions"].get("e2ee", {}))

    @property
    def says_something(self) -> bool:
        """Whether it is worth ending a long poll for."""
        return bool(self.json["rooms"]) or any(
            value for name, extension in self.json["extensions"].items() for value in _content(name, extension)
        )


def _content(name: str, extension: JsonObject) -> list[object]:
    # A token, or how many keys there are, is always there and says nothing.
    if name == "e2ee":
        return list(extension["device_lists"].values())
    return [value for key, value in extension.items() if not (name == "to_device" and key == "next_batch")]


async def sliding_sync(sources: Sources, connections: Connections, request: SlidingRequest) -> JsonObject:
    """The response. May be cancelled while it waits.

    :raises UnknownPos: if the connection can't go on from where the client is
    """
    reader = request.reader
    key = (reader.user_nid, reader.device_id, request.conn_id)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + min(request.timeout, LONGEST_WAIT)
    subscribed: set[int] = set()
    with (
        sources.changes.subscribe(users=[reader.user_nid]) as subscription,
        connections.in_flight(key, subscription) as flight,
    ):
        connection, base = None, None
        keys: JsonObject | None = None
        if request.pos is not None:
            connection, base = await connections.find(key, request.pos)
        while True:
            position, typing = sources.stream.position, sources.typing.position
            reading = await _read(sources, request, base)
            flight.check()
            remaining = deadline - loop.time()
            keys = keys or reading.keys
            if base is None or remaining <= 0 or reading.says_something or keys != reading.keys:
                break
            if reading.joined - subscribed:
                subscription.add_rooms(reading.joined)
                subscribed |= reading.joined
                if (sources.stream.position, sources.typing.position) != (position, typing):
                    continue  # something happened before these rooms could wake us
            await subscription.wait(remaining)
            flight.check()
        if connection is None or base is None:
            token = await connections.start(key, reading.issue)
        else:
            token = await connections.advance(key, connection, base, reading.issue)
    return {"pos": str(token), **reading.json}


async def _read(sources: Sources, request: SlidingRequest, base: Position | None) -> Reading:
    """The response as of now for a client that has `base`."""
    # Both before anything is read: what comes meanwhile is for the next request.
    until, typing_until = sources.stream.position, sources.typing.position
    async with sources.pool.acquire() as conn:
        ignored_ids = ignored_users(await ignored_user_list(conn, request.reader.user_nid))
        view = View(
            conn=conn,
            sources=sources,
            reader=request.reader,
            filter=DEFAULT_FILTER,
            until=until,
            typing_until=typing_until,
            full_state=False,
            state_after="required_state",
            ignored=await known_user_nids(conn, ignored_ids) if ignored_ids else [],
            ignored_ids=ignored_ids,
            rooms={},
        )
        known = base.rooms if base is not None else {}
        found = await find_rooms(view, request, known)
        view.joined = found.joined
        direct = await direct_rooms(view) if found.wanted else frozenset()
        plans = await plan_rooms(view, found, known, direct)
        rooms = await tell_rooms(view, found, plans, base.pos if base is not None else None)
        changes = {room_nid: room.told for room_nid, room in rooms.items()}
        extensions = await tell_extensions(view, request, base, found, rooms, changes)
    json: JsonObject = {
        "lists": {name: {"count": count} for name, count in found.counts.items()},
        "rooms": {found.rooms[room_nid].room_id: room.json for room_nid, room in rooms.items() if room.json},
        "extensions": extensions,
    }
    return Reading(json, Issue(until, typing_until, frozenset(request.extensions), changes), found.joined)
