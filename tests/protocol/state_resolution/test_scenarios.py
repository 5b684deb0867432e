"""What branches of a room come to when they meet: the races that the algorithm exists for, and its known faults."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion, StateResolution
from homeserver.protocol.state_resolution import resolve
from tests.protocol.rooms import ALICE, BOB, CHARLIE, DAVE, Room, versions

NEWER = pytest.mark.parametrize("version", versions(2))
LEVELS, RULES, TOPIC = ("m.room.power_levels", ""), ("m.room.join_rules", ""), ("m.room.topic", "")


def _merge(*branches: Room, rejected: frozenset[str] = frozenset()) -> dict[StateKey, Event]:
    """The resolution of the branches' states, which must be the same in whatever order they come."""
    first = branches[0]
    results = [
        resolve(first.version, [branch.ids for branch in order], None, first.events, rejected)
        for order in itertools.permutations(branches)
    ]
    assert all(result == results[0] for result in results)
    return {key: first.events[event_id] for key, event_id in results[0].items()}


def _users(room: Room, **changes: Any) -> dict[str, Any]:
    present: dict[str, Any] = room.state[LEVELS].content["users"]
    return present | {{"bob": BOB, "charlie": CHARLIE}[name]: level for name, level in changes.items()}


@NEWER
def test_equal_states_need_no_resolution(version: RoomVersion) -> None:
    """Branches without a difference resolve to what they are, even if no event is at hand."""
    room = Room.with_members(version, BOB)
    assert resolve(version, [room.ids, room.ids], frozenset(), {}) == room.ids
    assert resolve(version, [room.ids], frozenset(), {}) == room.ids
    assert resolve(version, [], frozenset(), {}) == {}


@NEWER
def test_a_ban_wins_over_a_join(version: RoomVersion) -> None:
    """Bob rejoins while Alice bans him: he is banned, whichever came first."""
    room = Room.with_members(version, BOB)
    left, right = room.fork(), room.fork()
    ban = left.member(ALICE, "ban", BOB)
    right.join(BOB)
    assert _merge(left, right)[("m.room.member", BOB)] == ban
    earlier, later = room.fork(), room.fork()
    earlier.join(BOB)
    ban = later.member(ALICE, "ban", BOB)
    assert _merge(earlier, later)[("m.room.member", BOB)] == ban


@NEWER
def test_the_banned_cannot_change_the_past(version: RoomVersion) -> None:
    """A topic that Bob sets beside his ban is gone after the merge, and the one before stays."""
    room = Room.with_members(version, BOB, levels={BOB: 50})
    before = room.topic(ALICE, "before")
    left, right = room.fork(), room.fork()
    ban = left.member(ALICE, "ban", BOB)
    right.topic(BOB, "evading")
    merged = _merge(left, right)
    assert (merged[TOPIC], merged[("m.room.member", BOB)]) == (before, ban)


@NEWER
def test_a_demotion_wins_over_what_the_demoted_do(version: RoomVersion) -> None:
    """Alice takes Bob's power while Bob gives Charlie some: the greater power decides, Charlie gets none."""
    room = Room.with_members(version, BOB, CHARLIE, levels={BOB: 50})
    left, right = room.fork(), room.fork()
    right.power_levels(BOB, users=_users(room, charlie=50))
    right.topic(CHARLIE, "mine now")
    demotion = left.power_levels(ALICE, users=_users(room, bob=0))
    merged = _merge(left, right)
    assert merged[LEVELS] == demotion
    assert TOPIC not in merged


@NEWER
def test_concurrent_power_levels_of_equals(version: RoomVersion) -> None:
    """Of two changes of power levels by users of equal power the later one stands."""
    room = Room.with_members(version, BOB, CHARLIE, levels={BOB: 50, CHARLIE: 50})
    left, right = room.fork(), room.fork()
    left.power_levels(BOB, ban=40)
    later = right.power_levels(CHARLIE, kick=40)
    assert _merge(left, right)[LEVELS] == later


@NEWER
def test_the_later_topic_wins(version: RoomVersion) -> None:
    """Two topics set under the same power levels: the later one stays, with equal times the greater event id."""
    room = Room.with_members(version, BOB, levels={BOB: 50})
    left, right = room.fork(), room.fork()
    later = left.topic(BOB, "later", ts=9001)
    right.topic(ALICE, "earlier", ts=9000)
    assert _merge(left, right)[TOPIC] == later
    left, right = room.fork(), room.fork()
    both = [left.topic(BOB, "x", ts=9000), right.topic(ALICE, "y", ts=9000)]
    assert _merge(left, right)[TOPIC] == max(both, key=lambda event: event.event_id)


@NEWER
def test_newer_power_levels_outrank_the_clock(version: RoomVersion) -> None:
    """A topic set under newer power levels wins over one under older ones that claims a later time.

    In version 12 the mainline starts at the power levels that were in conflict, so here they are.
    """
    room = Room.with_members(version, BOB, levels={BOB: 50})
    left, right = room.fork(), room.fork()
    left.topic(BOB, "claims to be later", ts=99999)
    right.power_levels(ALICE, ban=60)
    newer = right.topic(ALICE, "newer", ts=5)
    assert _merge(left, right)[TOPIC] == newer


