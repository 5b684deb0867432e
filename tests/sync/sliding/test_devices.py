"""The extensions about devices: messages to them, and whose keys changed."""

from __future__ import annotations

from homeserver.devices.device_lists import mark_changed
from homeserver.sync.to_device import MOST_AT_ONCE
from tests.sync.sliding.conftest import PhoneOf
from tests.sync.test_to_device import send
from tests.sync.world import World, user_id

BOTH = {"e2ee": {"enabled": True}, "to_device": {"enabled": True}}


async def test_messages_are_told_until_their_token_comes_back(world: World, phone_of: PhoneOf) -> None:
    """The extension's own token acknowledges: without it messages come again, with it never, in portions."""
    phone = phone_of("alice")
    for number in range(MOST_AT_ONCE + 1):
        await send(world, "alice", number)
    first = (await phone.sync({"extensions": BOTH}))["extensions"]["to_device"]
    again = (await phone.sync({"extensions": BOTH}))["extensions"]["to_device"]
    assert [event["content"]["n"] for event in first["events"]] == list(range(MOST_AT_ONCE))
    assert again["events"] == first["events"]
    next = {"to_device": {"enabled": True, "since": first["next_batch"]}}
    rest = (await phone.sync({"extensions": next}))["extensions"]["to_device"]
    assert [event["content"]["n"] for event in rest["events"]] == [MOST_AT_ONCE]
    assert (await phone.sync({"extensions": BOTH}))["extensions"]["to_device"]["events"] == rest["events"]


async def test_changed_devices_are_told_once(world: World, phone_of: PhoneOf) -> None:
    """Whose devices changed, or who came or left, is told once."""
    room = await world.create_room("alice")
    phone = phone_of("alice")
    first = (await phone.sync({"extensions": BOTH}))["extensions"]["e2ee"]
    assert first["device_lists"] == {"changed": [], "left": []}
    assert first["device_one_time_keys_count"] == {"signed_curve25519": 0}
    await world.join(room, "bob")
    async with world.stream.write() as write:
        await mark_changed(write, (await world.reader("alice")).user_nid)
    told = (await phone.sync({"extensions": BOTH}))["extensions"]["e2ee"]["device_lists"]
    assert told == {"changed": [user_id("alice"), user_id("bob")], "left": []}
    await world.leave(room, "bob")
    told = (await phone.sync({"extensions": BOTH}, timeout=10))["extensions"]["e2ee"]["device_lists"]
    assert told == {"changed": [], "left": [user_id("bob")]}
    assert (await phone.sync({"extensions": BOTH}))["extensions"]["e2ee"]["device_lists"]["changed"] == []
