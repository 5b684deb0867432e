"""Reverse topological power ordering and mainline ordering."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest

from homeserver.protocol.events import Event
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from homeserver.protocol.state_resolution.mainline_sort import mainline, mainline_ordering
from homeserver.protocol.state_resolution.power_sort import (
    is_power_event,
    power_events_with_chains,
    reverse_topological_power_ordering,
)
from tests.protocol.rooms import ALICE, BOB, CHARLIE, Room, versions

NEWER = pytest.mark.parametrize("version", versions(2))
V10 = ROOM_VERSIONS["10"]
DEEP = 100_000


def _bare(event_id: str, type: str, auth_events: Sequence[str], ts: int = 0, sender: str = ALICE) -> Event:
    pdu = {
        "room_id": "!r:a.example", "type": type, "sender": sender, "content": {}, "depth": 1, "state_key": "",
        "origin_server_ts": ts, "prev_events": [], "auth_events": list(auth_events),
    }  # fmt: skip
    return Event(pdu, V10, event_id)


def _by_id(*events: Event) -> dict[str, Event]:
    return {event.event_id: event for event in events}


def _power_order(version: RoomVersion, room: Room, *events: Event) -> list[Event]:
    ids = [event.event_id for event in events]
    orders = []
    for shuffled in itertools.islice(itertools.permutations(ids), 12):
        orders.append(reverse_topological_power_ordering(version, dict.fromkeys(shuffled).keys(), room.events))
    assert all(order == orders[0] for order in orders)
    return orders[0]


@NEWER
def test_which_events_have_power(version: RoomVersion) -> None:
    """Power levels, join rules, kicks and bans are power events; leaving, joining, messages and topics are not."""
    room = Room.with_members(version, BOB)
    assert is_power_event(room.make("m.room.power_levels", ALICE, {}, ""))
    assert is_power_event(room.make("m.room.join_rules", ALICE, {}, ""))
    assert is_power_event(room.make("m.room.member", ALICE, {"membership": "leave"}, BOB))
    assert is_power_event(room.make("m.room.member", ALICE, {"membership": "ban"}, BOB))
    assert not is_power_event(room.make("m.room.member", BOB, {"membership": "leave"}, BOB))
    assert not is_power_event(room.make("m.room.member", ALICE, {"membership": "invite"}, BOB))
    assert not is_power_event(room.make("m.room.topic", ALICE, {}, ""))
    assert not is_power_event(room.make("m.room.power_levels", ALICE, {}))
    assert not is_power_event(room.create)


@NEWER
def test_power_events_bring_what_they_rest_on(version: RoomVersion) -> None:
    """The auth chain of a power event joins it as far as it is in the full conflicted set."""
    room = Room.with_members(version, BOB, CHARLIE, levels={BOB: 50})
    rejoined, kick = room.join(BOB), room.member(BOB, "leave", CHARLIE)
    topic = room.topic(ALICE, "topic")
    in_conflict = _by_id(rejoined, kick, topic)
    assert power_events_with_chains(in_conflict) == {rejoined.event_id, kick.event_id}


@NEWER
def test_auth_events_come_first(version: RoomVersion) -> None:
    """An event follows its auth events even if power and time would have it the other way round."""
    room = Room.with_members(version, BOB, CHARLIE, levels={BOB: 50})
    first = room.power_levels(ALICE, users=room.state[("m.room.power_levels", "")].content["users"] | {CHARLIE: 40})
    second = room.add("m.room.power_levels", BOB, first.content, "", ts=900)
    third = room.add("m.room.power_levels", ALICE, first.content, "", ts=800)
    assert _power_order(version, room, first, second, third) == [first, second, third]


@NEWER
def test_power_then_time_then_id(version: RoomVersion) -> None:
    """Where the graph leaves a choice, greater power comes first, then the earlier time, then the smaller id."""
    room = Room.with_members(version, BOB, CHARLIE, levels={BOB: 50, CHARLIE: 60})
    early = room.fork().add("m.room.join_rules", BOB, {}, "", ts=10)
    late = [room.fork().add("m.room.join_rules", BOB, {"join_rule": str(n)}, "", ts=20) for n in range(3)]
    charlie = room.fork().add("m.room.join_rules", CHARLIE, {}, "", ts=30)
    alice = room.fork().add("m.room.join_rules", ALICE, {}, "", ts=40)
    expected = [alice, charlie, early, *sorted(late, key=lambda event: event.event_id)]
    assert _power_order(version, room, early, *late, charlie, alice) == expected


@NEWER
def test_power_is_what_the_event_cites(version: RoomVersion) -> None:
    """The sender's power is read from the event's own auth events, without power levels the creator's default."""
    room = Room.with_members(version, BOB, levels={BOB: 50})
    demoted = room.fork()
    demoted.power_levels(ALICE, users={} if version.privileged_creators else {ALICE: 100})
    after = demoted.add("m.room.join_rules", BOB, {}, "", ts=1)
    before = room.fork().add("m.room.join_rules", BOB, {}, "", ts=2)
    cited = [] if version.room_id_is_create_hash else [room.create]
    creator = room.fork().add("m.room.join_rules", ALICE, {}, "", ts=3, auth_events=cited)
    assert _power_order(version, room, after, before, creator) == [creator, before, after]


