"""The rooms that the user has left, was put out of, or doesn't want to enter any more.

What is told ends with the event by which the user left. Of a room that they never were in there is that event alone.

# spec: client-server-api/#get_matrixclientv3sync rooms.leave
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.protocol.events import JsonObject
from homeserver.storage.events import events_by_nid
from homeserver.storage.members import Membership
from homeserver.sync.account_data import AccountData
from homeserver.sync.client_events import timeline_events
from homeserver.sync.room_section import RoomSection, RoomWindow, room_sections, shape_of
from homeserver.sync.tokens import place_token
from homeserver.sync.view import View


async def complete(view: View, data: AccountData) -> JsonObject:
    """room_id -> section of every left room that was not forgotten, if the filter asks for them."""
    if not view.filter.include_leave:
        return {}
    windows, refused = [], []
    for row in view.left.values():
        if row.forgotten:
            continue
        stay = view.sights[row.room_nid].last_join(view.until)
        if stay is None:
            refused.append(row)
        else:
            windows.append(RoomWindow(row.room_nid, None, stay[1]))
    return await _sections(view, windows, refused, data)


async def incremental(view: View, data: AccountData, since: int) -> JsonObject:
    """room_id -> section of the rooms that the user has left since."""
    windows, refused = [], []
    for row in view.left.values():
        sight = view.sights[row.room_nid]
        stay = sight.last_join(view.until)
        if stay is not None and stay[1] > since:
            new = stay[0] > since
            windows.append(RoomWindow(row.room_nid, None if new else since, stay[1], rejoined=new))
        elif sight.membership_at(since) != row.membership or not _stands_in_state(view, row):
            refused.append(row)
    return await _sections(view, windows, refused, data)


def _stands_in_state(view: View, row: Membership) -> bool:
    """Whether the leave is part of the room's state here; a refused invitation from elsewhere is not."""
    return any(span.event_nid == row.event_nid for span in view.sights[row.room_nid].membership)


async def _sections(
    view: View, windows: Sequence[RoomWindow], refused: Sequence[Membership], data: AccountData
) -> JsonObject:
    sections = await room_sections(view, windows, with_summary=False)
    events = await events_by_nid(view.conn, [row.event_nid for row in refused])
    shown = await timeline_events(view.conn, view.reader, list(events.values()), view.sights, shape_of(view))
    for row in refused:
        timeline = [shown[row.event_nid]] if row.event_nid in shown else []
        sections[row.room_nid] = RoomSection(timeline=timeline, prev_batch=place_token(0))
    return {
        view.rooms[room_nid].room_id: {
            **section.json(view),
            "account_data": {"events": data.by_room.get(room_nid, [])},
        }
        for room_nid, section in sections.items()
    }
