"""The rooms that the user has left, was put out of, or doesn't want to enter any more.

What is told ends with the event by which the user left. Of a room that they never were in there is that event alone.

# spec: client-server-api/#get_matrixclientv3sync rooms.leave
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.protocol.events import JsonObject
from homeserver.rooms.visibility import Sight
from homeserver.storage.events import events_by_nid
from homeserver.storage.members import Membership
from homeserver.sync.account_data import AccountData
from homeserver.sync.client_events import timeline_events
from homeserver.sync.room_section import RoomSection, RoomWindow, room_sections, shape_of
from homeserver.sync.tokens import place_token
from homeserver.sync.view import View


def new_rooms(view: View, since: int) -> set[int]:
    """The rooms that the user has both joined and left after `since`."""
    return {
        room_nid
        for room_nid in view.left
        if (stay := view.sights[room_nid].last_join(view.until)) is not None and stay[0] > since
    }


async def complete(view: View, data: AccountData) -> JsonObject:
    """room_id -> section of every left room that was not forgotten, if the filter asks for them."""
    if not view.filter.include_leave:
        return {}
    windows, own = [], []
    for row in view.left.values():
        if row.forgotten:
            continue
        sight = view.sights[row.room_nid]
        stay = sight.last_join(view.until)
        if stay is not None:
            windows.append(RoomWindow(row.room_nid, None, stay[1]))
        if stay is None or _member_event(sight, stay[1]) != row.event_nid:
            own.append(row)
    return await _sections(view, windows, own, data)


async def incremental(view: View, data: AccountData, new: set[int], since: int) -> JsonObject:
    """room_id -> section of the rooms that the user has left since; those that are `new` to the client whole."""
    windows, own = [], []
    for row in view.left.values():
        sight = view.sights[row.room_nid]
        stay = sight.last_join(view.until)
        known = since
        if stay is not None and stay[1] > since:
            if row.room_nid in new:
                windows.append(RoomWindow(row.room_nid, None, stay[1], True, sight.known_until(since)))
            else:
                windows.append(RoomWindow(row.room_nid, since, stay[1]))
            known = stay[1]
        if _member_event(sight, known) != row.event_nid:
            own.append(row)
    return await _sections(view, windows, own, data)


def _member_event(sight: Sight, pos: int) -> int | None:
    """The user's member event in the room's state just after that position."""
    return next((span.event_nid for span in sight.membership if span.from_pos <= pos < span.to_pos), None)


async def _sections(
    view: View, windows: Sequence[RoomWindow], own: Sequence[Membership], data: AccountData
) -> JsonObject:
    """The sections of `windows`; and of what else became of the user's membership, whether in one of these or not."""
    if not windows and not own:
        return {}
    sections = await room_sections(view, windows, with_summary=False)
    events = await events_by_nid(view.conn, [row.event_nid for row in own])
    shown = await timeline_events(view.conn, view.reader, list(events.values()), view.sights, shape_of(view))
    for row in own:
        section = sections.setdefault(row.room_nid, RoomSection(prev_batch=place_token(0)))
        if row.event_nid in shown:
            section.timeline.append(shown[row.event_nid])
            if view.state_after:
                section.state = [
                    event
                    for event in section.state
                    if (event.get("type"), event.get("state_key")) != ("m.room.member", view.reader.user_id)
                ]
                section.state.append(shown[row.event_nid])
    return {
        view.rooms[room_nid].room_id: {
            **section.json(view),
            "account_data": {"events": data.by_room.get(room_nid, [])},
        }
        for room_nid, section in sections.items()
    }
