"""Whose devices a client is told to look at again, and whom it may forget."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.devices.device_lists import mark_changed
from homeserver.storage.names import Room
from homeserver.sync.device_lists import changes
from homeserver.sync.tokens import parse_sync_token
from tests.sync.test_long_poll import waiting
from tests.sync.world import World, user_id


async def change(world: World, name: str) -> None:
    """A user's devices change."""
    nid = (await world.reader(name)).user_nid
    async with world.stream.write() as write:
        await mark_changed(write, nid)


class Follower:
    """Alice's client, which syncs on and on."""

    def __init__(self, world: World, since: str) -> None:
        self.world, self.since = world, since

    async def told(self) -> tuple[list[str], list[str]]:
        """Localparts of those who changed and who left since the last call."""
        response = await self.world.sync("alice", self.since)
        reader = await self.world.reader("alice")
        until = parse_sync_token(response["next_batch"]).position
        async with self.world.sources.pool.acquire() as conn:
            asked = await changes(conn, reader.user_nid, parse_sync_token(self.since).position, until)
        self.since = response["next_batch"]
        lists = response["device_lists"]
        assert asked.json() == lists
        return _names(lists["changed"]), _names(lists["left"])


def _names(user_ids: list[str]) -> list[str]:
    return [one[1:].partition(":")[0] for one in user_ids]


async def follower(world: World) -> Follower:
    return Follower(world, (await world.sync("alice"))["next_batch"])


async def room_of(world: World, *names: str) -> Room:
    """A room of the first of them, which the others have joined."""
    room = await world.create_room(names[0])
    for name in names[1:]:
        await world.join(room, name)
    return room


async def test_changes_of_those_who_share_a_room_are_told_once(world: World) -> None:
    """Whoever shares a room and changed is told once, oneself too; nobody else."""
    await room_of(world, "bob", "alice")
    alice = await follower(world)
    assert await alice.told() == ([], [])
    for name in ("bob", "alice", "stranger", "bob"):
        await change(world, name)
    assert await alice.told() == (["alice", "bob"], [])
    assert await alice.told() == ([], [])


async def test_an_invitation_does_not_share_a_room(world: World) -> None:
    """Who is only invited, knocks or has declined is not followed, on either side."""
    room = await world.create_room("alice", join_rule="invite")
    theirs = await world.create_room("carol", join_rule="invite")
    alice = await follower(world)
    await world.set_membership(room, "bob", "invite", by="alice")
    await world.set_membership(theirs, "alice", "invite", by="carol")
    await change(world, "bob")
    await change(world, "carol")
    assert await alice.told() == ([], [])
    await world.leave(room, "bob")
    await world.leave(theirs, "alice")
    assert await alice.told() == ([], [])


async def test_who_joins_is_to_be_looked_at(world: World) -> None:
    """Who comes to share the first room has changed; a second room, or a new name, says nothing."""
    room = await room_of(world, "alice")
    alice = await follower(world)
    await world.join(room, "bob")
    assert await alice.told() == (["bob"], [])
    await world.join(room, "bob", displayname="Bobby")
    await room_of(world, "bob", "alice")
    assert await alice.told() == ([], [])


async def test_everyone_of_a_room_that_one_joins_is_to_be_looked_at(world: World) -> None:
    """Joining a room brings all its members but those who are followed already; invited ones don't count."""
    await room_of(world, "alice", "bob")
    room = await room_of(world, "carol", "bob", "dave")
    await world.set_membership(room, "erin", "invite", by="carol")
    await world.leave(room, "dave")
    alice = await follower(world)
    await world.join(room, "alice")
    assert await alice.told() == (["carol"], [])


async def test_who_leaves_the_last_room_is_left(world: World) -> None:
    """Who leaves has left if no room is shared any more, and then is not followed."""
    first, second = await room_of(world, "alice", "bob"), await room_of(world, "bob", "alice")
    alice = await follower(world)
    await world.leave(first, "bob")
    await change(world, "bob")
    assert await alice.told() == (["bob"], [])
    await world.leave(second, "bob")
    await change(world, "bob")
    assert await alice.told() == ([], ["bob"])
    await change(world, "bob")
    assert await alice.told() == ([], [])


@pytest.mark.parametrize("membership", ["leave", "ban"])
async def test_leaving_a_room_leaves_everyone_in_it(world: World, membership: str) -> None:
    """Who goes from a room, or is put out, leaves all its members but those met elsewhere."""
    room = await room_of(world, "carol", "alice", "bob", "dave")
    await room_of(world, "bob", "alice")
    alice = await follower(world)
    await world.set_membership(room, "alice", membership, by="carol")
    await world.leave(room, "dave")
    assert await alice.told() == ([], ["carol", "dave"])


async def test_who_came_and_went_in_between(world: World) -> None:
    """Of who came and went nothing is told; who went and came back may have changed unseen."""
    room = await room_of(world, "alice", "bob")
    alice = await follower(world)
    await world.join(room, "carol")
    await world.leave(room, "carol")
    await world.leave(room, "bob")
    await world.join(room, "bob")
    assert await alice.told() == (["bob"], [])
    await world.leave(room, "alice")
    await world.join(room, "alice")
    assert await alice.told() == (["bob"], [])


async def test_a_filter_hides_no_devices(world: World) -> None:
    """What the client wants to see of rooms does not matter for whom it encrypts to."""
    room = await room_of(world, "alice", "bob")
    since = (await world.sync("alice"))["next_batch"]
    await change(world, "bob")
    response: Any = await world.sync("alice", since, filter={"room": {"not_rooms": [room.room_id]}})
    assert response["device_lists"]["changed"] == [user_id("bob")]


async def test_a_change_wakes(world: World) -> None:
    """A change ends the wait of those who share a room."""
    await room_of(world, "alice", "bob")
    task = await waiting(world, "alice", (await world.sync("alice"))["next_batch"])
    await change(world, "bob")
    assert (await task)["device_lists"]["changed"] == [user_id("bob")]


async def test_an_open_change_is_told_later(world: World) -> None:
    """A change whose transaction is still open is not stepped over by a token."""
    await room_of(world, "alice", "bob")
    alice = await follower(world)
    async with world.stream.write() as write:
        await mark_changed(write, (await world.reader("bob")).user_nid)
        await change(world, "alice")
        assert await alice.told() == ([], [])
    assert await alice.told() == (["alice", "bob"], [])
