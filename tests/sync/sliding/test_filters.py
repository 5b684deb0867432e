"""The filters of lists."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.protocol.room_versions import room_version
from homeserver.rooms.timeline import NewEvent
from homeserver.storage.names import Room
from tests.sync.sliding.conftest import PhoneOf
from tests.sync.sliding.phone import listing
from tests.sync.world import World, user_id


async def create_space(world: World, name: str) -> Room:
    kind = room_version("11")
    content = {"room_version": "11", "type": "m.space"}
    create = NewEvent("m.room.create", user_id(name), content, state_key="")
    join = NewEvent("m.room.member", user_id(name), {"membership": "join"}, user_id(name))
    async with world.stream.write() as write:
        room = await world.timeline.create_room(
            kind, create, f"!space-{name}:here.example", published=False, write=write
        )
        async with world.timeline.appending(write, room, 1) as append:
            await world.timeline.append_new(append, join)
    return room


@pytest.fixture
async def rooms(world: World) -> dict[str, Room]:
    """Alice's rooms, one of each kind."""
    found = {name: await world.create_room("alice") for name in ("plain", "direct", "secret", "tagged")}
    await world.set_account_data("alice", "m.direct", {user_id("bob"): [found["direct"].room_id, 5], "odd": "x"})
    await world.set_state(found["secret"], "alice", "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    await world.set_account_data("alice", "m.tag", {"tags": {"m.favourite": {}, "u.work": {}}}, found["tagged"])
    found["space"] = await create_space(world, "alice")
    await world.set_state(found["space"], "alice", "m.space.child", {"via": ["x"]}, found["plain"].room_id)
    await world.set_state(found["space"], "alice", "m.space.child", {}, found["tagged"].room_id)
    found["invited"] = await world.create_room("bob", join_rule="invite")
    await world.set_state(found["invited"], "bob", "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    await world.set_membership(found["invited"], "alice", "invite", by="bob")
    return found


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "plain direct secret tagged space invited"),
        ({"unknown": 1}, "plain direct secret tagged space invited"),
        ({"is_dm": True}, "direct"),
        ({"is_dm": False}, "plain secret tagged space invited"),
        ({"is_encrypted": True}, "secret invited"),
        ({"is_encrypted": False}, "plain direct tagged space"),
        ({"is_invite": True}, "invited"),
        ({"is_invited": False}, "plain direct secret tagged space"),
        ({"room_types": ["m.space"]}, "space"),
        ({"room_types": [None]}, "plain direct secret tagged invited"),
        ({"room_types": [None, "m.space"], "not_room_types": ["m.space"]}, "plain direct secret tagged invited"),
        ({"not_room_types": [None]}, "space"),
        ({"tags": ["m.favourite", "m.lowpriority"]}, "tagged"),
        ({"tags": ["m.favourite"], "not_tags": ["u.work"]}, ""),
        ({"not_tags": ["u.work"]}, "plain direct secret space invited"),
        ({"is_encrypted": True, "is_invited": False}, "secret"),
    ],
)
async def test_a_filter_lets_through_what_it_names(
    phone_of: PhoneOf, rooms: dict[str, Room], filters: dict[str, Any], expected: str
) -> None:
    """Each filter alone and together with others; what no one has defined asks for nothing."""
    response = await phone_of("alice").sync({"lists": {"a": listing(0, filters=filters)}})
    names = {room.room_id: name for name, room in rooms.items()}
    assert {names[room_id] for room_id in response["rooms"]} == set(expected.split())
    assert response["lists"]["a"]["count"] == len(expected.split())


async def test_spaces_name_their_children(world: World, phone_of: PhoneOf, rooms: dict[str, Room]) -> None:
    """Rooms that a joined space has as children are in, its former children and spaces one is not in are not."""
    elsewhere = await create_space(world, "bob")
    await world.set_state(elsewhere, "bob", "m.space.child", {"via": ["x"]}, rooms["direct"].room_id)
    spaces = [rooms["space"].room_id, elsewhere.room_id, "!unknown:here.example"]
    response = await phone_of("alice").sync({"lists": {"a": listing(0, filters={"spaces": spaces})}})
    assert response["rooms"].keys() == {rooms["plain"].room_id}


async def test_a_window_is_cut_after_filtering(phone_of: PhoneOf, rooms: dict[str, Room]) -> None:
    """Indices count the rooms that the filter lets through; several lists and ranges are told together, each once."""
    encrypted = listing(0, filters={"is_encrypted": True, "is_invited": False}, ranges=[[0, 0]])
    ends = listing(0, filters={"is_encrypted": False}, ranges=[[0, 0], [3, 3], [2, 5]])
    response = await phone_of("alice").sync({"lists": {"encrypted": encrypted, "ends": ends}})
    assert response["rooms"][rooms["secret"].room_id]["lists"] == ["encrypted"]
    assert response["rooms"].keys() == {rooms[name].room_id for name in ("secret", "space", "direct", "plain")}
    assert response["lists"] == {"encrypted": {"count": 1}, "ends": {"count": 4}}


async def test_what_filters_say_of_left_rooms_ends_with_the_leave(
    world: World, phone_of: PhoneOf, rooms: dict[str, Room]
) -> None:
    """That a room became encrypted after the user was put out does not show."""
    room = await world.create_room("bob")
    await world.join(room, "alice")
    await world.set_membership(room, "alice", "leave", by="bob")
    await world.set_state(room, "bob", "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    await world.set_membership(room, "alice", "ban", by="bob")
    response = await phone_of("alice").sync({"lists": {"a": listing(0, filters={"is_encrypted": True})}})
    assert room.room_id not in response["rooms"]


async def test_a_room_that_becomes_a_direct_chat_says_so(
    world: World, phone_of: PhoneOf, rooms: dict[str, Room]
) -> None:
    """`is_dm` is told when it is true at first, and whenever it changes."""
    phone = phone_of("alice")
    body = {"lists": {"a": listing(0)}}
    first = (await phone.sync(body))["rooms"]
    assert first[rooms["direct"].room_id]["is_dm"] is True
    assert "is_dm" not in first[rooms["plain"].room_id]
    await world.set_account_data("alice", "m.direct", {user_id("bob"): [rooms["plain"].room_id]})
    then = (await phone.sync(body))["rooms"]
    assert {room_id: told["is_dm"] for room_id, told in then.items()} == {
        rooms["direct"].room_id: False,
        rooms["plain"].room_id: True,
    }
