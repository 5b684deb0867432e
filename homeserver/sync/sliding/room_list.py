"""The user's rooms as of one position, the most recently active first, and the windows that lists cut from them."""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from homeserver.protocol.canonical_json import decode_json
from homeserver.protocol.invite_permissions import ACCOUNT_DATA_TYPES, InviteDecision, decide_invite
from homeserver.rooms.visibility import Sight, sights
from homeserver.storage.account_data import global_account_data_of
from homeserver.storage.sliding_reads import (
    JoinedRoom,
    ListedRoom,
    OutsideRoom,
    joined_rooms_of_user,
    other_rooms_of_user,
    senders_of,
)
from homeserver.sync.sliding.connections import Told
from homeserver.sync.sliding.filters import Facts
from homeserver.sync.sliding.request import ListConfig, RoomConfig, SlidingRequest
from homeserver.sync.view import View


@dataclass(slots=True)
class RoomList:
    """What the rules of a request find.

    `rooms` has every room that the user may be told of, `joined` those that the user is in. `wanted` says what to tell
    of the rooms that match: room_nid -> config. `counts` is how many rooms each list has in all, `windows` which are in
    its window, `subscribed` which were asked for by id.
    """

    rooms: dict[int, ListedRoom] = field(default_factory=dict)
    joined: set[int] = field(default_factory=set)
    wanted: dict[int, RoomConfig] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    windows: dict[str, set[int]] = field(default_factory=dict)
    subscribed: set[int] = field(default_factory=set)

    def lists_with(self, room_nid: int) -> list[str]:
        """The lists in whose window the room is."""
        return [name for name, room_nids in self.windows.items() if room_nid in room_nids]


async def find_rooms(view: View, request: SlidingRequest, told: Mapping[int, Told]) -> RoomList:
    """The rooms that the request asks for, as of `view.until`."""
    if not (request.lists or request.subscriptions or told):
        return RoomList()
    with_kinds = any(config.filter.looks_at_kinds for config in request.lists.values())
    rooms = await _rooms_at(view, told.keys(), request.subscriptions.keys(), with_kinds=with_kinds)
    found = RoomList({room.room_nid: room for room in rooms}, {room.room_nid for room in rooms if room.joined})
    unions: dict[tuple[RoomConfig, RoomConfig], RoomConfig] = {}
    # Of rooms that the user has left, lists have those that the client knows, to say so, and those that the user was
    # put out of, who may not know it.
    facts = Facts(view, [room for room in rooms if room.listed])
    for name, config in request.lists.items():
        listed = await facts.filter(config.filter)
        found.counts[name] = len(listed)
        found.windows[name] = set(_window(listed, config))
        _want(found, found.windows[name], config.config, unions)
    if request.subscriptions:
        by_id = {room.room_id: room.room_nid for room in rooms}
        for room_id, subscription in request.subscriptions.items():
            if room_id in by_id:
                found.subscribed.add(by_id[room_id])
                _want(found, [by_id[room_id]], subscription, unions)
    return found


def _window(rooms: Sequence[ListedRoom], config: ListConfig) -> Iterator[int]:
    ranges = ((0, len(rooms)),) if config.ranges is None else config.ranges
    return (room.room_nid for first, last in ranges for room in rooms[first : last + 1])


def _want(
    found: RoomList,
    room_nids: Collection[int],
    config: RoomConfig,
    unions: dict[tuple[RoomConfig, RoomConfig], RoomConfig],
) -> None:
    wanted = found.wanted
    for room_nid in wanted.keys() & room_nids:
        pair = (wanted[room_nid], config)
        if pair not in unions:
            unions[pair] = pair[0].union(config)
        wanted[room_nid] = unions[pair]
    found.wanted = dict.fromkeys(room_nids, config) | wanted


async def _rooms_at(view: View, told: Set[int], room_ids: Set[str], *, with_kinds: bool) -> list[ListedRoom]:
    """The rooms in their order, the most recently active first."""
    conn, user_nid = view.conn, view.reader.user_nid
    inside = await joined_rooms_of_user(conn, user_nid, with_kinds=with_kinds)
    joined = {room.room_nid for room in inside}
    asked = room_ids - {room.room_id for room in inside} if room_ids else room_ids
    outside = await other_rooms_of_user(conn, user_nid, told - joined, asked)
    rooms: list[ListedRoom] = [*inside]
    for room in await _without_unwanted(view, outside):
        if room.room_nid not in joined:  # one may have been left between the queries
            insort(rooms, room, key=_place)
    later = [room.room_nid for room in rooms if room.pos > view.until]
    if later:
        # What these say is from after this reading; what it was until then stands in the rooms' state.
        seen = await sights(view.conn, view.names, view.reader.user_id, later)
        earlier = [_as_it_was(room, seen[room.room_nid], view.until) for room in rooms if room.room_nid in seen]
        rooms = [room for room in rooms if room.room_nid not in seen] + [room for room in earlier if room is not None]
        rooms.sort(key=_place)
    return rooms


def _as_it_was(room: ListedRoom, sight: Sight, until: int) -> ListedRoom | None:
    """How the user stood to the room at that position."""
    span = next((span for span in sight.membership if span.from_pos <= until < span.to_pos), None)
    if span is None:
        return None
    if span.value == "join":
        return JoinedRoom(room.room_nid, room.room_id, span.from_pos, room.active_pos, room.bump_pos, None, False)
    before = sight.last_join(until) is not None
    return OutsideRoom(
        room.room_nid, room.room_id, span.from_pos, span.value, span.event_nid, before, listed=room.listed
    )


def _place(room: ListedRoom) -> tuple[int, int]:
    return -room.activity, room.room_nid


async def _without_unwanted(view: View, rooms: list[OutsideRoom]) -> list[OutsideRoom]:
    """Without invitations by those whom the user ignores or whose invitations they don't want.

    # spec: client-server-api/#ignoring-users  client-server-api/#invite-permission
    """
    invites = [room.event_nid for room in rooms if room.membership == "invite"]
    if not invites:
        return rooms
    found = await global_account_data_of(view.conn, view.reader.user_id, ACCOUNT_DATA_TYPES)
    if not found:
        return rooms
    permissions = {type: decode_json(content) for type, content in found.items()}
    senders = await senders_of(view.conn, invites)
    return [
        room
        for room in rooms
        if room.membership != "invite"
        or room.event_nid not in senders
        or decide_invite(senders[room.event_nid], permissions) is InviteDecision.ALLOW
    ]
