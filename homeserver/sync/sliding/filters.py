"""The filters of lists. What they look at is read when the first of them does, for all of the user's rooms at once.

What is said of a room that the user is not in is what the user may know of it: the invitation's word, or the state as
it was when the user went.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any, TypeAlias

import orjson

from homeserver.protocol.events import JsonObject
from homeserver.rooms.outside import stripped_state_shown
from homeserver.rooms.visibility import sights
from homeserver.storage.account_data import find_account_data
from homeserver.storage.events import events_by_nid
from homeserver.storage.sliding_reads import (
    JoinedRoom,
    ListedRoom,
    OutsideRoom,
    state_at_keys,
    state_at_of_types,
    stripped_states,
    tags_of,
)
from homeserver.sync.sliding.request import RoomFilter
from homeserver.sync.view import View

Condition: TypeAlias = Callable[[ListedRoom], bool]

_CREATE, _ENCRYPTION = ("m.room.create", ""), ("m.room.encryption", "")


class Facts:
    """What filters ask of the user's rooms."""

    def __init__(self, view: View, rooms: Sequence[ListedRoom]) -> None:
        self._view = view
        self._rooms = rooms
        self._direct: frozenset[str] | None = None
        self._tags: dict[int, frozenset[str]] | None = None
        self._outside: dict[int, tuple[str | None, bool]] | None = None

    async def filter(self, filter: RoomFilter) -> Sequence[ListedRoom]:
        """Those of the rooms that the filter lets through, in order."""
        rooms = self._rooms
        async for condition in self._conditions(filter):
            rooms = [room for room in rooms if condition(room)]
        return rooms

    async def _conditions(self, filter: RoomFilter) -> AsyncIterator[Condition]:
        if filter.is_invited is not None:
            wanted = filter.is_invited
            yield lambda room: (room.membership == "invite") is wanted
        if filter.is_dm is not None:
            direct, is_dm = await self._direct_rooms(), filter.is_dm
            yield lambda room: (room.room_id in direct) is is_dm
        if filter.looks_at_kinds:
            yield _kind_condition(filter, await self._kinds_from_outside())
        if filter.tags is not None or filter.not_tags:
            yield _tag_condition(filter, await self._tags_of_rooms())
        if filter.spaces is not None:
            children = await self._children(filter.spaces)
            yield lambda room: room.room_id in children

    async def _direct_rooms(self) -> frozenset[str]:
        if self._direct is None:
            self._direct = await direct_rooms(self._view)
        return self._direct

    async def _tags_of_rooms(self) -> dict[int, frozenset[str]]:
        if self._tags is None:
            found = await tags_of(self._view.conn, self._view.reader.user_nid)
            self._tags = {room_nid: _tags(content) for room_nid, content in found.items()}
        return self._tags

    async def _kinds_from_outside(self) -> dict[int, tuple[str | None, bool]]:
        if self._outside is None:
            self._outside = await _kinds_from_outside(
                self._view, [room for room in self._rooms if isinstance(room, OutsideRoom)]
            )
        return self._outside

    async def _children(self, space_ids: Collection[str]) -> frozenset[str]:
        """The rooms that these spaces, where the user is in them, name as their children."""
        view = self._view
        places = [(room.room_nid, view.until) for room in self._rooms if room.joined and room.room_id in space_ids]
        entries = await state_at_of_types(view.conn, places, ["m.space.child"])
        events = await events_by_nid(view.conn, [entry.event_nid for entry in entries])
        return frozenset(
            event.event.state_key or "" for event in events.values() if isinstance(event.event.content.get("via"), list)
        )


def _kind_condition(filter: RoomFilter, outside: dict[int, tuple[str | None, bool]]) -> Condition:
    def passes(room: ListedRoom) -> bool:
        if isinstance(room, JoinedRoom):
            type, encrypted = room.room_type, room.encrypted
        else:
            type, encrypted = outside.get(room.room_nid, (None, False))
        return (
            filter.is_encrypted in (None, encrypted)
            and (filter.room_types is None or type in filter.room_types)
            and type not in filter.not_room_types
        )

    return passes


def _tag_condition(filter: RoomFilter, tags: dict[int, frozenset[str]]) -> Condition:
    def passes(room: ListedRoom) -> bool:
        own = tags.get(room.room_nid, frozenset())
        return (filter.tags is None or not own.isdisjoint(filter.tags)) and own.isdisjoint(filter.not_tags)

    return passes


async def direct_rooms(view: View) -> frozenset[str]:
    """The ids of the rooms that the user keeps as direct chats.  # spec: client-server-api/#mdirect"""
    content = await find_account_data(view.conn, view.reader.user_nid, "m.direct")
    value: Any = None if content is None else orjson.loads(content)
    if not isinstance(value, dict):
        return frozenset()
    return frozenset(
        room_id for rooms in value.values() if isinstance(rooms, list) for room_id in rooms if isinstance(room_id, str)
    )


def _tags(content: bytes) -> frozenset[str]:
    value: Any = orjson.loads(content)
    tags = value.get("tags") if isinstance(value, dict) else None
    return frozenset(tags) if isinstance(tags, dict) else frozenset()


async def _kinds_from_outside(view: View, rooms: Sequence[OutsideRoom]) -> dict[int, tuple[str | None, bool]]:
    if not rooms:
        return {}
    said = await stripped_states(view.conn, view.reader.user_nid, [room.room_nid for room in rooms])
    kinds: dict[int, tuple[str | None, bool]] = {}
    for room_nid, stripped in said.items():
        if stripped is not None:
            events_shown = stripped_state_shown(orjson.loads(stripped))
            kinds[room_nid] = _kind({(one["type"], one["state_key"]): one["content"] for one in events_shown})
    known = [room for room in rooms if room.room_nid not in kinds]
    left = [room.room_nid for room in known if not room.stripped]
    seen = await sights(view.conn, view.names, view.reader.user_id, left)
    until = {room.room_nid: room.pos for room in known}
    for room_nid in left:
        stay = seen[room_nid].last_join(view.until)
        until[room_nid] = min(until[room_nid], stay[1]) if stay is not None else 0
    entries = await state_at_keys(
        view.conn, [(room_nid, pos, key) for room_nid, pos in until.items() for key in (_CREATE, _ENCRYPTION)]
    )
    events = await events_by_nid(view.conn, [entry.event_nid for entry in entries])
    contents: dict[int, dict[tuple[str, str], JsonObject]] = {}
    for entry in entries:
        if entry.event_nid in events:
            contents.setdefault(entry.room_nid, {})[entry.key] = events[entry.event_nid].event.content
    return kinds | {room_nid: _kind(content) for room_nid, content in contents.items()}


def _kind(contents: dict[tuple[str, str], JsonObject]) -> tuple[str | None, bool]:
    type = contents.get(_CREATE, {}).get("type")
    return type if isinstance(type, str) else None, _ENCRYPTION in contents
