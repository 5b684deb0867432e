"""Waiting for something to happen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from homeserver.devices.keys import claim_own_keys, upload_keys
from tests.support.keys import ALGORITHM, DeviceKeys
from tests.sync.world import World, bodies, user_id


async def waiting(world: World, name: str, since: str, **options: Any) -> asyncio.Task[Any]:
    """A sync that has found nothing and waits."""
    nid = (await world.reader(name)).user_nid
    task = asyncio.create_task(world.sync(name, since, timeout=60, **options))
    while not any(each._event._waiters for each in world.sources.changes._by_user.get(nid, ())):  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def wakes(world: World, name: str, since: str, act: Awaitable[Any], **options: Any) -> Any:
    task = await waiting(world, name, since, **options)
    await act
    return await task


async def test_whatever_happens_in_a_room_wakes(world: World) -> None:
    """Messages, state, typing and account data end the wait of those whom they are for."""
    room = await world.create_room("alice")
    await world.join(room, "bob")
    since = (await world.sync("alice"))["next_batch"]
    response = await wakes(world, "alice", since, world.say(room, "bob", "hello"))
    assert bodies(response["rooms"]["join"][room.room_id]["timeline"]["events"]) == ["hello"]
    act = world.set_account_data("alice", "org.example", {})
    response = await wakes(world, "alice", response["next_batch"], act)
    assert response["account_data"]["events"][0]["type"] == "org.example"

    async def type() -> None:
        world.sources.typing.set_local(room.nid, user_id("bob"), typing=True)

    response = await wakes(world, "alice", response["next_batch"], type())
    [event] = response["rooms"]["join"][room.room_id]["ephemeral"]["events"]
    assert event["content"] == {"user_ids": [user_id("bob")]}


async def test_invitations_and_joins_wake(world: World) -> None:
    """Who waits without any room is woken by an invitation; a room joined while waiting counts from then on."""
    room = await world.create_room("alice")
    since = (await world.sync("bob"))["next_batch"]
    response = await wakes(world, "bob", since, world.set_membership(room, "bob", "invite", by="alice"))
    assert room.room_id in response["rooms"]["invite"]
    response = await wakes(world, "bob", response["next_batch"], world.join(room, "bob"))
    assert room.room_id in response["rooms"]["join"]


async def test_a_room_joined_while_waiting_unseen_wakes(world: World) -> None:
    """A join that the filter hides does not end the wait, but what is said in that room afterwards does."""
    room = await world.create_room("alice")
    other = await world.create_room("bob")
    await world.join(other, "alice")  # so that the join makes nobody known whose devices would be new
    since = (await world.sync("bob"))["next_batch"]
    only_other = {"room": {"rooms": [other.room_id]}}
    task = await waiting(world, "bob", since, filter=only_other)
    await world.join(room, "bob")
    await world.say(room, "alice", "not for this filter")
    await world.say(other, "bob", "hello")
    response = await task
    assert response["rooms"]["join"].keys() == {other.room_id}
    assert bodies(response["rooms"]["join"][other.room_id]["timeline"]["events"]) == ["hello"]


async def test_time_runs_out(world: World) -> None:
    """When nothing happens the response is empty and its token is as good as a new one."""
    room = await world.create_room("alice")
    since = (await world.sync("alice"))["next_batch"]
    response = await world.sync("alice", since, timeout=0.01)
    assert response["rooms"]["join"] == {}
    await world.say(room, "alice", "hello")
    assert room.room_id in (await world.sync("alice", response["next_batch"]))["rooms"]["join"]


async def test_who_hangs_up_leaves_nothing(world: World) -> None:
    """A cancelled wait gives its subscriptions and connections back."""
    await world.create_room("alice")
    since = (await world.sync("alice"))["next_batch"]
    task = await waiting(world, "alice", since)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    changes = world.sources.changes
    assert not changes._by_room
    assert not changes._by_user
    assert world.stream.pool.get_idle_size() == world.stream.pool.get_size()


async def test_a_hundred_wait_for_one_message(world: World) -> None:
    """Everyone who waits in a room hears of a message, each exactly once."""
    room = await world.create_room("user0")
    names = [f"user{number}" for number in range(100)]
    for name in names[1:]:
        await world.join(room, name)
    since = (await world.sync("user0"))["next_batch"]
    tasks = [asyncio.create_task(world.sync(name, since, timeout=60)) for name in names]
    await world.say(room, "user0", "hello")
    for response in await asyncio.gather(*tasks):
        assert bodies(response["rooms"]["join"][room.room_id]["timeline"]["events"]) == ["hello"]


async def test_claimed_keys_wake_their_device(world: World) -> None:
    """A device that waits hears that its one-time keys have been claimed, so that it can upload more."""
    nid, pool = (await world.reader("alice")).user_nid, world.sources.pool
    await pool.execute("INSERT INTO accounts (user_nid, created_ts) VALUES ($1, 0)", nid)
    await pool.execute("INSERT INTO devices (user_nid, device_id, created_ts) VALUES ($1, 'DEVICE', 0)", nid)
    device = DeviceKeys(user_id("alice"), "DEVICE")
    keys = device.one_time_keys("A", "B")
    await upload_keys(
        world.stream, user_id("alice"), nid, "DEVICE", identity=device.identity(), one_time=keys, fallback={}
    )
    since = (await world.sync("alice"))["next_batch"]
    claim = claim_own_keys(world.stream, {user_id("alice"): {"DEVICE": ALGORITHM}})
    response = await wakes(world, "alice", since, claim)
    assert response["device_one_time_keys_count"] == {ALGORITHM: 1}
