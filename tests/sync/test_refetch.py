"""Sync proved by refetching: what a client knew, plus what it is told, is what a client is told that knows nothing.

Random users do random things in random rooms; between, one of their clients syncs, and a second one of the same user
starts from nothing. Both must then hold the same.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from homeserver.protocol.errors import MatrixError
from homeserver.rooms.receipts import MAIN_THREAD, READ, READ_PRIVATE, Receipt, Receipts
from homeserver.storage.names import Room
from tests.sync.client_model import ClientModel, RoomModel
from tests.sync.world import World, user_id

USERS = ("alice", "bob", "carol", "dave")
VISIBILITIES = ("world_readable", "shared", "invited", "joined")
STEPS = 120


class Client:
    """One user's client, with a filter of its own."""

    def __init__(self, name: str, device: str, random: random.Random) -> None:
        self.name = name
        self.device = device
        self.lazy = random.random() < 0.4
        self.state_after = random.random() < 0.5
        timeline: dict[str, Any] = {"limit": random.choice([0, 1, 2, 3, 10, 50])}
        if random.random() < 0.3:
            timeline["not_types"] = random.choice([["m.room.topic"], ["m.room.member"], ["m.room.*"]])
        self.sees_redactions = "m.room.*" not in timeline.get("not_types", [])
        self.filter: dict[str, Any] = {
            "room": {"include_leave": True, "timeline": timeline, "state": {"lazy_load_members": self.lazy}}
        }
        if self.lazy and random.random() < 0.3:
            self.filter["room"]["state"]["include_redundant_members"] = True
        self.model = ClientModel()

    async def sync(self, world: World) -> None:
        await world.settle()
        self.model.apply(
            await world.sync(
                self.name, self.model.since, filter=self.filter, state_after=self.state_after, device=self.device
            )
        )

    async def fresh(self, world: World) -> ClientModel:
        model = ClientModel()
        model.apply(await world.sync(self.name, filter=self.filter, state_after=self.state_after, device="OTHER"))
        return model

    async def whole_state(self, world: World) -> ClientModel:
        """What the rooms really hold."""
        model = ClientModel()
        everything = {"room": {"include_leave": True, "timeline": {"limit": 0}}}
        model.apply(await world.sync(self.name, filter=everything, device="OTHER"))
        return model


class History:
    """Random acts of random users."""

    def __init__(self, world: World, random: random.Random) -> None:
        self.world = world
        self.random = random
        self.rooms: list[Room] = []
        self.events: dict[int, list[str]] = {}
        self.receipts = Receipts(world.stream, world.timeline.names)

    async def act(self) -> None:
        name = self.random.choice(USERS)
        if not self.rooms or (len(self.rooms) < 4 and self.random.random() < 0.1):
            visibility = self.random.choice((None, *VISIBILITIES))
            rule = self.random.choice(("public", "public", "invite", "knock"))
            self.rooms.append(await self.world.create_room(name, visibility=visibility, join_rule=rule))
            return
        room = self.random.choice(self.rooms)
        acts = (self.say, self.say, self.say, self.membership, self.membership, self.state, self.receipt, self.data)
        try:
            event_id = await self.random.choice((*acts, self.redact, self.type))(room, name)
        except MatrixError:
            return  # not allowed just now
        if event_id is not None:
            self.events.setdefault(room.nid, []).append(event_id)

    async def say(self, room: Room, name: str) -> str:
        return await self.world.say(room, name, str(self.random.random()))

    async def membership(self, room: Room, name: str) -> str:
        target = self.random.choice(USERS)
        match self.random.choice(("join", "join", "leave", "invite", "kick", "ban", "knock", "profile")):
            case "join" | "leave" | "knock" as membership:
                return await self.world.set_membership(room, name, membership)
            case "profile":
                return await self.world.join(room, name, displayname=str(self.random.random()))
            case "kick":
                return await self.world.set_membership(room, target, "leave", by=name)
            case membership:
                return await self.world.set_membership(room, target, membership, by=name)

    async def state(self, room: Room, name: str) -> str:
        match self.random.choice(("topic", "name", "visibility", "other")):
            case "topic":
                content = {"topic": str(self.random.random())}
                return await self.world.set_state(room, name, "m.room.topic", content)
            case "name":
                content = {"name": self.random.choice(("", "A name"))}
                return await self.world.set_state(room, name, "m.room.name", content)
            case "visibility":
                content = {"history_visibility": self.random.choice(VISIBILITIES)}
                return await self.world.set_state(room, name, "m.room.history_visibility", content)
            case _:
                key = str(self.random.randrange(3))
                return await self.world.set_state(room, name, "org.example", {"is": self.random.random() < 0.5}, key)

    async def redact(self, room: Room, name: str) -> str | None:
        known = self.events.get(room.nid)
        return await self.world.redact(room, name, self.random.choice(known)) if known else None

    async def receipt(self, room: Room, name: str) -> None:
        known = self.events.get(room.nid)
        if known:
            kind = self.random.choice((READ, READ, READ_PRIVATE))
            thread = self.random.choice((None, MAIN_THREAD))
            event_id = self.random.choice(known)
            await self.receipts.set_local(Receipt(room, kind, user_id(name), event_id, thread, 1))

    async def data(self, room: Room, name: str) -> None:
        content = {"is": self.random.random()}
        await self.world.set_account_data(name, "org.example", content, self.random.choice((room, None)))

    async def type(self, room: Room, name: str) -> None:
        self.world.sources.typing.set_local(room.nid, user_id(name), typing=self.random.random() < 0.6)


