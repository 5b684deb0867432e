"""What the levels of a room are read to be, in each room version."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.power_levels import PowerLevels, creators, parse_level
from homeserver.protocol.room_versions import RoomVersion
from tests.protocol.rooms import ALICE, BOB, CHARLIE, VERSIONS, Room, versions


def _levels(version: RoomVersion, content: dict[str, Any]) -> PowerLevels:
    room = Room.created(version)
    return PowerLevels.of(version, room.create, room.add("m.room.power_levels", ALICE, content, ""))


@pytest.mark.parametrize("version", versions(1, 11))
def test_without_power_levels_the_creator_has_100(version: RoomVersion) -> None:
    """Before the room has a power levels event its creator has 100 and everyone else 0."""
    levels = PowerLevels.of(version, Room.created(version).create, None)
    assert (levels.user(ALICE), levels.user(BOB)) == (100, 0)


@pytest.mark.parametrize("version", versions(1, 11))
def test_the_creator_is_nobody_special_under_power_levels(version: RoomVersion) -> None:
    """Up to version 11 a power levels event that doesn't list the creator takes their power."""
    assert _levels(version, {"users_default": 5}).user(ALICE) == 5


@pytest.mark.parametrize("version", versions(12))
def test_creators_of_version_12_are_above_every_number(version: RoomVersion) -> None:
    """From version 12 on the creator and the additional creators have infinite power, whatever is listed."""
    room = Room.created(version, additional_creators=[BOB])
    event = room.add("m.room.power_levels", ALICE, {"users": {ALICE: 1, BOB: -1, CHARLIE: 7}}, "")
    for power_levels, other in ((None, 0), (event, 7)):
        levels = PowerLevels.of(version, room.create, power_levels)
        assert levels.user(ALICE) == levels.user(BOB) == math.inf
        assert levels.user(CHARLIE) == other


@pytest.mark.parametrize("version", VERSIONS)
def test_the_defaults(version: RoomVersion) -> None:
    """Missing levels are 50 for state, ban, kick, redact and notifications, 0 for messages, invites and users."""
    for levels in (_levels(version, {}), PowerLevels.of(version, Room.created(version).create, None)):
        assert (levels.ban, levels.kick, levels.redact, levels.invite, levels.users_default) == (50, 50, 50, 0, 0)
        assert levels.required("m.room.topic", is_state=True) == 50
        assert levels.required("m.room.message", is_state=False) == 0
        assert levels.notification("room") == 50


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_listed_counts(version: RoomVersion) -> None:
    """Listed levels take the place of the defaults."""
    levels = _levels(
        version,
        {
            "ban": 1, "kick": 2, "redact": 3, "invite": 4, "users_default": 5, "events_default": 6, "state_default": 7,
            "events": {"m.room.topic": 8, "m.reaction": 9}, "users": {BOB: 10}, "notifications": {"room": 11},
        },
    )  # fmt: skip
    assert (levels.ban, levels.kick, levels.redact, levels.invite) == (1, 2, 3, 4)
    assert (levels.user(CHARLIE), levels.user(BOB), levels.notification("room")) == (5, 10, 11)
    assert (levels.required("m.room.name", True), levels.required("m.room.message", False)) == (7, 6)
    assert (levels.required("m.room.topic", True), levels.required("m.reaction", False)) == (8, 9)


_STRINGS = {
    "100": 100, "000100": 100, "+100": 100, "-100": -100, " 100 ": 100, " 00100 ": 100, " +100 ": 100, " -100 ": -100,
    "": None, " ": None, "-": None, "+-1": None, "1.0": None, "1_0": None, "0x1": None, "1e2": None, "- 1": None,
    "٣": None, "²": None, "9" * 400: None, "0" * 9000 + "7": 7,
}  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("text", _STRINGS)
def test_strings_count_before_version_10(version: RoomVersion, text: str) -> None:
    """Versions 1 to 9 read a string that is a base 10 integer; from 10 on a string is no level."""
    assert parse_level(version, text) == (None if version.integer_power_levels else _STRINGS[text])


@pytest.mark.parametrize("version", VERSIONS)
def test_floats_count_before_version_6(version: RoomVersion) -> None:
    """Versions 1 to 5 cut a float at the decimal point, and refuse what no double can hold; later ones refuse all."""
    tolerant = not version.strict_canonical_json
    assert parse_level(version, 5.114698e4) == (51146 if tolerant else None)
    assert parse_level(version, -50.57) == (-50 if tolerant else None)
    for value in (math.inf, -math.inf, math.nan):
        assert parse_level(version, value) is None
    assert parse_level(version, 1 << 2000) == (None if tolerant else 1 << 2000)


@pytest.mark.parametrize("version", VERSIONS)
def test_who_the_creators_are(version: RoomVersion) -> None:
    """The creator is content.creator up to version 10, the sender from 11 on, with additional ones from 12 on."""
    room = Room.created(version, creator=BOB, additional_creators=[CHARLIE, 5])
    room.create.content["creator"] = ALICE
    expected = {BOB} if version.implicit_creator else {ALICE}
    assert creators(version, room.create) == (expected | {CHARLIE} if version.privileged_creators else expected)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_KEYS = ["ban", "kick", "redact", "invite", "users_default", "events_default", "state_default"]
_hostile = st.dictionaries(st.sampled_from([*_KEYS, "users", "events", "notifications"]), _json) | st.builds(
    lambda users, events: {"users": users, "events": events},
    st.dictionaries(st.just(BOB), _json),
    st.dictionaries(st.just("m.room.topic"), _json),
)


@given(st.sampled_from(VERSIONS), _hostile)
def test_any_content_has_levels(version: RoomVersion, content: dict[str, Any]) -> None:
    """Whatever a power levels event holds, every level is an integer and nothing is raised."""
    levels = _levels(version, {})
    event = Room.created(version).make("m.room.power_levels", ALICE, {}, "")
    event.content.update(content)
    levels = PowerLevels.of(version, None, event)
    for value in (
        levels.user(BOB), levels.required("m.room.topic", True), levels.required("m.room.message", False),
        levels.notification("room"), levels.ban, levels.kick, levels.redact, levels.invite, levels.users_default,
    ):  # fmt: skip
        assert type(value) is int
