"""What sliding sync says besides rooms' events."""

from __future__ import annotations

import pytest

from homeserver.protocol.errors import InvalidParam
from homeserver.rooms.receipts import READ, READ_PRIVATE, Receipt, Receipts
from tests.sync.sliding.conftest import PhoneOf
from tests.sync.sliding.phone import Json, listing
from tests.sync.world import World, user_id


def asking(*names: str, ranges: list[list[int]] | None = None, **config: object) -> Json:
    return {
        "lists": {"all": listing(1, ranges=ranges or [[0, 9]])},
        "extensions": {name: {"enabled": True, **config} for name in names},
    }


async def test_extensions_are_off_unless_enabled(world: World, phone_of: PhoneOf) -> None:
    """Nothing is said by an extension that is absent, disabled or unknown."""
    await world.set_account_data("alice", "org.example", {"is": 1})
    body = {"extensions": {"account_data": {"enabled": False}, "org.example": {"enabled": True}, "typing": None}}
    assert (await phone_of("alice").sync(body))["extensions"] == {}


async def test_account_data_for_all_rooms_and_for_told_ones(world: World, phone_of: PhoneOf) -> None:
    """At first all that is global, and that of the rooms in the response; then what changes."""
    told, other = await world.create_room("alice"), await world.create_room("alice")
    await world.say(told, "alice", "on top")
    for room in (told, other, None):
        await world.set_account_data("alice", "org.example", {"of": room.room_id if room else ""}, room)
    phone = phone_of("alice")
    data = (await phone.sync(asking("account_data", ranges=[[0, 0]])))["extensions"]["account_data"]
    assert {event["type"] for event in data["global"]} == {"org.example", "m.push_rules"}
    assert data["rooms"] == {told.room_id: [{"type": "org.example", "content": {"of": told.room_id}}]}
    assert (await phone.sync(asking("account_data", ranges=[[0, 0]])))["extensions"] == {}
    await world.set_account_data("alice", "org.example", {"new": 1}, told)
    await world.set_account_data("alice", "org.example", {"new": 1}, other)
    data = (await phone.sync(asking("account_data", ranges=[[0, 0]])))["extensions"]["account_data"]
    assert data == {"rooms": {told.room_id: [{"type": "org.example", "content": {"new": 1}}]}}
    data = (await phone.sync(asking("account_data")))["extensions"]["account_data"]
    assert data == {"rooms": {other.room_id: [{"type": "org.example", "content": {"new": 1}}]}}


async def test_an_extension_that_is_switched_on_later_begins_whole(world: World, phone_of: PhoneOf) -> None:
    """It tells all that there is, and again after it was off."""
    await world.set_account_data("alice", "org.example", {"is": 1})
    phone = phone_of("alice")
    await phone.sync(asking())
    for _ in range(2):
        data = (await phone.sync(asking("account_data")))["extensions"]["account_data"]
        assert {event["type"] for event in data["global"]} == {"org.example", "m.push_rules"}
        assert (await phone.sync(asking("account_data")))["extensions"] == {}
        await phone.sync(asking())


async def test_extensions_can_be_limited_to_lists_and_rooms(world: World, phone_of: PhoneOf) -> None:
    """Rooms that are not covered are left out, and what happened there is told once they are."""
    one, two = await world.create_room("alice"), await world.create_room("alice")
    phone = phone_of("alice")
    only_one = asking("account_data", "typing", "receipts", lists=[], rooms=[one.room_id])
    await phone.sync(only_one)
    for room in (one, two):
        await world.set_account_data("alice", "org.example", {"is": 1}, room)
        world.sources.typing.set_local(room.nid, user_id("bob"), typing=True)
    extensions = (await phone.sync(only_one))["extensions"]
    assert extensions["account_data"]["rooms"].keys() == extensions["typing"]["rooms"].keys() == {one.room_id}
    everything = asking("account_data", "typing", "receipts", lists=["all"])
    extensions = (await phone.sync(everything))["extensions"]
    assert extensions["account_data"]["rooms"].keys() == {two.room_id}
    assert (await phone.sync(everything))["extensions"].get("account_data") is None