def check_same(client: Client, fresh: ClientModel, real: ClientModel) -> None:
    """The client holds what a new one is told; one that loads members lazily may hold more of them, all true."""
    held = client.model
    assert held.account_data == fresh.account_data
    for room_id, room in fresh.rooms.items():
        if room_id in held.rooms:
            check_same_room(client, held.rooms[room_id], room, real.rooms[room_id])
        else:  # it was never more than an invitation, gone before the client heard of it
            assert room.membership == "leave"
            assert ("m.room.create", "") not in real.rooms[room_id].state
    assert held.rooms.keys() <= fresh.rooms.keys()


def check_same_room(client: Client, held: RoomModel, fresh: RoomModel, real: RoomModel) -> None:
    assert held.membership == fresh.membership
    if held.archived or ("m.room.create", "") not in real.state:
        return  # of invitations, refused ones too, there is nothing but that
    if client.lazy:
        for key, event_id in held.state.items():
            assert real.state[key] == event_id
        others = {key: event_id for key, event_id in real.state.items() if key[0] != "m.room.member"}
        assert others.items() <= held.state.items()
        for sender in held.senders:
            assert ("m.room.member", sender) in held.state
    else:
        assert held.state == fresh.state == real.state
    if held.membership == "join":
        overlap = min(len(held.timeline), len(fresh.timeline))
        assert held.timeline[len(held.timeline) - overlap :] == fresh.timeline[len(fresh.timeline) - overlap :]
        assert held.account_data == fresh.account_data
        assert held.receipts == fresh.receipts
        assert held.typing == fresh.typing
        for count in ("m.joined_member_count", "m.invited_member_count"):
            assert held.summary[count] == fresh.summary[count]
        # Who filters redactions out is not told when one takes the room's name away.
        if "m.heroes" in fresh.summary and client.sees_redactions:
            assert held.summary["m.heroes"] == fresh.summary["m.heroes"]


@pytest.mark.parametrize("seed", range(4))
async def test_old_state_and_what_follows_is_the_new_state(world: World, seed: int) -> None:
    """A client that applies every incremental sync holds the same as one that starts from nothing, at any time."""
    rand = random.Random(seed)
    history = History(world, rand)
    clients = [Client(name, f"{name}{number}", rand) for name in USERS for number in range(2)]
    for _ in range(STEPS):
        await history.act()
        if rand.random() < 0.25:
            client = rand.choice(clients)
            await client.sync(world)
            check_same(client, await client.fresh(world), await client.whole_state(world))
    for client in clients:
        await client.sync(world)
        check_same(client, await client.fresh(world), await client.whole_state(world))
