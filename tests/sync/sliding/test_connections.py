"""Positions of sliding sync connections: what a client may name, what it gets again, and what starts it anew."""

from __future__ import annotations

import asyncio

import pytest

from homeserver.storage.sliding_connections import MOST_CONNECTIONS
from homeserver.sync.sliding.connections import Connections, UnknownPos
from tests.sync.sliding.conftest import PhoneOf
from tests.sync.sliding.phone import everything, listing
from tests.sync.world import World, bodies, user_id


async def test_a_lost_response_is_given_again(world: World, phone_of: PhoneOf) -> None:
    """Asking twice with the same position gives the same, and what came meanwhile."""
    room = await world.create_room("alice")
    phone = phone_of("alice")
    await phone.sync(everything())
    await world.say(room, "alice", "one")
    lost = await phone.ask(everything())
    assert bodies(lost["rooms"][room.room_id]["timeline"]) == ["one"]
    await world.say(room, "alice", "two")
    again = await phone.sync(everything())
    assert bodies(again["rooms"][room.room_id]["timeline"]) == ["one", "two"]
    assert again["rooms"][room.room_id]["num_live"] == 2
    assert (await phone.sync(everything()))["rooms"] == {}


async def test_a_lost_response_may_be_followed_by_another_question(world: World, phone_of: PhoneOf) -> None:
    """What only the lost response told of is told when it is asked for again."""
    one, two = await world.create_room("alice"), await world.create_room("alice")
    phone = phone_of("alice")
    await phone.sync({})
    lost = await phone.ask(everything())
    assert lost["rooms"].keys() == {one.room_id, two.room_id}
    narrow = await phone.sync({"lists": {"all": listing(ranges=[[0, 0]])}})
    assert narrow["rooms"].keys() == {two.room_id}
    assert (await phone.sync(everything()))["rooms"].keys() == {one.room_id}


async def test_old_and_foreign_positions_are_unknown(world: World, phone_of: PhoneOf) -> None:
    """A position before the last but one, of another connection, device or user, or of nobody, is M_UNKNOWN_POS."""
    await world.create_room("alice")
    phone = phone_of("alice")
    first = (await phone.sync(everything()))["pos"]
    second = (await phone.sync(everything()))["pos"]
    await phone.sync(everything())
    others = (phone_of("alice", conn="b"), phone_of("alice", device="OTHER"), phone_of("bob"))
    for other, pos in [(phone, first), *((other, second) for other in others), (phone, "p1_1_1"), (phone, "s1_1")]:
        with pytest.raises(UnknownPos) as error:
            await other.ask(everything(), pos=pos)
        assert (error.value.status, error.value.errcode) == (400, "M_UNKNOWN_POS")
    await phone.ask(everything(), pos=second)  # its own is good still


async def test_a_position_that_a_retry_has_replaced_is_unknown(world: World, phone_of: PhoneOf) -> None:
    """A client that asked again has given up the first answer."""
    phone = phone_of("alice")
    await phone.sync(everything())
    lost = await phone.ask(everything())
    await phone.ask(everything())
    with pytest.raises(UnknownPos):
        await phone.ask(everything(), pos=lost["pos"])


async def test_connections_of_a_device_are_apart(world: World, phone_of: PhoneOf) -> None:
    """What one connection was told another was not; starting one anew leaves the other alone."""
    room = await world.create_room("alice")
    main, other = phone_of("alice", conn="room-list"), phone_of("alice", conn="encryption")
    await main.sync(everything())
    assert (await other.sync(everything()))["rooms"][room.room_id]["initial"]
    other.pos = None
    assert (await other.sync(everything()))["rooms"][room.room_id]["initial"]
    assert (await main.sync(everything()))["rooms"] == {}


async def test_connections_outlive_the_process(world: World, phone_of: PhoneOf) -> None:
    """A server that has just started goes on where the client is, a lost response included."""
    room = await world.create_room("alice")
    phone = phone_of("alice")
    await phone.sync(everything(1, [["*", "*"], ["m.room.member", "$LAZY"]]))
    for text, lost in (("one", True), ("two", False)):
        await world.say(room, "alice", text)
        phone.connections = Connections(world.sources.pool)
        if lost:
            await phone.ask(everything(1, [["*", "*"], ["m.room.member", "$LAZY"]]))
    phone.connections = Connections(world.sources.pool)
    told = (await phone.sync(everything(5, [["*", "*"], ["m.room.member", "$LAZY"]])))["rooms"][room.room_id]
    assert bodies(told["timeline"])[-2:] == ["one", "two"]
    assert told["num_live"] == 2
    assert told["expanded_timeline"] is True
    assert {event["type"] for event in told.get("required_state", [])} <= {"m.room.member"}