def test_circles_are_left_out() -> None:
    """Events that cite each other in a circle are not ordered, the others are."""
    events = _by_id(_bare("$a", "t", ["$b"]), _bare("$b", "t", ["$a"]), _bare("$c", "t", []), _bare("$d", "t", ["$c"]))
    assert [event.event_id for event in reverse_topological_power_ordering(V10, set(events), events)] == ["$c", "$d"]


def test_deep_chains_do_not_overflow() -> None:
    """100,000 power levels events in a row are ordered, and are a mainline, without recursion."""
    ids = [f"${i}" for i in range(DEEP)]
    events = {
        event_id: _bare(event_id, "m.room.power_levels", ids[i - 1 : i] if i else []) for i, event_id in enumerate(ids)
    }
    ordered = reverse_topological_power_ordering(V10, set(ids), events)
    assert [event.event_id for event in ordered] == ids
    assert mainline(events[ids[-1]], events) == ids[::-1]
    aside = _bare("$aside", "t", [ids[500]])
    assert mainline_ordering([events[ids[-1]], aside], events[ids[-1]], events) == [aside, events[ids[-1]]]


def test_mainline_order() -> None:
    """Events under older power levels come first, those under none of the mainline before all, then by time and id."""
    p0, p1, p2 = (_bare(f"$p{i}", "m.room.power_levels", [f"$p{i - 1}"] if i else []) for i in range(3))
    side = _bare("$side", "m.room.power_levels", ["$p1"])
    stray = _bare("$stray", "m.room.power_levels", [])
    expected = [
        _bare("$none", "t", [], ts=8), _bare("$off", "t", ["$stray"], ts=9), _bare("$old", "t", ["$p0"], ts=7),
        _bare("$b", "t", ["$side"], ts=3), _bare("$a", "t", ["$p1"], ts=4), _bare("$c", "t", ["$side"], ts=4),
        _bare("$new", "t", ["$p2"], ts=1),
    ]  # fmt: skip
    events = _by_id(p0, p1, p2, side, stray, *expected)
    for seed in range(20):
        shuffled = random.Random(seed).sample(expected, len(expected))
        assert mainline_ordering(shuffled, p2, events) == expected


def test_mainline_order_without_power_levels() -> None:
    """Without a power levels event to start from, time and id decide."""
    later, earlier = _bare("$a", "t", [], ts=2), _bare("$b", "t", ["$p"], ts=1)
    events = _by_id(later, earlier, _bare("$p", "m.room.power_levels", []))
    assert mainline_ordering([later, earlier], None, events) == [earlier, later]


def test_circles_end_the_mainline() -> None:
    """Power levels events that cite each other in a circle are walked once."""
    events = _by_id(_bare("$a", "m.room.power_levels", ["$b"]), _bare("$b", "m.room.power_levels", ["$a"]))
    assert mainline(events["$a"], events) == ["$a", "$b"]
    outside = _bare("$c", "t", ["$a"])
    assert mainline_ordering([outside], None, events) == [outside]
