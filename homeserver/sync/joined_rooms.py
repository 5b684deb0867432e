"""The rooms that the user is in.

# spec: client-server-api/#get_matrixclientv3sync rooms.join
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from homeserver.protocol.events import JsonObject
from homeserver.sync import ephemeral
from homeserver.sync.account_data import AccountData
from homeserver.sync.notification_counts import changed_rooms, room_counts
from homeserver.sync.room_section import RoomSection, RoomWindow, room_sections
from homeserver.sync.view import View


def new_rooms(view: View, since: int) -> set[int]:
    """The joined rooms that a client at `since` has to be told whole: the user was not in them all the time since."""
    return {room_nid for room_nid in view.joined if not _joined_since(view, room_nid, since)}


def _joined_since(view: View, room_nid: int, since: int) -> bool:
    sight = view.sights.get(room_nid)
    if sight is None:  # the membership has not changed since
        return True
    join = sight.last_join(view.until)
    return join is not None and join[0] <= since


async def complete(view: View, data: AccountData) -> JsonObject:
    """Every joined room, with all of its state: room_id -> section."""
    sections = await room_sections(
        view, [RoomWindow(room_nid, None, view.until) for room_nid in sorted(view.joined)], with_summary=True
    )
    return await _json(view, sections, await ephemeral.complete(view, view.joined), data, view.joined)


async def incremental(view: View, data: AccountData, new: set[int], since: int, typing_since: int) -> JsonObject:
    """The joined rooms in which something happened since, and those that are new, whole: room_id -> section."""
    happened = await ephemeral.incremental(view, view.joined - new, new, since, typing_since)
    told = (new | happened.keys() | data.by_room.keys()) & view.joined
    if view.full_state:
        told = set(view.joined)
    else:
        told |= await changed_rooms(view, view.joined - told, since)
    active = view.joined if view.standing is None else view.standing.active
    windows = [
        RoomWindow(room_nid, None, view.until, True, view.sights[room_nid].known_until(since))
        if room_nid in new
        else RoomWindow(room_nid, since, view.until)
        for room_nid in sorted(view.joined & (told | active))
    ]
    sections = await room_sections(view, windows, with_summary=True)
    told |= {room_nid for room_nid, section in sections.items() if section.tells_something}
    return await _json(view, sections, happened, data, told)


async def _json(
    view: View,
    sections: Mapping[int, RoomSection],
    happened: Mapping[int, list[JsonObject]],
    data: AccountData,
    room_nids: Collection[int],
) -> JsonObject:
    counts = await room_counts(view, room_nids)
    return {
        view.rooms[room_nid].room_id: {
            **sections[room_nid].json(view),
            "summary": sections[room_nid].summary,
            "ephemeral": {"events": happened.get(room_nid, [])},
            "account_data": {"events": data.by_room.get(room_nid, [])},
            **counts[room_nid].json(),
        }
        for room_nid in sections
        if room_nid in room_nids
    }
