"""Stored events as one client is shown them: the client format with what this server says of each in `unsigned`.

# spec: client-server-api/#room-event-format
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from homeserver.protocol.client_event import client_event
from homeserver.protocol.events import JsonObject
from homeserver.protocol.filters import FieldTree, apply_event_fields
from homeserver.rooms.visibility import Sight
from homeserver.storage.erased_users import erased_users, redacted_form
from homeserver.storage.events import StoredEvent, events_by_nid
from homeserver.storage.stream import Connection
from homeserver.storage.timeline_reads import replaced_state
from homeserver.storage.transactions import own_transactions
from homeserver.sync.aggregations import aggregations


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads, and with which device."""

    user_id: str
    user_nid: int
    device_id: str | None


@dataclass(frozen=True, slots=True)
class Shape:
    """The form in which a client wants events: as filters put it, and whether each names its room."""

    room_id: bool = True
    fields: FieldTree | None = None
    federation: bool = False


_CLIENT_SHAPE = Shape()


async def timeline_events(
    conn: Connection,
    reader: Reader,
    events: Sequence[StoredEvent],
    sights: Mapping[int, Sight],
    shape: Shape = _CLIENT_SHAPE,
    bundled: Collection[int] | None = None,
) -> dict[int, JsonObject]:
    """event_nid -> the event as this client is shown it in a timeline, with its aggregations.

    :param sights: by room, where the user's membership may not have been "join" all along the events
    :param bundled: the rooms whose events get their aggregations; without it, all
    # spec: client-server-api/#room-event-format
    """
    parents = events if bundled is None else [event for event in events if event.room_nid in bundled]
    found = await aggregations(conn, reader.user_id, reader.user_nid, parents, sights)
    every = found.with_children(events)
    pruned = await _without_the_erased(conn, every, sights)
    unsigned = await _unsigned_of_all(conn, reader, every, sights, shape)
    for nid in pruned:
        unsigned[nid].pop("prev_content", None)
    nested = replace(shape, fields=None)

    def show_nested(event: StoredEvent) -> JsonObject:
        return _show(pruned.get(event.nid, event), unsigned[event.nid], nested)

    # The latest events of threads first: they are shown inside others.
    for event in [*found.latest_in_threads, *events]:
        if relations := found.of(event, show_nested):
            unsigned[event.nid]["m.relations"] = relations
    return {event.nid: _show(pruned.get(event.nid, event), unsigned[event.nid], shape) for event in events}


async def _without_the_erased(
    conn: Connection, events: Sequence[StoredEvent], sights: Mapping[int, Sight]
) -> dict[int, StoredEvent]:
    """event_nid -> the redacted form of what users who wanted to be forgotten said while the reader was not there.

    What they set for the room as a whole, its name or its rules, stays what it is.
    # spec: client-server-api/#account-deactivation
    """
    unheard = [
        event
        for event in events
        if (sight := sights.get(event.room_nid)) is not None
        and event.ord is not None
        and (not event.event.is_state or event.event.type == "m.room.member")
        and sight.membership_at_ord(event.ord) != "join"
    ]
    if not unheard:
        return {}
    erased = await erased_users(conn, {event.event.sender for event in unheard})
    return {event.nid: redacted_form(event) for event in unheard if event.event.sender in erased}


async def _unsigned_of_all(
    conn: Connection, reader: Reader, events: Sequence[StoredEvent], sights: Mapping[int, Sight], shape: Shape
) -> dict[int, JsonObject]:
    now = int(time.time() * 1000)
    replaced = await replaced_state(conn, events)
    redactions = await _redactions(conn, [*events, *replaced.values()])
    transactions: dict[int, str] = {}
    delay_ids: dict[int, str] = {}
    if own := [event.nid for event in events if event.event.sender == reader.user_id]:
        transactions, delay_ids = await own_transactions(conn, reader.user_nid, reader.device_id, own)
    all_unsigned: dict[int, JsonObject] = {}
    for event in events:
        sight = sights.get(event.room_nid)
        unsigned = _unsigned(event, now, redactions, shape)
        membership = "join"
        if sight is not None and event.ord is not None:
            membership = sight.membership_at_ord(event.ord)
        unsigned["membership"] = membership
        if event.nid in transactions:
            unsigned["transaction_id"] = transactions[event.nid]
        if event.nid in delay_ids:
            unsigned["org.matrix.msc4140.delay_id"] = delay_ids[event.nid]
        before = replaced.get(event.nid)
        if before is not None:
            unsigned["replaces_state"] = before.event.event_id
            # Someone who was in the room at the event has had the state before it.
            if sight is None or membership == "join" or (before.ord is not None and sight.sees(before.ord)):
                unsigned["prev_content"] = before.event.content
                unsigned["prev_sender"] = before.event.sender
        all_unsigned[event.nid] = unsigned
    return all_unsigned


async def state_events(
    conn: Connection, events: Sequence[StoredEvent], shape: Shape = _CLIENT_SHAPE
) -> list[JsonObject]:
    """The events as parts of a room's state, where what they replaced is of no interest."""
    now = int(time.time() * 1000)
    redactions = await _redactions(conn, events)
    return [_show(event, _unsigned(event, now, redactions, shape), shape) for event in events]


def _unsigned(event: StoredEvent, now: int, redactions: Mapping[int, StoredEvent], shape: Shape) -> JsonObject:
    unsigned: JsonObject = {"age": now - event.event.origin_server_ts}
    because = redactions.get(event.redacted_by) if event.redacted_by is not None else None
    if because is not None:
        age = {"age": now - because.event.origin_server_ts}
        unsigned["redacted_because"] = client_event(because.event, unsigned=age, include_room_id=shape.room_id)
    return unsigned


def _show(event: StoredEvent, unsigned: JsonObject, shape: Shape) -> JsonObject:
    if shape.federation:
        json = {**event.event.json, "unsigned": unsigned}
    else:
        json = client_event(event.event, unsigned=unsigned, include_room_id=shape.room_id)
    return apply_event_fields(json, shape.fields)


async def _redactions(conn: Connection, events: Sequence[StoredEvent]) -> dict[int, StoredEvent]:
    nids = {event.redacted_by for event in events if event.redacted_by is not None}
    return await events_by_nid(conn, nids) if nids else {}
