"""Waiting for something to tell."""

from __future__ import annotations

import asyncio
import time

from homeserver.rooms.receipts import READ, Receipt, Receipts
from tests.sync.sliding.conftest import PhoneOf
from tests.sync.sliding.phone import Json, everything, listing
from tests.sync.world import World, bodies, user_id

EXTENSIONS: Json = {name: {"enabled": True} for name in ("to_device", "e2ee", "account_data", "receipts", "typing")}


async def test_a_request_waits_until_something_happens(world: World, phone_of: PhoneOf) -> None:
    """A message, typing, a receipt, account data, an invitation each end the wait."""
    room = await world.create_room("alice")
    event_id = await world.say(room, "alice", "first")
    other = await world.create_room("bob", join_rule="invite")
    phone = phone_of("alice")
    await phone.sync(everything(extensions=EXTENSIONS))
    receipts = Receipts(world.stream, world.timeline.names)

    async def type_something() -> None:
        world.sources.typing.set_local(room.nid, user_id("bob"), typing=True)

    for act in (
        lambda: world.say(room, "alice", "second"),
        type_something,
        lambda: receipts.set_local(Receipt(room, READ, user_id("alice"), event_id, None, 1)),
        lambda: world.set_account_data("alice", "org.example", {"is": 1}),
        lambda: world.set_membership(other, "alice", "invite", by="bob"),
    ):
        waiting = asyncio.create_task(phone.ask(everything(extensions=EXTENSIONS), timeout=20))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await act()
        response = await waiting
        assert response["rooms"] or set(response["extensions"]) & {"typing", "receipts", "account_data"}
        phone.apply(response)


async def test_the_wait_ends_with_the_time(world: World, phone_of: PhoneOf) -> None:
    """With nothing to tell the answer says so after the time asked for, with a position to go on from."""
    await world.create_room("alice")
    phone = phone_of("alice")
    await phone.sync(everything(extensions=EXTENSIONS))
    start = time.monotonic()
    response = await phone.sync(everything(extensions=EXTENSIONS), timeout=0.2)
    assert time.monotonic() - start >= 0.2
    assert response["rooms"] == {}
    assert response["lists"] == {"all": {"count": 1}}
    assert response["extensions"].keys() == {"to_device", "e2ee"}  # which always say how things stand
    assert (await phone.sync(everything()))["rooms"] == {}


async def test_a_first_request_and_a_larger_window_do_not_wait(world: World, phone_of: PhoneOf) -> None:
    """Without a position nothing is waited for, nor where there is something to tell at once."""
    one, two = await world.create_room("alice"), await world.create_room("alice")
    phone = phone_of("alice")
    async with asyncio.timeout(10):
        first = await phone.sync({"lists": {"a": listing(1, ranges=[[0, 0]])}}, timeout=60)
        second = await phone.sync({"lists": {"a": listing(1, ranges=[[0, 1]])}}, timeout=60)
    assert (first["rooms"].keys(), second["rooms"].keys()) == ({two.room_id}, {one.room_id})
    assert (await phone_of("bob").sync({}, timeout=60))["rooms"] == {}


async def test_what_happens_outside_the_window_moves_into_it(world: World, phone_of: PhoneOf) -> None:
    """A wait for the top of the list ends when another room comes to the top, but not for an ignored user."""
    low, _ = await world.create_room("alice"), await world.create_room("alice")
    await world.join(low, "bob")
    top = await world.create_room("alice")
    await world.set_account_data("alice", "m.ignored_user_list", {"ignored_users": {user_id("bob"): {}}})
    phone = phone_of("alice")
    body = {"lists": {"a": listing(1, ranges=[[0, 0]])}}
    assert (await phone.sync(body))["rooms"].keys() == {top.room_id}
    waiting = asyncio.create_task(phone.ask(body, timeout=20))
    await asyncio.sleep(0.05)
    await world.say(low, "alice", "up")
    response = await waiting
    assert bodies(response["rooms"][low.room_id]["timeline"]) == ["up"]
    assert response["rooms"][low.room_id]["num_live"] == 1
    phone.apply(response)
    waiting = asyncio.create_task(phone.ask(body, timeout=0.3))
    await asyncio.sleep(0.05)
    await world.say(low, "bob", "unheard")
    assert (await waiting)["rooms"] == {}
