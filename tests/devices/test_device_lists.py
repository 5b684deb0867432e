"""Changes of devices: what other servers are told, and what is remembered of theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from homeserver.devices.device_lists import mark_changed
from homeserver.devices.remote_device_lists import DeviceUpdate, parse_update, refresh, take_in_update
from homeserver.protocol.errors import Unavailable
from homeserver.protocol.events import JsonObject
from homeserver.storage.device_lists import RemoteDevice, RemoteList, remote_list
from tests.sync.world import World, open_world

BOB = "@bob:there.example"


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    """A room of Alice's, who has an account here, in which Bob of another server is."""
    async with open_world(database) as world:
        room = await world.create_room("alice")
        alice = (await world.reader("alice")).user_nid
        bob = await world.timeline.names.user_nid(BOB)
        pool = world.sources.pool
        await pool.execute("INSERT INTO accounts (user_nid, created_ts) VALUES ($1, 0)", alice)
        await pool.execute("INSERT INTO devices (user_nid, device_id, created_ts) VALUES ($1, 'A', 0)", alice)
        async with world.stream.write() as write:
            await write.conn.execute(
                "INSERT INTO room_members (room_nid, user_nid, membership, event_nid, pos) "
                "VALUES ($1, $2, 'join', 0, $3)",
                room.nid,
                bob,
                await write.next_position(),
            )
        yield world


async def change(world: World, *device_ids: str) -> None:
    async with world.stream.write() as write:
        await mark_changed(write, (await world.reader("alice")).user_nid, device_ids or None)


async def queued(world: World) -> list[tuple[str, Any]]:
    rows = await world.sources.pool.fetch(
        "SELECT edu_type, content FROM outgoing_edus WHERE destination = 'there.example' ORDER BY pos"
    )
    return [(row["edu_type"], orjson.loads(row["content"])) for row in rows]


async def test_updates_name_the_one_before(world: World) -> None:
    """Each update for other servers has an id of its own and names the one before it."""
    await change(world, "A")
    await change(world, "B", "C")
    edus = [content for _, content in await queued(world)]
    assert [edu["device_id"] for edu in edus] == ["A", "B", "C"]
    ids = [edu["stream_id"] for edu in edus]
    assert [edu["prev_id"] for edu in edus] == [[], ids[:1], ids[1:2]]


async def test_a_change_of_anything_tells_everything(world: World) -> None:
    """If it is not said what changed, all devices and the cross-signing keys are told."""
    await change(world)
    assert [edu_type for edu_type, _ in await queued(world)] == ["m.device_list_update", "m.signing_key_update"]


async def test_very_many_changes_make_others_ask(world: World) -> None:
    """Instead of very many updates there is one that names a predecessor nobody has had."""
    await change(world, "A")
    await change(world, *(f"D{number}" for number in range(30)))
    (_, first), (_, second) = await queued(world)
    assert second["prev_id"] != [first["stream_id"]]


async def test_what_was_not_committed_is_not_told(world: World) -> None:
    """A change that fails queues nothing."""
    alice = (await world.reader("alice")).user_nid

    async def fail() -> None:
        async with world.stream.write() as write:
            await mark_changed(write, alice)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await queued(world) == []


async def test_who_joins_is_introduced_to_servers_that_did_not_know_them(world: World) -> None:
    """When one of our users joins a room, servers in it that share no other room with them are told of their devices;
    a change of what they are called is no join."""
    room = await world.create_room("carol")
    carol, dave = (await world.reader("carol")).user_nid, await world.timeline.names.user_nid("@dave:there.example")
    pool = world.sources.pool
    await pool.execute("INSERT INTO accounts (user_nid, created_ts) VALUES ($1, 0)", carol)
    await pool.execute("INSERT INTO devices (user_nid, device_id, created_ts) VALUES ($1, 'C', 0)", carol)
    async with world.stream.write() as write:
        await write.conn.execute(
            "INSERT INTO room_members (room_nid, user_nid, membership, event_nid, pos) VALUES ($1, $2, 'join', 0, $3)",
            room.nid,
            dave,
            await write.next_position(),
        )
    await world.join(room, "alice")
    assert await queued(world) == []  # Bob's server knows her
    await world.leave(room, "carol")
    await world.join(room, "carol")
    told = [(edu_type, edu["user_id"], edu.get("device_id")) for edu_type, edu in await queued(world)]
    carol_id = "@carol:here.example"
    assert told == [("m.device_list_update", carol_id, "C"), ("m.signing_key_update", carol_id, None)]
    await world.join(room, "carol", displayname="Carol the second")
    assert len(await queued(world)) == 2


