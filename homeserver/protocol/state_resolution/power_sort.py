"""The power events of a conflict and their order.  # spec: rooms/v2#definitions  rooms/v2#algorithm"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Set

from homeserver.protocol.events import Event
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.room_versions import RoomVersion


def is_power_event(event: Event) -> bool:
    """Whether the event might remove someone's ability to do something in the room.  # spec: rooms/v2#definitions"""
    if not event.is_state:
        return False
    if event.type == "m.room.member":
        return event.membership in ("leave", "ban") and event.sender != event.state_key
    return event.type in ("m.room.power_levels", "m.room.join_rules")


def power_events_with_chains(full_conflicted: Mapping[str, Event]) -> set[str]:
    """Step 1's set X: the power events of the full conflicted set, and what of it is in their auth chains.

    A chain is followed only within the full conflicted set: that is all of it that is loaded, and what others do.
    # spec: rooms/v2#algorithm
    """
    chosen = {event_id for event_id, event in full_conflicted.items() if is_power_event(event)}
    waiting = list(chosen)
    while waiting:
        for event_id in full_conflicted[waiting.pop()].auth_events:
            if event_id in full_conflicted and event_id not in chosen:
                chosen.add(event_id)
                waiting.append(event_id)
    return chosen


def cited_power_levels(event: Event, events: Mapping[str, Event]) -> Event | None:
    """The m.room.power_levels event among the event's auth events."""
    for event_id in event.auth_events:
        cited = events.get(event_id)
        if cited is not None and cited.type == "m.room.power_levels" and cited.state_key == "":
            return cited
    return None


def create_event_of(event: Event, events: Mapping[str, Event]) -> Event | None:
    """The m.room.create event that the event depends on: cited, or (room version 12 on) named by its room id."""
    if event.room_version.room_id_is_create_hash:
        return events.get("$" + event.room_id[1:])
    for event_id in event.auth_events:
        cited = events.get(event_id)
        if cited is not None and cited.type == "m.room.create":
            return cited
    return None


def reverse_topological_power_ordering(
    room_version: RoomVersion, event_ids: Set[str], events: Mapping[str, Event]
) -> list[Event]:
    """These events, each after its auth events; where that leaves a choice, by power, then time, then id.

    Events whose auth events go round in a circle (forged ones: an honest id is a hash) are left out.
    # spec: rooms/v2#definitions
    """
    levels: dict[tuple[str, str], PowerLevels] = {}

    def rank(event: Event) -> tuple[float, int, str]:
        # spec: rooms/v2#definitions (the level that the sender has in the event's own auth events)
        cited, create = cited_power_levels(event, events), create_event_of(event, events)
        key = (cited.event_id if cited else "", create.event_id if create else "")
        if key not in levels:
            levels[key] = PowerLevels.of(room_version, create, cited)
        return (-levels[key].user(event.sender), event.origin_server_ts, event.event_id)

    unmet, cited_by = _auth_graph(event_ids, events)
    candidates = [rank(events[event_id]) for event_id, count in unmet.items() if count == 0]
    heapq.heapify(candidates)
    ordered = []
    while candidates:
        event = events[heapq.heappop(candidates)[2]]
        ordered.append(event)
        for citing in cited_by.get(event.event_id, ()):
            unmet[citing] -= 1
            if unmet[citing] == 0:
                heapq.heappush(candidates, rank(events[citing]))
    return ordered


def _auth_graph(event_ids: Iterable[str], events: Mapping[str, Event]) -> tuple[dict[str, int], dict[str, list[str]]]:
    """How many of the others each event cites, and which of them cite each event."""
    unmet = dict.fromkeys(event_ids, 0)
    cited_by: dict[str, list[str]] = {}
    for event_id in unmet:
        for cited in set(events[event_id].auth_events):
            if cited in unmet:
                unmet[event_id] += 1
                cited_by.setdefault(cited, []).append(event_id)
    return unmet, cited_by
