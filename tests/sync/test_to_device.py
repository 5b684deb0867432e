"""Messages to the device that syncs: kept until acknowledged, in order, not too many at once."""

from __future__ import annotations

from typing import Any

from homeserver.devices import to_device
from homeserver.devices.to_device import Sender
from homeserver.sync.to_device import MOST_AT_ONCE
from tests.sync.test_long_poll import waiting
from tests.sync.world import SERVER, World, user_id


async def device(world: World, name: str, device_id: str = "DEVICE") -> None:
    nid = (await world.reader(name)).user_nid
    await world.sources.pool.execute(
        "INSERT INTO devices (user_nid, device_id, created_ts) VALUES ($1, $2, 0)", nid, device_id
    )


async def send(world: World, name: str, number: int) -> None:
    """Carol's message with that number to all devices of a user."""
    sender = Sender(user_id("carol"), (await world.reader("carol")).user_nid, "DEVICE")
    messages: Any = {user_id(name): {"*": {"n": number}}}
    await to_device.send(
        world.stream, sender, "t", f"{name}{number}", messages, server_name=SERVER, may_talk_with=lambda _: False
    )


def numbers(response: Any) -> list[int]:
    return [event["content"]["n"] for event in response["to_device"]["events"]]


async def test_messages_are_told_until_they_are_acknowledged(world: World) -> None:
    """A message comes again to who repeats a sync, and never to who has shown the token that came with it."""
    await device(world, "alice")
    first = await world.sync("alice")
    await send(world, "alice", 1)
    second = await world.sync("alice", first["next_batch"])
    assert numbers(second) == numbers(await world.sync("alice", first["next_batch"])) == [1]
    third = await world.sync("alice", second["next_batch"])
    assert numbers(third) == []
    # Not even to a token from before.
    assert numbers(await world.sync("alice", first["next_batch"])) == []
    assert numbers(await world.sync("alice")) == []
    assert await world.sources.pool.fetchval("SELECT count(*) FROM to_device_messages") == 0


async def test_a_client_that_starts_anew_gets_what_waits(world: World) -> None:
    """A first sync brings what the device was sent before, and acknowledges nothing."""
    await device(world, "alice")
    await send(world, "alice", 1)
    assert numbers(await world.sync("alice")) == numbers(await world.sync("alice")) == [1]


async def test_many_messages_come_in_portions_and_in_order(world: World) -> None:
    """A response has a hundred messages at most; the next ones follow at once, each once, and then nothing."""
    await device(world, "alice")
    since = (await world.sync("alice"))["next_batch"]
    count = 2 * MOST_AT_ONCE + 1
    for number in range(count):
        await send(world, "alice", number)
    told: list[int] = []
    for size in (MOST_AT_ONCE, MOST_AT_ONCE, 1):
        response = await world.sync("alice", since, timeout=60)
        assert len(numbers(response)) == size
        told += numbers(response)
        since = response["next_batch"]
    assert told == list(range(count))
    assert numbers(await world.sync("alice", since)) == []


async def test_a_cut_response_does_not_hold_back_the_rest(world: World) -> None:
    """While messages remain to be told, what happens in rooms is told once."""
    await device(world, "alice")
    room = await world.create_room("alice")
    since = (await world.sync("alice"))["next_batch"]
    for number in range(MOST_AT_ONCE + 1):
        await send(world, "alice", number)
    await world.say(room, "alice", "hello")
    first = await world.sync("alice", since)
    assert room.room_id in first["rooms"]["join"]
    second = await world.sync("alice", first["next_batch"])
    assert room.room_id not in second["rooms"]["join"]
    assert numbers(second) == [MOST_AT_ONCE]


async def test_each_device_acknowledges_for_itself(world: World) -> None:
    """What one device has had still waits for the other."""
    await device(world, "alice")
    await device(world, "alice", "OTHER")
    await send(world, "alice", 1)
    response = await world.sync("alice")
    await world.sync("alice", response["next_batch"])
    assert numbers(await world.sync("alice", device="OTHER")) == [1]


async def test_a_message_wakes(world: World) -> None:
    """A message ends the wait of whom it is for."""
    await device(world, "alice")
    task = await waiting(world, "alice", (await world.sync("alice"))["next_batch"])
    await send(world, "alice", 1)
    assert numbers(await task) == [1]


async def test_an_open_transaction_holds_later_messages_back(world: World) -> None:
    """A message that is committed before one with a smaller position is told after it, so neither is skipped."""
    await device(world, "alice")
    since = (await world.sync("alice"))["next_batch"]
    async with world.stream.write() as write:
        await write.next_position()
        await send(world, "alice", 1)
        response = await world.sync("alice", since)
        assert numbers(response) == []
    assert numbers(await world.sync("alice", response["next_batch"])) == [1]
