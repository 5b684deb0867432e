"""Receipts: forwards only, each kind and thread by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from homeserver.protocol.errors import InvalidParam, NotFound
from homeserver.rooms.receipts import READ, READ_PRIVATE, Receipt, Receipts
from homeserver.rooms.timeline import NewEvent
from homeserver.storage.names import Room
from tests.sync.world import World, open_world, user_id


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    async with open_world(database) as world:
        yield world


@pytest.fixture
def receipts(world: World) -> Receipts:
    return Receipts(world.stream, world.timeline.names)


def receipt(room: Room, event_id: str, kind: str = READ, thread_id: str | None = None, name: str = "alice") -> Receipt:
    return Receipt(room, kind, user_id(name), event_id, thread_id, 1)


async def held(world: World, name: str = "alice") -> dict[tuple[str, str], str]:
    rows = await world.stream.pool.fetch(
        "SELECT receipt_type, thread_id, event_id FROM receipts JOIN users USING (user_nid) WHERE user_id = $1",
        user_id(name),
    )
    return {(row["receipt_type"], row["thread_id"]): row["event_id"] for row in rows}


async def test_a_receipt_moves_forwards_only(world: World, receipts: Receipts) -> None:
    """One at an older event than the user has read already changes nothing, and costs no position."""
    room = await world.create_room("alice")
    first, second = await world.say(room, "alice", "1"), await world.say(room, "alice", "2")
    await receipts.set_local(receipt(room, second))
    position = world.stream.position
    await receipts.set_local(receipt(room, first))
    await receipts.set_local(receipt(room, second))
    assert await held(world) == {(READ, ""): second}
    assert world.stream.position == position


async def test_kinds_and_threads_are_apart(world: World, receipts: Receipts) -> None:
    """A public, a private, and a receipt for the main timeline don't move one another."""
    room = await world.create_room("alice")
    first, second = await world.say(room, "alice", "1"), await world.say(room, "alice", "2")
    await receipts.set_local(receipt(room, second))
    await receipts.set_local(receipt(room, first, READ_PRIVATE))
    await receipts.set_local(receipt(room, first, thread_id="main"))
    assert await held(world) == {(READ, ""): second, (READ_PRIVATE, ""): first, (READ, "main"): first}


async def test_the_event_must_be_in_the_thread(world: World, receipts: Receipts) -> None:
    """A thread is its root's id: what relates to the root, directly or over another event, is in it; else in main."""
    room = await world.create_room("alice")
    root = await world.say(room, "alice", "root")

    async def relate(to: str, rel_type: str) -> str:
        content = {"body": "x", "msgtype": "m.text", "m.relates_to": {"rel_type": rel_type, "event_id": to}}
        return await world.timeline.send_event(room, NewEvent("m.room.message", user_id("alice"), content))

    reply = await relate(root, "m.thread")
    edit = await relate(reply, "m.replace")
    reaction = await relate(root, "m.annotation")
    for event_id, thread_id in ((reply, root), (edit, root), (root, "main"), (reaction, "main"), (root, root)):
        await receipts.set_local(receipt(room, event_id, thread_id=thread_id))
    for event_id, thread_id in ((reply, "main"), (edit, "main"), (reaction, root), (reply, "$other")):
        with pytest.raises(InvalidParam):
            await receipts.set_local(receipt(room, event_id, thread_id=thread_id))


async def test_events_of_other_rooms_are_not_found(world: World, receipts: Receipts) -> None:
    """A receipt or marker can't be put at an event that is not in the room's timeline."""
    room, other = await world.create_room("alice"), await world.create_room("alice")
    elsewhere = await world.say(other, "alice", "x")
    alice = await world.timeline.names.user_nid(user_id("alice"))
    for event_id in (elsewhere, "$unknown"):
        with pytest.raises(NotFound):
            await receipts.set_local(receipt(room, event_id))
        with pytest.raises(NotFound):
            await receipts.set_fully_read(room, alice, event_id)
    assert await held(world) == {}


@pytest.mark.parametrize("visibility", ["joined", "shared"])
async def test_events_must_be_for_the_user_to_see(world: World, receipts: Receipts, visibility: str) -> None:
    """A receipt or marker can't be put at an event from before the user came if that is not for them to see."""
    room = await world.create_room("alice", visibility=visibility)
    before = await world.say(room, "alice", "before")
    await world.join(room, "bob")
    bob = await world.timeline.names.user_nid(user_id("bob"))
    if visibility == "joined":
        with pytest.raises(NotFound):
            await receipts.set_local(receipt(room, before, name="bob"))
        with pytest.raises(NotFound):
            await receipts.set_fully_read(room, bob, before)
        assert await held(world, "bob") == {}
        before = await world.say(room, "alice", "since")
    await receipts.set_fully_read(room, bob, before)
    await receipts.set_local(receipt(room, before, name="bob"))
    assert await held(world, "bob") == {(READ, ""): before}


async def test_other_servers_may_be_ahead(world: World, receipts: Receipts) -> None:
    """A remote receipt at an event that is not here yet is kept as the newest; private ones are not taken."""
    room = await world.create_room("alice")
    first = await world.say(room, "alice", "1")
    await receipts.set_remote(receipt(room, first, name="bob"))
    await receipts.set_remote(receipt(room, "$ahead", name="bob"))
    await receipts.set_remote(receipt(room, first, READ_PRIVATE, name="bob"))
    assert await held(world, "bob") == {(READ, ""): "$ahead"}


async def test_listeners_hear_of_public_local_receipts_that_moved(world: World, receipts: Receipts) -> None:
    """Other servers are told of m.read alone, and only when it is new."""
    heard: list[Receipt] = []
    receipts.on_local_receipt(heard.append)
    room = await world.create_room("alice")
    event_id = await world.say(room, "alice", "1")
    await receipts.set_local(receipt(room, event_id, READ_PRIVATE))
    await receipts.set_remote(receipt(room, event_id, name="bob"))
    assert heard == []
    for _ in range(2):
        await receipts.set_local(receipt(room, event_id))
    assert heard == [receipt(room, event_id)]


async def test_the_fully_read_marker_moves_forwards_only(world: World, receipts: Receipts) -> None:
    """The marker is account data of the room, and an older event doesn't take it back."""
    room = await world.create_room("alice")
    first, second = await world.say(room, "alice", "1"), await world.say(room, "alice", "2")
    alice = await world.timeline.names.user_nid(user_id("alice"))
    for event_id in (first, second, first):
        await receipts.set_fully_read(room, alice, event_id)
    section = (await world.sync("alice"))["rooms"]["join"][room.room_id]
    assert section["account_data"]["events"] == [{"type": "m.fully_read", "content": {"event_id": second}}]
