"""State resolution of room versions 2 to 11, and as changed (v2.1) of room version 12.

# spec: rooms/v2#algorithm  rooms/v12#algorithm
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence, Set

from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.room_versions import RoomVersion, StateResolution
from homeserver.protocol.state_resolution.auth_checks import IterativeAuthChecks
from homeserver.protocol.state_resolution.conflicted import (
    auth_chain,
    auth_difference,
    conflicted_subgraph,
    separate,
)
from homeserver.protocol.state_resolution.mainline_sort import mainline_ordering
from homeserver.protocol.state_resolution.power_sort import (
    power_events_with_chains,
    reverse_topological_power_ordering,
)


def resolve(
    room_version: RoomVersion,
    state_sets: Sequence[Mapping[StateKey, str]],
    full_conflicted: Set[str] | None,
    events: Mapping[str, Event],
    rejected: Container[str],
) -> dict[StateKey, str]:
    """See `state_resolution.resolve`.  # spec: rooms/v2#algorithm  rooms/v12#algorithm"""
    unconflicted, conflicted = separate(state_sets)
    if not conflicted:
        return unconflicted
    if full_conflicted is None:
        full_conflicted = _full_conflicted_set(room_version, state_sets, unconflicted, conflicted, events)
    in_conflict = {
        event_id: event
        for event_id in conflicted | full_conflicted
        if (event := events.get(event_id)) is not None and event.is_state
    }
    # Step 1.
    power_ids = power_events_with_chains(in_conflict)
    ordered = reverse_topological_power_ordering(room_version, power_ids, events)
    # Step 2. # spec: rooms/v12#state-resolution (v2.1 starts from an empty state map)
    starts_empty = room_version.state_resolution is StateResolution.V2_1
    checks = IterativeAuthChecks(room_version, {} if starts_empty else unconflicted, events, rejected)
    checks.apply(ordered)
    # Step 3.
    remaining = [event for event_id, event in in_conflict.items() if event_id not in power_ids]
    ordered = mainline_ordering(remaining, checks.event_at(("m.room.power_levels", "")), events)
    # Step 4.
    checks.apply(ordered)
    # Step 5, without copying the unconflicted state map once more: it becomes the result.
    for key, event_id in checks.changes.items():
        unconflicted.setdefault(key, event_id)
    return unconflicted


def _full_conflicted_set(
    room_version: RoomVersion,
    state_sets: Sequence[Mapping[StateKey, str]],
    unconflicted: Mapping[StateKey, str],
    conflicted: Set[str],
    events: Mapping[str, Event],
) -> set[str]:
    """The full conflicted set, from events that hold the whole auth chains."""
    edges = {event_id: event.auth_events for event_id, event in events.items()}
    # The chain of what all states have is in all their chains, so it is walked once and left out of the difference.
    shared = auth_chain(unconflicted.values(), edges)
    chains = [
        auth_chain((event_id for event_id in state.values() if event_id in conflicted), edges) - shared
        for state in state_sets
    ]
    full = auth_difference(chains).union(conflicted)
    if room_version.state_resolution is StateResolution.V2_1:
        full |= conflicted_subgraph(conflicted, edges)
    return full
