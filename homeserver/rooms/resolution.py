"""The state where branches of a room's history meet: loads what the resolution algorithm looks at, and runs it.

States come and go as numbers (state_key_nid -> event_nid). Only what they disagree about, and what that depends on, is
turned into events; the members whom all branches agree on are compared as integers and never touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from homeserver.protocol.auth_rules import auth_event_keys
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.room_versions import RoomVersion, StateResolution
from homeserver.protocol.state_resolution import auth_difference, conflicted_subgraph, missing_events, resolve
from homeserver.storage.events import StoredEvent, auth_chain_nids, auth_edges, events_by_id, events_by_nid, ids_of
from homeserver.storage.names import Names, Room
from homeserver.storage.state_snapshots import State, StateSnapshots
from homeserver.storage.stream import Connection

_MOST_ROUNDS = 1_000  # of loading; each goes one m.room.power_levels event further back


async def state_after(conn: Connection, snapshots: StateSnapshots, stored: StoredEvent) -> State:
    """The state after an event whose place in the DAG is known.  # spec: rooms/v2#state-resolution"""
    before = await snapshots.load(conn, stored.snapshot_nid)
    if stored.state_key_nid is None or stored.status.rejected:
        return before
    return {**before, stored.state_key_nid: stored.nid}


async def resolve_states(conn: Connection, names: Names, room: Room, states: Sequence[State]) -> State:
    """The resolution of these states; one of them, if they all agree."""
    if all(state == states[0] for state in states[1:]):
        return states[0]
    conflicted_keys = _conflicted_keys(states)
    unconflicted = {key: nid for key, nid in states[0].items() if key not in conflicted_keys}
    full_conflicted = await _full_conflicted(conn, room.version, states, conflicted_keys, unconflicted)
    events = {stored.event.event_id: stored for stored in (await events_by_nid(conn, full_conflicted)).values()}

    keys_needed = _keys_depended_on(stored.event for stored in events.values())
    key_nids = await names.state_key_nids(keys_needed)
    shared = {key: unconflicted[nid] for key, nid in key_nids.items() if nid in unconflicted}
    ids = await ids_of(conn, shared.values())
    shared_ids = {key: ids[nid] for key, nid in shared.items()}
    ids.update((stored.nid, event_id) for event_id, stored in events.items())

    conflicted_names = await names.state_keys(conflicted_keys)
    state_sets = [
        shared_ids | {conflicted_names[key]: ids[state[key]] for key in conflicted_keys if key in state}
        for state in states
    ]
    loaded = await _load(conn, room.version, shared_ids, set(events), events)
    rejected = {event_id for event_id, stored in loaded.items() if stored.status.rejected}
    resolved = resolve(
        room.version, state_sets, set(events), {event_id: stored.event for event_id, stored in loaded.items()}, rejected
    )
    # The result holds keys that no state disagreed about only as far as they were passed in above.
    result = dict(unconflicted)
    for key in conflicted_keys:
        event_id = resolved.get(conflicted_names[key])
        if event_id is not None:
            result[key] = loaded[event_id].nid
    return result


def _conflicted_keys(states: Sequence[State]) -> set[int]:
    agreed = set(states[0].items()).intersection(*(state.items() for state in states[1:]))
    return {key for state in states for key, _ in state.items() - agreed}


async def _full_conflicted(
    conn: Connection,
    version: RoomVersion,
    states: Sequence[State],
    conflicted_keys: set[int],
    unconflicted: Mapping[int, int],
) -> set[int]:
    conflicted_of = [{state[key] for key in conflicted_keys if key in state} for state in states]
    conflicted = set().union(*conflicted_of)
    if version.state_resolution is StateResolution.V1:
        return conflicted
    chains = [nids | await auth_chain_nids(conn, nids) for nids in conflicted_of]
    # What all states share is in all their chains, whether or not it was walked through above.
    difference = {int(nid) for nid in auth_difference([_as_ids(chain) for chain in chains])}
    if difference - conflicted:
        shared = set(unconflicted.values())
        difference -= (await auth_chain_nids(conn, shared) | shared) - conflicted
    full = conflicted | difference
    if version.state_resolution is StateResolution.V2_1:
        edges = await auth_edges(conn, set().union(*chains))
        full |= {int(nid) for nid in conflicted_subgraph(_as_ids(conflicted), edges)}
    return full


def _as_ids(nids: Iterable[int]) -> set[str]:
    # The protocol's functions speak of event ids; any one-to-one name does where only identity counts.
    return {str(nid) for nid in nids}


def _keys_depended_on(events: Iterable[Event]) -> set[StateKey]:
    keys: set[StateKey] = {("m.room.create", ""), ("m.room.power_levels", "")}
    for event in events:
        keys.update(
            auth_event_keys(
                event.room_version,
                type=event.type,
                sender=event.sender,
                state_key=event.state_key,
                content=event.content,
            )
        )
    return keys


async def _load(
    conn: Connection,
    version: RoomVersion,
    unconflicted: Mapping[StateKey, str],
    full_conflicted: set[str],
    events: dict[str, StoredEvent],
) -> dict[str, StoredEvent]:
    loaded, asked = dict(events), set(events)
    for _ in range(_MOST_ROUNDS):
        plain = {event_id: stored.event for event_id, stored in loaded.items()}
        missing = missing_events(version, unconflicted, full_conflicted, plain) - asked
        if not missing:
            break
        asked |= missing
        loaded.update(await events_by_id(conn, missing))
    return loaded
