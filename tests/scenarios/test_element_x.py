"""Element X at the start of an account with 2,000 rooms: its two connections, `room-list` and `encryption`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from homeserver.main import Server
from homeserver.protocol.room_versions import room_version
from homeserver.rooms.timeline import NewEvent
from tests.client_api.test_sliding_sync import ask, encryption, room_list, say
from tests.support.api import Api, Json

pytestmark = pytest.mark.timeout(600)

ROOMS = 2_000
FIRST, STEP = 20, 100  # rooms that it asks for at first, and how many more each time
_OPEN = {"timeline_limit": 20, "required_state": [["m.room.name", ""], ["m.room.pinned_events", ""]]}


async def _make_rooms(server: Server, user: str, guest: str) -> list[str]:
    """Rooms of two members and the same age order as in the list, made without HTTP, where it would take minutes."""
    services = server.services

    async def make(number: int) -> str:
        create = NewEvent("m.room.create", user, {"room_version": "11"}, state_key="")
        events: Sequence[NewEvent] = (
            NewEvent("m.room.member", user, {"membership": "join"}, user),
            NewEvent("m.room.name", user, {"name": f"Room {number}"}, ""),
        )
        if number % 100 == 0:
            events = (
                *events,
                NewEvent("m.room.join_rules", user, {"join_rule": "public"}, ""),
                NewEvent("m.room.member", guest, {"membership": "join"}, guest),
            )
        room_id = f"!room{number}:{server.services.server_name}"
        async with services.stream.write() as write:
            room = await services.timeline.create_room(
                room_version("11"), create, room_id, published=False, write=write
            )
            async with services.timeline.appending(write, room, len(events)) as append:
                for event in events:
                    await services.timeline.append_new(append, event)
        return room_id

    made: list[str] = []
    for first in range(0, ROOMS, STEP):
        made += await asyncio.gather(*(make(number) for number in range(first, first + STEP)))
    return made


async def test_element_x_with_two_thousand_rooms(server: Server, api: Api, alice: Api) -> None:
    """The list grows by a hundred rooms at a time, each told once; then only what is new comes, on each connection."""
    bob = await api.register("bob")
    rooms = await _make_rooms(server, alice.user_id, bob.user_id)
    newest = [rooms[number] for number in range(0, ROOMS, 100)]
    for number, room_id in enumerate(newest):
        await say(bob, room_id, f"hello-{number}")

    crypto = await ask(alice, encryption())
    assert crypto["rooms"] == {}
    told = await ask(alice, room_list(FIRST - 1))
    assert told["lists"]["all_rooms"] == {"count": ROOMS}
    assert set(told["rooms"]) == set(newest), "those in which something was said last come first"
    for number, room_id in enumerate(newest):
        _check_room(told["rooms"][room_id], f"Room {100 * number}", f"hello-{number}")
    size = len(str(told["rooms"])) / FIRST

    seen, last = set(told["rooms"]), FIRST - 1
    while len(seen) < ROOMS:
        last += STEP
        told = await ask(alice, room_list(last), told["pos"])
        assert told["lists"]["all_rooms"] == {"count": ROOMS}
        assert len(told["rooms"]) == min(STEP, ROOMS - len(seen))
        assert not seen & set(told["rooms"]), "a room is told once"
        assert all(room["initial"] for room in told["rooms"].values())
        assert len(str(told["rooms"])) < 2 * size * STEP
        seen |= set(told["rooms"])
    assert seen == set(rooms)

    whole = room_list(ROOMS + STEP)
    assert (await ask(alice, whole, told["pos"]))["rooms"] == {}
    told = await ask(alice, whole, told["pos"])
    waiting = asyncio.create_task(ask(alice, whole, told["pos"], 30_000))
    crypto_waiting = asyncio.create_task(
        ask(alice, encryption(crypto["extensions"]["to_device"]["next_batch"]), crypto["pos"], 30_000)
    )
    await say(bob, newest[3], "psst")
    told = await waiting
    assert told["rooms"].keys() == {newest[3]}
    assert [event["content"]["body"] for event in told["rooms"][newest[3]]["timeline"]] == ["psst"]
    assert not told["rooms"][newest[3]].get("initial")
    assert not crypto_waiting.done(), "a message is nothing to the connection for keys"
    await bob.put("/sendToDevice/org.example.ping/1", {"messages": {alice.user_id: {"*": {"body": "pong"}}}})
    crypto = await crypto_waiting
    assert [event["content"]["body"] for event in crypto["extensions"]["to_device"]["events"]] == ["pong"]

    opened = {"room_subscriptions": {rooms[1999]: _OPEN, newest[3]: _OPEN}}
    told = await ask(alice, {**whole, **opened}, told["pos"], 30_000)
    assert told["rooms"].keys() == {rooms[1999], newest[3]}
    assert len(told["rooms"][newest[3]]["timeline"]) > 2
    told = await ask(alice, {**whole, **opened}, told["pos"])
    assert told["rooms"] == {}

    # Told that its position is unknown it begins again, with few rooms.
    answer = await alice.post(
        "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync", whole, query={"pos": crypto["pos"]}
    )
    assert (answer.status, answer.errcode) == (400, "M_UNKNOWN_POS")
    told = await ask(alice, room_list(FIRST - 1))
    assert len(told["rooms"]) == FIRST
    assert all(room["initial"] for room in told["rooms"].values())


def _check_room(room: Json, name: str, text: str) -> None:
    assert room["name"] == name
    assert room["joined_count"] == 2
    assert room["notification_count"] == 1
    assert [event["content"]["body"] for event in room["timeline"]] == [text]
    assert room["limited"] is True
    assert room["prev_batch"]
    state = {event["type"] for event in room["required_state"]}
    assert state >= {"m.room.create", "m.room.name", "m.room.member", "m.room.join_rules"}
