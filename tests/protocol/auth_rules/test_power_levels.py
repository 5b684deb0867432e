"""The rule on m.room.power_levels: 10 up to version 5 and from 12 on, 9 between."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.room_versions import RoomVersion
from tests.protocol.auth_rules.refusals import assert_verdict, verdict
from tests.protocol.rooms import ALICE, BOB, CHARLIE, DAVE, VERSIONS, Room, versions

EVERY = pytest.mark.parametrize("version", VERSIONS)
SINGLE = ["users_default", "events_default", "state_default", "ban", "redact", "kick", "invite"]


def _room(version: RoomVersion, **content: Any) -> Room:
    """Bob and Charlie have 50, Dave 30; nobody but the creator has more."""
    room = Room.with_members(version, BOB, CHARLIE, DAVE, levels={BOB: 50, CHARLIE: 50, DAVE: 30})
    room.power_levels(ALICE, **content)
    return room


def _change(room: Room, sender: str = BOB, without: str | None = None, **changes: Any) -> Any:
    content = {key: value for key, value in room.state[("m.room.power_levels", "")].content.items() if key != without}
    return room.make("m.room.power_levels", sender, content | changes, "")


def _level(key: str, level: Any) -> dict[str, Any]:
    return {key: level}


def _users(room: Room, **changes: int | None) -> dict[str, Any]:
    names = {"alice": ALICE, "bob": BOB, "charlie": CHARLIE, "dave": DAVE, "eve": "@eve:e.example"}
    users = dict(room.state[("m.room.power_levels", "")].content["users"])
    for name, level in changes.items():
        users[names[name]] = level
        if level is None:
            del users[names[name]]
    return users


@EVERY
@pytest.mark.parametrize(
    "users", [None, [], "x", 1, {"bob": 1}, {"": 1}, {BOB: None}, {BOB: []}, {BOB: "x"}, {BOB: True}]
)
def test_users_are_users_with_levels(version: RoomVersion, users: Any) -> None:
    """10.1 (9.3 from version 10 on): users is an object from user ids to integers."""
    room = _room(version)
    assert_verdict(room, _change(room, ALICE, users=users), {1: "10.1", 6: "9.1", 10: "9.3", 12: "10.3"})


@EVERY
def test_strings_are_levels_only_before_version_10(version: RoomVersion) -> None:
    """10.1: a string that is an integer is one up to version 9, and compares as that integer."""
    room = _room(version)
    event = _change(room, users={user: f" 0{level} " for user, level in _users(room).items()})
    assert_verdict(room, event, {1: "", 10: "9.3", 12: "10.3"})


@EVERY
@pytest.mark.parametrize("level", [math.inf, -math.inf, math.nan, 1 << 1025])
def test_levels_beyond_doubles_are_refused(version: RoomVersion, level: Any) -> None:
    """10.1: up to version 5 no level may be outside of what a double holds; later versions refuse floats anyway."""
    room = _room(version)
    event = _change(room, ALICE)
    event.content["events"] = {"x": level}
    if not version.strict_canonical_json:
        assert_verdict(room, event, {1: "10.1"})
    event = _change(room, ALICE)
    event.content["users"] = {BOB: level}
    if isinstance(level, float) or not version.strict_canonical_json:
        assert_verdict(room, event, {1: "10.1", 6: "9.1", 10: "9.3", 12: "10.3"})


@EVERY
@pytest.mark.parametrize("key", SINGLE)
@pytest.mark.parametrize("value", ["1", None, True, [], {}])
def test_levels_are_integers_from_version_10_on(version: RoomVersion, key: str, value: Any) -> None:
    """9.1 of version 10: each single level that is there is an integer."""
    room = _room(version)
    assert_verdict(room, _change(room, ALICE, **_level(key, value)), {1: "", 10: "9.1", 12: "10.1"})


@EVERY
@pytest.mark.parametrize("key", ["events", "notifications"])
@pytest.mark.parametrize("value", ["x", None, [], {"a": "1"}, {"a": None}, {"a": True}])
def test_nested_levels_are_integers_from_version_10_on(version: RoomVersion, key: str, value: Any) -> None:
    """9.2 of version 10: events and notifications are objects of integers."""
    room = _room(version)
    assert_verdict(room, _change(room, ALICE, **_level(key, value)), {1: "", 10: "9.2", 12: "10.2"})


@pytest.mark.parametrize("version", versions(12))
def test_creators_are_not_listed(version: RoomVersion) -> None:
    """10.4 of version 12: users lists neither the creator nor an additional creator."""
    room = Room.created(version, additional_creators=[BOB])
    room.join(ALICE)
    for user in (ALICE, BOB):
        assert_verdict(room, room.make("m.room.power_levels", ALICE, {"users": {user: 100}}, ""), {12: "10.4"})
    assert_verdict(room, room.make("m.room.power_levels", ALICE, {"users": {CHARLIE: 100}}, ""), {12: ""})


@EVERY
def test_the_first_power_levels_say_anything(version: RoomVersion) -> None:
    """10.2 (9.4 from version 10 on): without previous power levels, any are allowed."""
    room = Room.created(version)
    room.join(ALICE)
    event = room.make("m.room.power_levels", ALICE, {"users": {BOB: 1000}, "ban": 2000, "events": {"x": 3000}}, "")
    assert_verdict(room, event, {1: ""})


@EVERY
@pytest.mark.parametrize("key", SINGLE)
def test_single_levels_move_below_the_sender(version: RoomVersion, key: str) -> None:
    """10.3: a level added, changed or removed was at most the sender's, and is."""
    first = {1: "10.3.1", 6: "9.3.1", 10: "9.5.1", 12: "10.6.1"}
    second = {1: "10.3.2", 6: "9.3.2", 10: "9.5.2", 12: "10.6.2"}
    room = _room(version)
    assert_verdict(room, _change(room, **_level(key, 50)), {1: ""})
    assert_verdict(room, _change(room, **_level(key, 51)), second)
    room.power_levels(ALICE, **_level(key, 50))
    assert_verdict(room, _change(room, without=key), {1: ""})
    assert_verdict(room, _change(room, **_level(key, 51)), second)
    room = _room(version, **_level("events", {"m.room.power_levels": 0}) | _level(key, 51))
    assert_verdict(room, _change(room), {1: ""})
    for event in (_change(room, without=key), _change(room, **_level(key, 50))):
        assert_verdict(room, event, first)