async def test_a_device_has_only_so_many_connections(world: World, phone_of: PhoneOf) -> None:
    """The one that was used longest ago makes room for a new one; other devices are not concerned."""
    other = phone_of("alice", device="OTHER")
    await other.sync({})
    phones = [phone_of("alice", conn=str(number)) for number in range(MOST_CONNECTIONS + 1)]
    await phones[0].sync({})
    await world.sources.pool.execute("UPDATE sliding_connections SET used_ts = 0")
    for phone in phones[1:]:
        await phone.sync({})
    phones[0].connections = Connections(world.sources.pool)
    with pytest.raises(UnknownPos):
        await phones[0].sync({})
    await phones[1].sync({})
    await other.sync({})
    count = "SELECT count(*) FROM sliding_connections WHERE device_id = 'DEVICE'"
    assert await world.sources.pool.fetchval(count) == MOST_CONNECTIONS


async def test_a_dropped_connection_is_noticed_by_who_remembers_it(world: World, phone_of: PhoneOf) -> None:
    """The database decides: a process whose memory still has the connection can't go on with it."""
    phone = phone_of("alice")
    await phone.sync({})
    nid = await world.timeline.names.user_nid(user_id("alice"))
    await world.sources.pool.execute("DELETE FROM devices WHERE user_nid = $1", nid)
    with pytest.raises(UnknownPos):
        await phone.sync({})
    phone.pos = None
    with pytest.raises(UnknownPos):
        await phone.sync({})


async def test_memory_holds_only_so_much(world: World, phone_of: PhoneOf) -> None:
    """Connections that fall out of memory are read again."""
    await world.create_room("alice")
    connections = Connections(world.sources.pool, most_remembered=3)
    phones = [phone_of("alice", conn=str(number)) for number in range(4)]
    for phone in phones:
        phone.connections = connections
        await phone.sync(everything())
    assert len(connections._known) == 1
    for phone in phones:
        assert (await phone.sync(everything()))["rooms"] == {}


async def test_a_connection_that_asks_for_too_many_things_starts_anew(world: World, phone_of: PhoneOf) -> None:
    """What its rooms were told is kept for each connection, and that has a bound."""
    rooms = [await world.create_room("alice") for _ in range(2)]
    phone = phone_of("alice")
    await phone.sync({})
    keys = [["m.type", f"{number:03}" + "k" * 250] for number in range(400)]
    subscriptions = {
        room.room_id: {"timeline_limit": 1, "required_state": [*keys, ["a", str(number)]]}
        for number, room in enumerate(rooms)
    }
    for number in range(3):
        body = {"room_subscriptions": subscriptions, "lists": {"a": listing(1, [["b", str(number)]])}}
        try:
            await phone.sync(body)
        except UnknownPos:
            return
    size = await world.sources.pool.fetchval("SELECT max(length(required_states)) FROM sliding_connections")
    assert size <= 512 * 1024


async def test_a_newer_request_ends_an_older_one_that_waits(world: World, phone_of: PhoneOf) -> None:
    """A request whose client is gone unnoticed takes nothing from the one that the client sent instead."""
    room = await world.create_room("alice")
    phone = phone_of("alice")
    await phone.sync(everything())
    forgotten = asyncio.create_task(phone.ask(everything(), timeout=20))
    await asyncio.sleep(0.05)
    newer = asyncio.create_task(phone.ask(everything(), timeout=20))
    with pytest.raises(UnknownPos):
        await forgotten
    await world.say(room, "alice", "hello")
    phone.apply(await newer)
    assert (await phone.sync(everything()))["rooms"] == {}


async def test_a_position_is_a_place_to_read_back_from(world: World, phone_of: PhoneOf) -> None:
    """/messages takes a `pos` as it takes a token of /sync."""
    from homeserver.sync.tokens import parse_place, place_token

    await world.create_room("alice")
    pos = (await phone_of("alice").sync(everything()))["pos"]
    assert parse_place(pos) == world.stream.position << 20
    assert parse_place(place_token(5)) == 5