async def test_receipts_at_first_are_those_at_told_events_and_own_ones(world: World, phone_of: PhoneOf) -> None:
    """Others' at events that the client does not have, and others' private ones, are not told; what follows is."""
    room = await world.create_room("alice")
    for name in ("bob", "carol", "dave"):
        await world.join(room, name)
    old = await world.say(room, "alice", "old")
    new = await world.say(room, "alice", "new")
    receipts = Receipts(world.stream, world.timeline.names)

    async def read(name: str, event_id: str, kind: str = READ) -> None:
        await receipts.set_local(Receipt(room, kind, user_id(name), event_id, None, 1))

    await read("alice", old, READ_PRIVATE)
    await read("bob", old)
    await read("carol", new)
    await read("dave", new, READ_PRIVATE)
    phone = phone_of("alice")
    told = (await phone.sync(asking("receipts")))["extensions"]["receipts"]["rooms"][room.room_id]
    assert told["type"] == "m.receipt"
    assert {
        event_id: {kind: set(users) for kind, users in kinds.items()} for event_id, kinds in told["content"].items()
    } == {
        old: {READ_PRIVATE: {user_id("alice")}},
        new: {READ: {user_id("carol")}},
    }
    assert (await phone.sync(asking("receipts")))["extensions"] == {}
    await read("bob", new)
    told = (await phone.sync(asking("receipts")))["extensions"]["receipts"]["rooms"][room.room_id]
    assert told["content"].keys() == {new}
    assert told["content"][new][READ].keys() == {user_id("bob")}


async def test_typing_is_told_where_it_changes(world: World, phone_of: PhoneOf) -> None:
    """At first who is typing in told rooms, then every change, to nobody being left."""
    room, quiet = await world.create_room("alice"), await world.create_room("alice")
    typing = world.sources.typing
    typing.set_local(room.nid, user_id("bob"), typing=True)
    phone = phone_of("alice")
    told = (await phone.sync(asking("typing")))["extensions"]["typing"]["rooms"]
    assert told == {room.room_id: {"type": "m.typing", "content": {"user_ids": [user_id("bob")]}}}
    assert (await phone.sync(asking("typing")))["extensions"] == {}
    typing.set_local(room.nid, user_id("bob"), typing=False)
    typing.set_local(quiet.nid, user_id("bob"), typing=True)
    told = (await phone.sync(asking("typing")))["extensions"]["typing"]["rooms"]
    assert told[room.room_id]["content"]["user_ids"] == []
    assert told[quiet.room_id]["content"]["user_ids"] == [user_id("bob")]


async def test_former_members_hear_nothing_more(world: World, phone_of: PhoneOf) -> None:
    """Neither who is typing nor who has read in a room that the user was put out of."""
    room = await world.create_room("alice")
    await world.join(room, "bob")
    phone = phone_of("bob")
    await phone.sync(asking("typing", "receipts"))
    await world.set_membership(room, "bob", "leave", by="alice")
    event_id = await world.say(room, "alice", "secret")
    world.sources.typing.set_local(room.nid, user_id("alice"), typing=True)
    receipts = Receipts(world.stream, world.timeline.names)
    await receipts.set_local(Receipt(room, READ, user_id("alice"), event_id, None, 1))
    for each in (phone, phone_of("bob", conn="new")):
        assert (await each.sync(asking("typing", "receipts")))["extensions"] == {}


async def test_messages_to_the_device_have_their_own_token(world: World, phone_of: PhoneOf) -> None:
    """next_batch is always there; a token that is none of ours is refused."""
    phone = phone_of("alice")
    told = (await phone.sync(asking("to_device", "e2ee")))["extensions"]
    assert told["to_device"]["events"] == []
    assert told["e2ee"]["device_lists"] == {"changed": [], "left": []}
    again = await phone.sync(asking("to_device", "e2ee", since=told["to_device"]["next_batch"]))
    assert again["extensions"]["to_device"]["next_batch"]
    with pytest.raises(InvalidParam):
        await phone.sync(asking("to_device", since="nonsense"))
