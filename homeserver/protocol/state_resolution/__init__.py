"""State resolution: one room state out of several that different branches of the event graph led to.

`resolve` is pure. What it may need is loaded before, which takes three steps, each with a function of the spec's name:

1. `separate` finds what the states disagree about, by comparing dictionaries only.
2. `auth_difference` and (room version 12) `conflicted_subgraph` extend that to the full conflicted set. They take auth
   chains and auth edges as plain sets and mappings, so whoever has an index of auth chains need not walk them.
3. `missing_events` says which events `resolve` would look at and doesn't have yet; load those until it names none.

Events on which all states agree are loaded only where an event of the full conflicted set depends on them, so the cost
follows the size of the conflict, not of the room.

One file a step of the algorithm: conflicted, power_sort, auth_checks, mainline_sort; v2 puts them together for room
versions 2 to 12, v1 is the older algorithm of room version 1. All walks are iterative.

# spec: server-server-api/#room-state-resolution  rooms/v1#state-resolution  rooms/v2#state-resolution
# spec: rooms/v12#state-resolution
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence, Set

from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.room_versions import RoomVersion, StateResolution
from homeserver.protocol.state_resolution import v1, v2
from homeserver.protocol.state_resolution.conflicted import (
    auth_chain,
    auth_difference,
    conflicted_subgraph,
    separate,
)
from homeserver.protocol.state_resolution.preload import missing_events

__all__ = ["auth_chain", "auth_difference", "conflicted_subgraph", "missing_events", "resolve", "separate"]


def resolve(
    room_version: RoomVersion,
    state_sets: Sequence[Mapping[StateKey, str]],
    full_conflicted: Set[str] | None,
    events: Mapping[str, Event],
    rejected: Container[str] = frozenset(),
) -> dict[StateKey, str]:
    """The resolution of some room states: a new dictionary from (type, state_key) to event id.

    :param state_sets: the states, each from (type, state_key) to event id; their order doesn't matter
    :param full_conflicted: ids of the full conflicted set; the conflicted state set itself may be left out of it. None
        computes it from `events`, which must then hold the whole auth chains (small rooms, tests). Room version 1 has
        no such notion and ignores it
    :param events: by id, every event that `missing_events` asked for. One that nobody has is treated as if it did not
        exist: in a state set as if that state had no such entry (so its key can be absent from the result, unless all
        states agree on it), in `auth_events` as if it were not cited
    :param rejected: ids of events that were rejected; they do not stand in for missing state in auth checks
    :returns: always with every entry on which all the states agree

    # spec: rooms/v1#state-resolution  rooms/v2#state-resolution  rooms/v12#state-resolution
    """
    if room_version.state_resolution is StateResolution.V1:
        return v1.resolve(state_sets, events)
    return v2.resolve(room_version, state_sets, full_conflicted, events, rejected)