class Peer:
    """Bob's server."""

    def __init__(self, *device_ids: str, stream_id: int = 1) -> None:
        self.device_ids, self.stream_id = device_ids, stream_id

    async def query_user_devices(self, destination: str, user_id: str) -> JsonObject:
        assert (destination, user_id) == ("there.example", BOB)
        devices = [{"device_id": one, "keys": {"user_id": BOB, "device_id": one}} for one in self.device_ids]
        return {"user_id": BOB, "stream_id": self.stream_id, "devices": devices, "master_key": {"user_id": BOB}}


async def learn(world: World, peer: Peer) -> None:
    remote: Any = peer
    await refresh(world.stream, remote, BOB, await world.timeline.names.user_nid(BOB))


async def update(world: World, device_id: str, stream_id: int, prev_ids: list[int], *, deleted: bool = False) -> bool:
    told = DeviceUpdate(RemoteDevice(device_id, None, None), stream_id, prev_ids, deleted)
    return await take_in_update(world.stream, await world.timeline.names.user_nid(BOB), told)


async def known(world: World) -> RemoteList | None:
    async with world.sources.pool.acquire() as conn:
        return await remote_list(conn, await world.timeline.names.user_nid(BOB))


async def device_ids(world: World) -> list[str] | None:
    found = await known(world)
    return None if found is None else [device.device_id for device in found.devices]


async def test_updates_in_sequence_are_applied(world: World) -> None:
    """Updates that follow on what is remembered change it; a repeated one does nothing, and nobody is asked."""
    await learn(world, Peer("X", "Y"))
    assert not await update(world, "Z", 2, [1])
    assert not await update(world, "X", 3, [2], deleted=True)
    assert not await update(world, "X", 2, [1])
    assert await device_ids(world) == ["Y", "Z"]
    found = await known(world)
    assert found is not None
    assert found.master_key == orjson.dumps({"user_id": BOB})


@pytest.mark.parametrize("prev_ids", [[7], [1, 7], []])
async def test_a_missing_update_voids_what_is_remembered(world: World, prev_ids: list[int]) -> None:
    """After a gap nothing that is remembered counts, until the whole list has been asked for again."""
    await learn(world, Peer("X"))
    assert await update(world, "Y", 8, prev_ids)
    assert await known(world) is None
    await learn(world, Peer("X", "Y", "Z", stream_id=9))
    assert await device_ids(world) == ["X", "Y", "Z"]
    assert not await update(world, "Z", 10, [9], deleted=True)
    assert await device_ids(world) == ["X", "Y"]


async def test_nothing_counts_that_was_learnt_before_a_room_was_shared(world: World) -> None:
    """When the last shared room was left in between, changes may have been missed: what is remembered is void."""
    await learn(world, Peer("X"))
    bob = await world.timeline.names.user_nid(BOB)
    pool = world.sources.pool
    await pool.execute("UPDATE room_members SET membership = 'leave' WHERE user_nid = $1", bob)
    assert await known(world) is None
    async with world.stream.write() as write:
        await write.conn.execute(
            "UPDATE room_members SET membership = 'join', pos = $2 WHERE user_nid = $1",
            bob,
            await write.next_position(),
        )
    assert await known(world) is None
    await learn(world, Peer("X"))
    assert await device_ids(world) == ["X"]


async def test_a_change_while_the_list_is_asked_for_voids_it(world: World) -> None:
    """An answer that may be older than an update that came meanwhile is not relied upon."""

    class Slow(Peer):
        async def query_user_devices(self, destination: str, user_id: str) -> JsonObject:
            await update(world, "Y", 2, [1])
            return await super().query_user_devices(destination, user_id)

    await learn(world, Slow("X"))
    assert await known(world) is None


async def test_malformed_lists_and_updates_are_refused(world: World) -> None:
    """A list of somebody else, or an update without proper ids, is not taken in."""
    with pytest.raises(Unavailable):
        await learn(world, Peer(stream_id=-1))
    good = {"device_id": "X", "stream_id": 1, "prev_id": [0]}
    assert parse_update(good, BOB) is not None
    keys = {"user_id": "@eve:there.example", "device_id": "X"}
    for bad in ({"device_id": ""}, {"stream_id": "1"}, {"prev_id": ["0"]}, {"device_id": "\0"}, {"keys": keys}):
        assert parse_update(good | bad, BOB) is None
