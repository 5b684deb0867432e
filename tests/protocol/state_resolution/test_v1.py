"""The state resolution of room version 1."""

from __future__ import annotations

from hashlib import sha1

from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.protocol.state_resolution import resolve
from tests.protocol.rooms import ALICE, BOB, CHARLIE, Room

V1 = ROOM_VERSIONS["1"]
LEVELS, RULES, TOPIC = ("m.room.power_levels", ""), ("m.room.join_rules", ""), ("m.room.topic", "")


def _merge(*branches: Room) -> dict[StateKey, Event]:
    forward = resolve(V1, [branch.ids for branch in branches], None, branches[0].events)
    assert forward == resolve(V1, [branch.ids for branch in reversed(branches)], None, branches[0].events)
    return {key: branches[0].events[event_id] for key, event_id in forward.items()}


def _room() -> Room:
    return Room.with_members(V1, BOB, levels={BOB: 50})


def _sha1(event: Event) -> str:
    return sha1(event.event_id.encode()).hexdigest()


def test_a_key_of_only_one_state_is_no_conflict() -> None:
    """What only some states have is in the union, not in conflict."""
    room = _room()
    other = room.fork()
    topic = other.topic(BOB, "topic")
    assert _merge(room, other)[TOPIC] == topic
    assert _merge(room, room) == room.state


def test_the_deepest_allowed_event_wins() -> None:
    """Of other events in conflict the deepest that the resolved state allows is taken, by any clock."""
    room = _room()
    left, right = room.fork(), room.fork()
    left.topic(ALICE, "shallow", ts=99999)
    right.add("m.room.message", BOB)
    deep = right.topic(BOB, "deep")
    assert _merge(left, right)[TOPIC] == deep
    ban = left.member(ALICE, "ban", BOB)
    right.add("m.room.member", BOB, {"membership": "join"}, BOB, depth=1)
    merged = _merge(left, right)
    assert merged[("m.room.member", BOB)] == ban
    assert merged[TOPIC] == left.state[TOPIC]


def test_equal_depths_are_told_apart_by_hash() -> None:
    """At equal depth the lowest SHA-1 of the event id wins."""
    room = _room()
    branches = [room.fork() for _ in range(4)]
    topics = [branch.topic(BOB, "x") for branch in branches]
    assert _merge(*branches)[TOPIC] == min(topics, key=_sha1)
    branches = [room.fork() for _ in range(4)]
    members = [branch.join(CHARLIE) for branch in branches]
    assert _merge(*branches)[("m.room.member", CHARLIE)] == min(members, key=_sha1)


def test_power_levels_are_taken_until_one_is_refused() -> None:
    """Conflicting power levels, by depth: the first unchecked, then each that the one before allows, up to the first
    that isn't."""
    room = _room()
    first, second, third = room.fork(), room.fork(), room.fork()
    users = room.state[LEVELS].content["users"]
    demotion = first.power_levels(ALICE, users=users | {BOB: 0})
    second.add("m.room.message", BOB)
    second.power_levels(BOB, ban=40)
    for _ in range(2):
        third.add("m.room.message", BOB)
    third.power_levels(ALICE, ban=30)
    assert _merge(first, second, third)[LEVELS] == demotion
    assert _merge(first, third)[LEVELS] == third.state[LEVELS]


def test_what_no_state_allows_is_dropped() -> None:
    """If none of the conflicting events is allowed, the key is empty."""
    room = Room.with_members(V1, BOB)
    left, right = room.fork(), room.fork()
    left.topic(BOB, "no power")
    right.topic(CHARLIE, "not a member")
    assert TOPIC not in _merge(left, right)


def test_join_rules_come_before_members() -> None:
    """Memberships in conflict are judged by the join rules as resolved."""
    room = Room.with_members(V1, BOB, levels={BOB: 50})
    room.member(BOB, "invite", CHARLIE)
    left, right = room.fork(), room.fork()
    left.join_rules(ALICE, "invite")
    left.add("m.room.message", ALICE)
    left.add("m.room.message", ALICE)
    right.join_rules(ALICE, "public")
    right.join_rules(ALICE, "invite")
    left.join(CHARLIE)
    right.member(CHARLIE, "leave")
    merged = _merge(left, right)
    assert merged[RULES] == right.state[RULES]
    assert merged[("m.room.member", CHARLIE)] == right.state[("m.room.member", CHARLIE)]


def test_events_that_nobody_has_are_left_out() -> None:
    """A conflict of which no event can be had leaves its key empty, and nothing is raised."""
    room = _room()
    left, right = room.fork(), room.fork()
    lost = left.topic(BOB, "a")
    kept = right.topic(BOB, "b")
    del room.events[lost.event_id]
    assert _merge(left, right)[TOPIC] == kept
    expected = {key: event_id for key, event_id in room.ids.items() if key != TOPIC}
    assert resolve(V1, [left.ids, right.ids], None, {}) == expected
