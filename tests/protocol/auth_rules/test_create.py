"""Rule 1: m.room.create."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.protocol.room_versions import RoomVersion
from tests.protocol.auth_rules.refusals import assert_verdict
from tests.protocol.rooms import ALICE, BOB, VERSIONS, Room, versions


@pytest.mark.parametrize("version", VERSIONS)
def test_a_room_can_be_created(version: RoomVersion) -> None:
    """Rule 1, last clause: an m.room.create event against which nothing speaks is allowed."""
    room = Room.created(version)
    assert_verdict(room, room.create, {1: ""})


@pytest.mark.parametrize("version", VERSIONS)
def test_create_is_the_first_event(version: RoomVersion) -> None:
    """Rule 1.1: an m.room.create event with prev_events is rejected."""
    room = Room.created(version)
    event = room.make("m.room.create", ALICE, room.create.content, "", prev_events=[room.create])
    assert_verdict(room, event, {1: "1.1"})


@pytest.mark.parametrize("version", versions(1, 11))
def test_rooms_are_created_on_their_own_server(version: RoomVersion) -> None:
    """Rule 1.2 up to version 11: the domain of the room id is that of the sender."""
    room = Room.created(version)
    event = room.make("m.room.create", BOB, room.create.content, "", prev_events=[])
    assert_verdict(room, event, {1: "1.2"})


@pytest.mark.parametrize("version", versions(12))
def test_create_of_version_12_has_no_room_id(version: RoomVersion) -> None:
    """Rule 1.2 from version 12 on: an m.room.create event with a room_id is rejected."""
    room = Room.created(version)
    event = room.make("m.room.create", ALICE, room.create.content, "", prev_events=[], room_id=room.room_id)
    assert_verdict(room, event, {12: "1.2"})


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("named", ["org.example.unknown", "", 10, None, ["10"]])
def test_the_room_version_is_recognised(version: RoomVersion, named: object) -> None:
    """Rule 1.3: a content.room_version that is not recognised is rejected."""
    room = Room.created(version)
    room.create.content["room_version"] = named
    assert_verdict(room, room.create, {1: "1.3"})


@pytest.mark.parametrize("version", VERSIONS)
def test_without_a_room_version_it_is_version_1(version: RoomVersion) -> None:
    """Rule 1.3: an m.room.create event is judged by the version that it names, 1 if it names none."""
    room = Room.created(version)
    del room.create.content["room_version"]
    assert_verdict(room, room.create, {1: "", 2: "1.3"})


@pytest.mark.parametrize("version", VERSIONS)
def test_old_rooms_name_their_creator(version: RoomVersion) -> None:
    """Rule 1.4 up to version 10: content has a creator."""
    room = Room.created(version)
    room.create.content.pop("creator", None)
    assert_verdict(room, room.create, {1: "1.4", 11: ""})


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "additional", [BOB, {}, None, [1], [None], ["bob"], ["@bob"], [BOB, ["@carl:c.example"]], ["@b:" + "x" * 255]]
)
def test_additional_creators_are_users(version: RoomVersion, additional: Any) -> None:
    """Rule 1.4 from version 12 on: additional_creators is an array of user ids."""
    room = Room.created(version)
    room.create.content["additional_creators"] = additional
    assert_verdict(room, room.create, {1: "", 12: "1.4"})


@pytest.mark.parametrize("additional", [[], [BOB], [BOB, "@Historical User!:c.example"], [ALICE]])
def test_good_additional_creators_are_allowed(additional: list[str]) -> None:
    """Rule 1.4 of version 12 takes what a sender may be, historical user ids included."""
    room = Room.created(VERSIONS[-1], additional_creators=additional)
    assert_verdict(room, room.create, {12: ""})
