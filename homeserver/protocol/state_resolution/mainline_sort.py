"""The order of the events without power: by the power levels event that they were sent under.

# spec: rooms/v2#definitions
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from homeserver.protocol.events import Event
from homeserver.protocol.state_resolution.power_sort import cited_power_levels


def mainline(power_levels: Event | None, events: Mapping[str, Event]) -> list[str]:
    """The ids of the mainline of an m.room.power_levels event, that event first; empty without one.

    # spec: rooms/v2#definitions
    """
    line: dict[str, None] = {}
    while power_levels is not None and power_levels.event_id not in line:
        line[power_levels.event_id] = None
        power_levels = cited_power_levels(power_levels, events)
    return list(line)


def mainline_ordering(to_sort: Iterable[Event], power_levels: Event | None, events: Mapping[str, Event]) -> list[Event]:
    """The events in the mainline ordering based on that m.room.power_levels event.

    Each m.room.power_levels event is walked over once, however many of the events lead to it.
    # spec: rooms/v2#definitions
    """
    positions: dict[str, float] = {
        event_id: position for position, event_id in enumerate(mainline(power_levels, events))
    }

    def rank(event: Event) -> tuple[float, int, str]:
        return (-_position(event, positions, events), event.origin_server_ts, event.event_id)

    return sorted(to_sort, key=rank)


def _position(event: Event, positions: dict[str, float], events: Mapping[str, Event]) -> float:
    """The event's mainline position; remembers in `positions` that of every event passed on the way."""
    passed: list[str] = []
    position = math.inf
    current = cited_power_levels(event, events)
    while current is not None:
        known = positions.get(current.event_id)
        if known is not None:
            position = known
            break
        # Until the end of the walk is known it counts as nowhere, which also ends a walk in a (forged) circle.
        positions[current.event_id] = math.inf
        passed.append(current.event_id)
        current = cited_power_levels(current, events)
    for event_id in passed:
        positions[event_id] = position
    return position