@EVERY
def test_required_levels_move_below_the_sender(version: RoomVersion) -> None:
    """10.4 and 10.5: entries of events were at most the sender's level where changed or removed, and are."""
    first = {1: "10.4.1", 6: "9.4.1", 10: "9.6.1", 12: "10.7.1"}
    second = {1: "10.5.1", 6: "9.5.1", 10: "9.7.1", 12: "10.8.1"}
    room = _room(version, events={"high": 51, "low": 50})
    assert_verdict(room, _change(room, events={"high": 51, "low": 49, "new": 50}), {1: ""})
    assert_verdict(room, _change(room, events={"high": 51}), {1: ""})
    assert_verdict(room, _change(room, events={"low": 50}), first)
    assert_verdict(room, _change(room, events={"high": 50, "low": 50}), first)
    assert_verdict(room, _change(room, without="events"), first)
    assert_verdict(room, _change(room, events={"high": 51, "low": 51}), second)
    assert_verdict(room, _change(room, events={"high": 51, "low": 50, "new": 51}), second)


@EVERY
def test_notification_levels_are_guarded_from_version_6_on(version: RoomVersion) -> None:
    """9.4 and 9.5 of version 6: notifications are guarded as events are."""
    room = _room(version, notifications={"room": 51})
    assert_verdict(room, _change(room, notifications={"room": 20}), {1: "", 6: "9.4.1", 10: "9.6.1", 12: "10.7.1"})
    event = _change(room, notifications={"room": 51, "new": 51})
    assert_verdict(room, event, {1: "", 6: "9.5.1", 10: "9.7.1", 12: "10.8.1"})


@EVERY
def test_nobody_takes_power_from_peers(version: RoomVersion) -> None:
    """10.6: others' entries that are changed or removed were below the sender's level; one's own may go down."""
    refused = {1: "10.6.1", 6: "9.6.1", 10: "9.8.1", 12: "10.9.1"}
    room = _room(version)
    assert_verdict(room, _change(room, users=_users(room, dave=0)), {1: ""})
    assert_verdict(room, _change(room, users=_users(room, dave=None)), {1: ""})
    assert_verdict(room, _change(room, users=_users(room, bob=0)), {1: ""})
    assert_verdict(room, _change(room, users=_users(room, bob=None)), {1: ""})
    assert_verdict(room, _change(room, users=_users(room, charlie=0)), refused)
    assert_verdict(room, _change(room, users=_users(room, charlie=None)), refused)
    if not version.privileged_creators:
        assert_verdict(room, _change(room, users=_users(room, alice=0)), refused)


@EVERY
def test_nobody_gives_more_than_they_have(version: RoomVersion) -> None:
    """10.7: entries added or changed are at most the sender's level, one's own too."""
    refused = {1: "10.7.1", 6: "9.7.1", 10: "9.9.1", 12: "10.10.1"}
    room = _room(version)
    assert_verdict(room, _change(room, users=_users(room, dave=50, eve=50)), {1: ""})
    assert_verdict(room, _change(room, users=_users(room, eve=51)), refused)
    assert_verdict(room, _change(room, users=_users(room, dave=51)), refused)
    assert_verdict(room, _change(room, users=_users(room, bob=51)), refused)


@pytest.mark.parametrize("version", versions(12))
def test_creators_demote_anyone_and_stay(version: RoomVersion) -> None:
    """10.9 of version 12: a creator changes any entry, and has infinite power after it as before."""
    room = _room(version, users={BOB: 2**53 - 1, CHARLIE: 50})
    assert_verdict(room, _change(room, ALICE, users={}), {12: ""})
    demotion = room.put(_change(room, ALICE, users={}, users_default=-100))
    assert PowerLevels.of(version, room.create, demotion).user(ALICE) == math.inf
    assert_verdict(room, _change(room, ALICE, users={BOB: 50}), {12: ""})


_users_strategy = st.dictionaries(st.sampled_from([BOB, CHARLIE, DAVE]), st.integers(-1, 101), max_size=3)


@given(st.sampled_from(VERSIONS), _users_strategy, _users_strategy)
def test_what_is_allowed_never_exceeds_the_sender(
    version: RoomVersion, before: dict[str, int], after: dict[str, int]
) -> None:
    """Nobody's level rises above the sender's, and nobody else at the sender's level or above changes."""
    room = Room.with_members(version, BOB, CHARLIE, DAVE)
    creator = {} if version.privileged_creators else {ALICE: 100}
    old = room.power_levels(ALICE, users=before | creator, state_default=0)
    event = room.make("m.room.power_levels", BOB, {"users": after | creator, "state_default": 0}, "")
    if verdict(room, event):
        return
    was, becomes = PowerLevels.of(version, room.create, old), PowerLevels.of(version, room.create, event)
    for user in (ALICE, CHARLIE, DAVE):
        if was.user(user) != becomes.user(user):
            assert was.user(user) < was.user(BOB) or user not in before
            assert becomes.user(user) <= was.user(BOB)
