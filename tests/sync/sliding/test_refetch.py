"""Sliding sync proved by refetching: what a client was told over time is what a new one is told, and what is true.

Random users do random things in random rooms; between, their clients ask for random windows, lose responses, ask again,
and the server forgets what it holds in memory. At any time a client that looks at all of its rooms must hold what a new
connection of the same user is told, and what /sync says of the rooms.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from homeserver.storage.names import Room
from homeserver.sync.sliding.connections import Connections
from tests.sync.client_model import ClientModel, RoomModel
from tests.sync.sliding.conftest import PhoneOf
from tests.sync.sliding.phone import Phone, PhoneRoom, listing
from tests.sync.test_refetch import USERS, History
from tests.sync.world import World, user_id

STEPS = 120
EXTENSIONS = {name: {"enabled": True} for name in ("account_data", "receipts", "typing", "to_device", "e2ee")}
REQUIRED: list[list[list[str]]] = [
    [["*", "*"]],
    [["*", "*"], ["m.room.member", "$LAZY"]],
    [["m.room.name", ""], ["org.example", "*"], ["m.room.member", "$LAZY"], ["m.room.member", "$ME"]],
    [["m.room.topic", ""], ["m.room.member", "*"]],
    [["m.room.create", ""]],
]


class Walker:
    """A client with a taste of its own, and a bad line."""

    def __init__(self, phone: Phone, random: random.Random) -> None:
        self.phone = phone
        self.random = random
        self.limit = random.choice([0, 1, 2, 5, 20])
        self.required = random.choice(REQUIRED)

    def request(self, rooms: list[Room], *, whole: bool) -> dict[str, Any]:
        if whole:
            lists = {"all": listing(self.limit, self.required, ranges=[[0, 99]])}
            return {"lists": lists, "extensions": EXTENSIONS}
        pick = self.random
        lists = {
            "top": listing(pick.choice([0, 1, 3, 10]), pick.choice(REQUIRED), ranges=[[0, pick.choice([0, 1, 3])]]),
            "direct": listing(1, self.required, filters={"is_dm": pick.random() < 0.5}, ranges=[[0, 1]]),
        }
        subscriptions = {
            room.room_id: {"timeline_limit": pick.choice([1, 20]), "required_state": pick.choice(REQUIRED)}
            for room in rooms
            if pick.random() < 0.2
        }
        return {"lists": lists, "room_subscriptions": subscriptions, "extensions": EXTENSIONS}

    async def sync(self, rooms: list[Room], *, whole: bool = False) -> None:
        if self.random.random() < 0.2:  # one whose response is lost
            await self.phone.ask(self.request(rooms, whole=self.random.random() < 0.5))
        await self.phone.sync(self.request(rooms, whole=whole))

    async def check(self, world: World, rooms: list[Room]) -> None:
        await self.sync(rooms, whole=True)
        fresh = Phone(world, self.phone.connections, self.phone.name, "OTHER", "fresh")
        await fresh.sync(self.request(rooms, whole=True))
        real = ClientModel()
        everything = {"room": {"include_leave": True, "timeline": {"limit": 50}}}
        real.apply(await world.sync(self.phone.name, filter=everything, device="OTHER"))
        held = self.phone
        assert held.account_data == fresh.account_data
        assert fresh.rooms.keys() <= held.rooms.keys()
        for room_id, room in held.rooms.items():
            if room_id not in fresh.rooms:  # a new client is not told of rooms that the user has left
                assert room.membership in ("leave", "ban")
            else:
                self._check_same(room, fresh.rooms[room_id])
            if room_id in real.rooms:
                self._check_true(room, real.rooms[room_id])
        for room_id, true in real.rooms.items():
            assert room_id in held.rooms or true.membership == "leave"

    def _check_same(self, held: PhoneRoom, fresh: PhoneRoom) -> None:
        assert held.membership == fresh.membership
        if fresh.membership in ("invite", "knock"):  # what was redacted since is still as it was told
            assert _keys(held.stripped) == _keys(fresh.stripped)
        assert (held.bump_stamp, held.is_dm) == (fresh.bump_stamp, fresh.is_dm)
        if fresh.membership != "join":
            return
        assert (held.name, held.avatar, held.heroes) == (fresh.name, fresh.avatar, fresh.heroes)
        assert held.counts == fresh.counts
        assert (held.typing, held.account_data) == (fresh.typing, fresh.account_data)
        assert fresh.receipts.items() <= held.receipts.items()
        assert len(held.timeline) >= len(fresh.timeline)
        assert held.timeline[len(held.timeline) - len(fresh.timeline) :] == fresh.timeline

    def _check_true(self, held: PhoneRoom, real: RoomModel) -> None:
        assert (held.membership if held.membership != "ban" else "leave") == real.membership
        if held.stripped is not None or ("m.room.create", "") not in real.state:
            return
        for key, event_id in real.state.items():
            if self._wants(key):
                assert held.state[key] == event_id, key
        for key, event_id in held.state.items():
            if self._wants(key):
                assert real.state[key] == event_id, key
        overlap = min(len(held.timeline), len(real.timeline))
        assert held.timeline[len(held.timeline) - overlap :] == real.timeline[len(real.timeline) - overlap :]
        if ["m.room.member", "$LAZY"] in self.required and held.membership == "join":
            for event_id in held.timeline[-self.limit :] if self.limit else []:
                key = ("m.room.member", held.senders[event_id])
                assert held.state[key] == real.state[key]

    def _wants(self, key: tuple[str, str]) -> bool:
        lazy = ["m.room.member", "$LAZY"] in self.required
        for type, state_key in self.required:
            state_key = user_id(self.phone.name) if state_key == "$ME" else state_key
            if type == "*" and not (lazy and key[0] == "m.room.member"):
                return True
            if type == key[0] and state_key in ("*", key[1]):
                return True
        return False


def _keys(events: list[dict[str, Any]] | None) -> list[tuple[str, str]]:
    return sorted((event["type"], event["state_key"]) for event in events or [])


@pytest.mark.parametrize("seed", range(4))
async def test_what_was_told_over_time_is_what_is_true(world: World, phone_of: PhoneOf, seed: int) -> None:
    """A client that applies every response holds what a new one is told, and what /sync says, at any time."""
    rand = random.Random(seed)
    history = History(world, rand)
    walkers = [Walker(phone_of(name, conn=f"{number}"), rand) for name in USERS for number in range(2)]
    for _ in range(STEPS):
        await history.act()
        if rand.random() < 0.05 and history.rooms:
            name, room = rand.choice(USERS), rand.choice(history.rooms)
            await world.set_account_data(name, "m.direct", {"@someone:here.example": [room.room_id]})
        if rand.random() < 0.05:
            forgetful = Connections(world.sources.pool)
            for walker in walkers:
                walker.phone.connections = forgetful
        walker = rand.choice(walkers)
        if rand.random() < 0.3:
            await walker.sync(history.rooms)
        if rand.random() < 0.1:
            await walker.check(world, history.rooms)
    for walker in walkers:
        await walker.check(world, history.rooms)
