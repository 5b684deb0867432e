"""What holds for any branches of any room."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.auth_rules import check_auth
from homeserver.protocol.events import Event
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.room_versions import RoomVersion, StateResolution
from homeserver.protocol.state_resolution import (
    auth_chain,
    auth_difference,
    conflicted_subgraph,
    missing_events,
    resolve,
    separate,
)
from tests.protocol.rooms import ALICE, BOB, VERSIONS, Room
from tests.protocol.state_resolution.histories import Step, branches, histories

History = tuple[RoomVersion, list[Step]]


def _shuffled(mapping: dict[Any, Any], seed: int) -> dict[Any, Any]:
    items = list(mapping.items())
    random.Random(seed).shuffle(items)
    return dict(items)


def _full_conflicted(version: RoomVersion, rooms: list[Room]) -> set[str]:
    """The full conflicted set, as a caller with an index of auth chains would get it: from whole chains."""
    edges = {event_id: event.auth_events for event_id, event in rooms[0].events.items()}
    _, conflicted = separate([room.ids for room in rooms])
    full = conflicted | auth_difference([auth_chain(room.ids.values(), edges) for room in rooms])
    if version.state_resolution is StateResolution.V2_1:
        full |= conflicted_subgraph(conflicted, edges)
    return full


@given(histories, st.integers())
def test_no_order_of_the_input_matters(history: History, seed: int) -> None:
    """The result is the same for any order of the states, of their entries and of the events."""
    version, steps = history
    rooms = branches(version, steps)
    states, events = [room.ids for room in rooms], rooms[0].events
    expected = resolve(version, states, None, events)
    shuffled = [_shuffled(state, seed) for state in random.Random(seed).sample(states, len(states))]
    assert resolve(version, shuffled, None, _shuffled(events, seed)) == expected
    assert resolve(version, [*states, states[seed % 3]], None, events) == expected
    full = _full_conflicted(version, rooms)
    assert resolve(version, states, full, events) == expected
    assert states == [room.ids for room in rooms]


@given(histories)
def test_what_is_agreed_on_stays(history: History) -> None:
    """The result holds every unconflicted entry, and resolving it with itself changes nothing."""
    version, steps = history
    rooms = branches(version, steps)
    states = [room.ids for room in rooms]
    unconflicted, conflicted = separate(states)
    result = resolve(version, states, None, rooms[0].events)
    assert unconflicted.items() <= result.items()
    assert all(rooms[0].events[event_id].key == key for key, event_id in result.items())
    assert set(result.values()) <= set(unconflicted.values()) | conflicted | _full_conflicted(version, rooms)
    assert resolve(version, [result, dict(result)], None, rooms[0].events) == result


@given(histories)
def test_the_resolved_state_is_authorised(history: History) -> None:
    """Topics and names that come in on a branch are by users whom the resolved state allows to set them: with the power
    for it, and not banned. (Room version 1 takes what only one state has without looking.)"""
    version, steps = history
    if version.state_resolution is StateResolution.V1:
        return
    rooms = branches(version, steps)
    events = rooms[0].events
    _, conflicted = separate([room.ids for room in rooms])
    result = resolve(version, [room.ids for room in rooms], None, events)
    levels = PowerLevels.of(version, rooms[0].create, events[result[("m.room.power_levels", "")]])
    for event in (events[event_id] for event_id in conflicted & set(result.values())):
        cited = [events[event_id] for event_id in event.auth_events]
        check_auth(event, {auth_event.key: auth_event for auth_event in cited}, create=rooms[0].create)
        if event.type in ("m.room.topic", "m.room.name"):
            assert levels.user(event.sender) >= 50
            assert events[result[("m.room.member", event.sender)]].membership != "ban"


@given(histories)
def test_what_is_asked_for_is_enough(history: History) -> None:
    """`missing_events` names all that `resolve` looks at: with no other events at hand the result is the same."""
    version, steps = history
    rooms = branches(version, steps)
    states, everything = [room.ids for room in rooms], rooms[0].events
    unconflicted, _ = separate(states)
    full = _full_conflicted(version, rooms)
    loaded: dict[str, Event] = {}
    while missing := missing_events(version, unconflicted, full, loaded):
        loaded |= {event_id: everything[event_id] for event_id in missing}
    assert resolve(version, states, full, loaded) == resolve(version, states, full, everything)


@given(histories, st.integers(), st.floats(0, 1))
def test_holes_do_no_harm(history: History, seed: int, share: float) -> None:
    """With any events missing, resolution ends, agrees with itself, and keeps what is agreed on."""
    version, steps = history
    rooms = branches(version, steps)
    states = [room.ids for room in rooms]
    chance = random.Random(seed)
    known = {event_id: event for event_id, event in rooms[0].events.items() if chance.random() < share}
    rejected = {event_id for event_id in known if chance.random() < 0.1}
    result = resolve(version, states, None, known, rejected)
    assert separate(states)[0].items() <= result.items()
    assert resolve(version, states[::-1], None, _shuffled(known, seed), rejected) == result


@pytest.mark.parametrize("version", VERSIONS)
def test_agreed_members_are_not_loaded(version: RoomVersion) -> None:
    """Of those whom the states agree on, only who has to do with the conflict is asked for."""
    room = Room.with_members(version, BOB, *(f"@user{i}:u.example" for i in range(50)), levels={BOB: 50})
    left, right = room.fork(), room.fork()
    left.topic(ALICE, "a")
    right.topic(BOB, "b")
    states = [left.ids, right.ids]
    unconflicted, conflicted = separate(states)
    loaded: dict[str, Event] = {}
    while missing := missing_events(version, unconflicted, conflicted, loaded):
        loaded |= {event_id: room.events[event_id] for event_id in missing}
    assert {event.state_key for event in loaded.values() if event.type == "m.room.member"} == {ALICE, BOB}
    assert resolve(version, states, conflicted, loaded) == resolve(version, states, None, room.events)
