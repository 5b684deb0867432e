"""The user's rooms as of one position, the most recently active first, and the windows that lists cut from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from homeserver.protocol.canonical_json import decode_json
from homeserver.protocol.invite_permissions import ACCOUNT_DATA_TYPES, InviteDecision, decide_invite
from homeserver.rooms.visibility import sights
from homeserver.storage.account_data import global_account_data_of
from homeserver.storage.sliding_reads import ListedRoom, rooms_of_user, senders_of
from homeserver.sync.sliding.connections import Told
from homeserver.sync.sliding.filters import Facts
from homeserver.sync.sliding.request import ListConfig, RoomConfig, SlidingRequest
from homeserver.sync.view import View


@dataclass(slots=True)
class Match:
    """A room that the request asks for: what of it, and which lists it is in."""

    room: ListedRoom
    config: RoomConfig
    lists: list[str] = field(default_factory=list)
    subscribed: bool = False


@dataclass(slots=True)
class RoomList:
    """What the rules of a request find: room_nid -> match, and how many rooms each list has in all.

    `rooms` has every room that the user may be told of.
    """

    rooms: dict[int, ListedRoom]
    matches: dict[int, Match]
    counts: dict[str, int]

    @property
    def joined(self) -> set[int]:
        return {room_nid for room_nid, room in self.rooms.items() if room.joined}


async def find_rooms(view: View, request: SlidingRequest, told: Mapping[int, Told]) -> RoomList:
    """The rooms that the request asks for, as of `view.until`."""
    if not (request.lists or request.subscriptions or told):
        return RoomList({}, {}, {})
    rooms = await _rooms_at(view, told, request.subscriptions)
    found = RoomList({room.room_nid: room for room in rooms}, {}, {})
    # Of rooms that the user has left, lists have those that the client knows, to say so, and those that the user was
    # put out of, who may not know it.
    ordered = sorted(
        (
            room
            for room in rooms
            if room.joined
            or room.membership in ("invite", "knock")
            or room.room_nid in told
            or (room.joined_before and room.put_out)
        ),
        key=lambda room: (-room.activity, room.room_nid),
    )
    unions: dict[tuple[RoomConfig, RoomConfig], RoomConfig] = {}
    facts = Facts(view, ordered)
    for name, config in request.lists.items():
        listed = await facts.filter(config.filter)
        found.counts[name] = len(listed)
        for room in _windows(listed, config):
            match = _add(found, room, config.config, unions)
            match.lists.append(name)
    by_id = {room.room_id: room for room in rooms}
    for room_id, subscription in request.subscriptions.items():
        if room_id in by_id:
            _add(found, by_id[room_id], subscription, unions).subscribed = True
    return found


def _windows(rooms: Sequence[ListedRoom], config: ListConfig) -> Collection[ListedRoom]:
    if config.ranges is None:
        return rooms
    if len(config.ranges) == 1:
        first, last = config.ranges[0]
        return rooms[first : last + 1]
    return {room.room_nid: room for first, last in config.ranges for room in rooms[first : last + 1]}.values()


def _add(
    found: RoomList,
    room: ListedRoom,
    config: RoomConfig,
    unions: dict[tuple[RoomConfig, RoomConfig], RoomConfig],
) -> Match:
    match = found.matches.get(room.room_nid)
    if match is None:
        match = found.matches[room.room_nid] = Match(room, config)
    elif match.config != config:
        pair = (match.config, config)
        union = unions.get(pair)
        if union is None:
            union = unions[pair] = match.config.union(config)
        match.config = union
    return match


async def _rooms_at(view: View, told: Collection[int], room_ids: Collection[str]) -> list[ListedRoom]:
    rows = await rooms_of_user(view.conn, view.reader.user_nid, told, room_ids)
    later = [row.room_nid for row in rows if row.pos > view.until]
    if later:
        # What these rows say is from after this reading; what it was until then stands in the rooms' state.
        seen = await sights(view.conn, view.names, view.reader.user_id, later)
        rows = [row for row in rows if row.pos <= view.until] + [
            replace(
                row,
                membership=span.value,
                event_nid=span.event_nid,
                pos=span.from_pos,
                joined_before=seen[row.room_nid].last_join(view.until) is not None,
            )
            for row in rows
            if row.pos > view.until
            for span in seen[row.room_nid].membership
            if span.from_pos <= view.until < span.to_pos
        ]
    return await _without_unwanted(view, rows)


async def _without_unwanted(view: View, rooms: list[ListedRoom]) -> list[ListedRoom]:
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