@NEWER
def test_more_than_two_branches(version: RoomVersion) -> None:
    """Three branches resolve at once: the ban holds against what Bob does on both others."""
    room = Room.with_members(version, BOB, CHARLIE, levels={BOB: 50, CHARLIE: 50})
    first, second, third = room.fork(), room.fork(), room.fork()
    first.member(ALICE, "ban", BOB)
    second.topic(BOB, "evading")
    third.join_rules(BOB, "invite")
    name = third.add("m.room.name", CHARLIE, {"name": "n"}, "")
    merged = _merge(first, second, third)
    assert merged[("m.room.member", BOB)].membership == "ban"
    assert TOPIC not in merged
    assert merged[RULES] == room.state[RULES]
    assert merged[("m.room.name", "")] == name


@NEWER
def test_a_state_without_anything(version: RoomVersion) -> None:
    """Against an empty state everything is in conflict, and everything stays."""
    room = Room.with_members(version, BOB, levels={BOB: 50})
    room.topic(BOB, "topic")
    other = room.fork()
    other.state = {}
    assert _merge(room, other) == room.state


@NEWER
def test_rejected_events_do_not_stand_in(version: RoomVersion) -> None:
    """A rejected auth event is not used where the state lacks one, so what rests on it is not allowed."""
    room = Room.with_members(version, join_rule="invite")
    right = room.fork()
    invite = right.member(ALICE, "invite", BOB)
    join = right.join(BOB)
    claimed = room.fork()
    claimed.put(join)
    assert _merge(room, claimed)[join.key] == join
    chain = {event_id for event_id in room.events if event_id != invite.event_id}
    merged = resolve(version, [room.ids, claimed.ids], {join.event_id}, room.events, {invite.event_id})
    assert join.key not in merged
    assert resolve(version, [room.ids, claimed.ids], {join.event_id}, {i: room.events[i] for i in chain}) == merged


@NEWER
def test_an_outdated_join_rule_resets_only_before_version_12(version: RoomVersion) -> None:
    """A state that claims old join rules, after their author left, must not leave the room without any.

    Up to version 11 it does: both rules are judged by a state in which Alice is not. v2.1 starts from nothing, so each
    is judged by what it cites.  # spec: rooms/v12#state-resolution
    """
    room = Room.with_members(version, BOB, levels={BOB: 100})
    outdated = room.state[RULES]
    current = room.join_rules(ALICE, "invite")
    room.member(ALICE, "leave")
    wrong = room.fork()
    wrong.state[RULES] = outdated
    merged = _merge(room, wrong)
    if version.state_resolution is StateResolution.V2:
        assert RULES not in merged
    else:
        assert merged[RULES] == current
    assert merged[("m.room.member", ALICE)].membership == "leave"


@NEWER
def test_outdated_power_levels_reset_only_before_version_12(version: RoomVersion) -> None:
    """A state that claims old power levels must not undo promotions on which both branches rest.

    Alice promotes Bob, who promotes Charlie. Up to version 11 the events between are not replayed, so Bob's is refused.
    v2.1 replays the conflicted state subgraph.  # spec: rooms/v12#definitions
    """
    room = Room.with_members(version, BOB, CHARLIE)
    first = room.state[LEVELS]
    room.power_levels(ALICE, users=_users(room, bob=50))
    last = room.power_levels(BOB, users=_users(room, bob=50, charlie=50))
    room.join(DAVE)
    wrong = room.fork()
    wrong.state[LEVELS] = first
    merged = _merge(room, wrong)
    assert merged[LEVELS] == (first if version.state_resolution is StateResolution.V2 else last)


def test_a_creator_of_version_12_cannot_be_demoted() -> None:
    """Power levels that list a creator have no chance, neither beside others nor alone."""
    room = Room.with_members(ROOM_VERSIONS["12"], BOB, levels={BOB: 2**53 - 1})
    before = room.state[LEVELS]
    left, right = room.fork(), room.fork()
    left.power_levels(BOB, users={ALICE: 0, BOB: 2**53 - 1})
    assert _merge(left, right)[LEVELS] == before
    creators_own = right.power_levels(ALICE, users={})
    assert _merge(left, right)[LEVELS] == creators_own


def test_additional_creators_outrank_everyone_else() -> None:
    """In a race, what an additional creator does comes before what the highest number can."""
    room = Room.created(ROOM_VERSIONS["12"], additional_creators=[CHARLIE])
    room.join(ALICE)
    room.add("m.room.power_levels", ALICE, {"users": {BOB: 2**53 - 1}}, "")
    room.join_rules(ALICE, "public")
    room.join(BOB)
    room.join(CHARLIE)
    left, right = room.fork(), room.fork()
    right.power_levels(BOB, invite=2**53 - 1)
    demotion = left.power_levels(CHARLIE, users={})
    assert _merge(left, right)[LEVELS] == demotion


@NEWER
def test_events_that_nobody_has_are_left_out(version: RoomVersion) -> None:
    """A conflicted event that cannot be had is as if that state didn't have it; what all agree on stays."""
    room = Room.with_members(version, BOB)
    before = room.topic(ALICE, "before")
    other = room.fork()
    lost = other.topic(ALICE, "lost")
    del room.events[lost.event_id]
    assert _merge(room, other)[TOPIC] == before
    del room.events[before.event_id]
    merged = resolve(version, [room.ids, other.ids], None, room.events)
    assert merged == {key: event_id for key, event_id in room.ids.items() if key != TOPIC}
    assert resolve(version, [room.ids, other.ids], frozenset(), {}) == merged
