"""The stripped state of rooms that the user is not in: as another server sent it, or from the room's own state here.

# spec: client-server-api/#stripped-state
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from homeserver.protocol.client_event import stripped_state_event
from homeserver.protocol.events import JsonObject, StateKey
from homeserver.rooms.outside import stripped_state_shown
from homeserver.storage.events import StoredEvent, events_by_nid
from homeserver.storage.members import Membership
from homeserver.storage.sync_reads import StateRange, state_of_keys
from homeserver.sync.view import View

_TYPES = (
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
)


async def stripped_rooms(
    view: View, rows: Sequence[Membership], member_events: Mapping[int, StoredEvent]
) -> dict[int, list[JsonObject]]:
    """room_nid -> the stripped state as of the user's invite or knock, which is among it."""
    known = [row for row in rows if row.stripped_state is None]
    own = await _own_state(view, known, member_events)
    result: dict[int, list[JsonObject]] = {}
    for row in rows:
        events = own.get(row.room_nid, [])
        if row.stripped_state is not None:
            events = stripped_state_shown(orjson.loads(row.stripped_state))
        member = member_events.get(row.event_nid)
        if member is not None and not any(_is_member(event, view.reader.user_id) for event in events):
            events.append(stripped_state_event(member.event))
        result[row.room_nid] = events
    return result


async def _own_state(
    view: View, rows: Sequence[Membership], member_events: Mapping[int, StoredEvent]
) -> dict[int, list[JsonObject]]:
    if not rows:
        return {}
    wanted: dict[int, list[StateKey]] = {}
    for row in rows:
        wanted[row.room_nid] = [(type, "") for type in _TYPES]
        member = member_events.get(row.event_nid)
        if member is not None and member.event.sender != view.reader.user_id:
            wanted[row.room_nid].append(("m.room.member", member.event.sender))
    keys = await view.names.state_key_nids({key for room_keys in wanted.values() for key in room_keys})
    spans = await state_of_keys(
        view.conn,
        [(StateRange(row.room_nid, row.pos, row.pos), keys[key]) for row in rows for key in wanted[row.room_nid]],
    )
    events = await events_by_nid(view.conn, [span.event_nid for span in spans])
    found: dict[int, list[JsonObject]] = {}
    for span in spans:
        if span.event_nid in events:
            found.setdefault(span.room_nid, []).append(stripped_state_event(events[span.event_nid].event))
    return found


def _is_member(event: JsonObject, user_id: str) -> bool:
    return bool(event["type"] == "m.room.member" and event["state_key"] == user_id)
