"""The deprecated endpoints of sync, and peeking.

# spec: client-server-api/#get_matrixclientv3initialsync  client-server-api/#get_matrixclientv3events
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.api import Api


@pytest.fixture
async def bob(alice: Api) -> Api:
    return await alice.as_token(None).register("bob")


async def new_room(user: Api, **settings: Any) -> str:
    return str((await user.post("/createRoom", settings)).body["room_id"])


async def say(user: Api, room: str, text: str) -> str:
    answer = await user.put(f"/rooms/{room}/send/m.room.message/{text}", {"msgtype": "m.text", "body": text})
    assert answer.status == 200, answer
    return str(answer.body["event_id"])


def texts(events: list[Any]) -> list[str]:
    return [event["content"]["body"] for event in events if event["type"] == "m.room.message"]


async def test_initial_sync_tells_every_room(alice: Api, bob: Api) -> None:
    """Joined rooms come with their last messages, whole state, visibility and account data; invitations whole."""
    room = await new_room(alice, name="Tea", visibility="public")
    other = await new_room(bob, invite=[alice.user_id])
    for number in range(5):
        await say(alice, room, str(number))
    await alice.put(f"/user/{alice.user_id}/rooms/{room}/tags/u.x", {})
    await alice.put(f"/user/{alice.user_id}/account_data/org.example.x", {"a": 1})
    body = (await alice.get("/initialSync?limit=2")).body
    rooms = {info["room_id"]: info for info in body["rooms"]}
    assert rooms.keys() == {room, other}
    info = rooms[room]
    assert (info["membership"], info["visibility"]) == ("join", "public")
    assert texts(info["messages"]["chunk"]) == ["3", "4"]
    assert {"m.room.create", "m.room.member", "m.room.name"} <= {event["type"] for event in info["state"]}
    assert all(event["room_id"] == room for event in [*info["state"], *info["messages"]["chunk"]])
    assert info["account_data"] == [{"type": "m.tag", "content": {"tags": {"u.x": {}}}}]
    older = await alice.get(f"/rooms/{room}/messages?dir=b&from={info['messages']['start']}")
    assert texts(older.body["chunk"]) == ["2", "1", "0"]
    invite = rooms[other]
    assert invite["membership"] == "invite"
    assert invite["invite"]["sender"] == bob.user_id
    assert invite["invite"]["content"]["membership"] == "invite"
    assert {"type": "org.example.x", "content": {"a": 1}} in body["account_data"]
    assert body["end"] == info["messages"]["end"]


async def test_initial_sync_tells_of_left_rooms_if_asked(alice: Api) -> None:
    """Rooms that the user has left are there with archived=true alone."""
    room = await new_room(alice)
    await alice.post(f"/rooms/{room}/leave", {})
    assert (await alice.get("/initialSync")).body["rooms"] == []
    [info] = (await alice.get("/initialSync?archived=true")).body["rooms"]
    assert (info["room_id"], info["membership"]) == (room, "leave")


async def test_events_go_on_where_initial_sync_ended(alice: Api, bob: Api) -> None:
    """/events waits for what happens in all rooms, and its end is where the next one begins."""
    room = await new_room(alice, preset="public_chat")
    end = (await alice.get("/initialSync")).body["end"]
    nothing = (await alice.get(f"/events?from={end}&timeout=0")).body
    assert (nothing["start"], nothing["chunk"]) == (end, [])
    waiting = asyncio.create_task(alice.get(f"/events?from={end}&timeout=20000"))
    await bob.post(f"/join/{room}", {})
    first = (await asyncio.wait_for(waiting, 10)).body
    assert [event["state_key"] for event in first["chunk"] if event["type"] == "m.room.member"] == [bob.user_id]
    await say(bob, room, "hello")
    other = await new_room(bob, invite=[alice.user_id])
    second = (await alice.get(f"/events?from={first['end']}")).body["chunk"]
    assert texts(second) == ["hello"]
    assert [event["room_id"] for event in second if event.get("state_key") == alice.user_id] == [other]
    assert (await alice.get("/events?from=nonsense")).errcode == "M_INVALID_PARAM"


async def test_events_without_a_token_begin_now(alice: Api) -> None:
    """Without `from` only what happens from now on is told."""
    room = await new_room(alice)
    await say(alice, room, "before")
    body = (await alice.get("/events")).body
    assert body["chunk"] == []
    await say(alice, room, "after")
    assert texts((await alice.get(f"/events?from={body['end']}")).body["chunk"]) == ["after"]


@pytest.fixture
async def open_room(alice: Api) -> str:
    """A room that anyone may read."""
    visible = {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}
    return await new_room(alice, preset="public_chat", initial_state=[visible])


async def test_peeking_into_a_world_readable_room(alice: Api, bob: Api, open_room: str) -> None:
    """Who is not in a room that everyone may read gets its state and messages, and then what happens there."""
    await say(alice, open_room, "one")
    info = (await bob.get(f"/rooms/{open_room}/initialSync?limit=1")).body
    assert info["room_id"] == open_room
    assert "membership" not in info
    assert texts(info["messages"]["chunk"]) == ["one"]
    assert "m.room.create" in {event["type"] for event in info["state"]}
    end = info["messages"]["end"]
    waiting = asyncio.create_task(bob.get(f"/events?room_id={open_room}&from={end}&timeout=20000"))
    await say(alice, open_room, "two")
    seen = (await asyncio.wait_for(waiting, 10)).body
    assert texts(seen["chunk"]) == ["two"]
    again = (await bob.get(f"/events?room_id={open_room}&from={seen['end']}")).body
    assert again["chunk"] == []
    await say(alice, open_room, "three")
    assert texts((await bob.get(f"/events?room_id={open_room}&from={again['end']}")).body["chunk"]) == ["three"]


async def test_closed_rooms_are_not_peeked_into(alice: Api, bob: Api) -> None:
    """Peeking is refused where one may not read; so is the state of the room."""
    room = await new_room(alice, preset="public_chat")
    assert (await bob.get(f"/events?room_id={room}")).errcode == "M_FORBIDDEN"
    assert (await bob.get(f"/rooms/{room}/initialSync")).errcode == "M_FORBIDDEN"
    assert (await bob.get("/events?room_id=nonsense")).errcode == "M_INVALID_PARAM"
    assert (await bob.get("/events?room_id=!none:test.example")).errcode == "M_FORBIDDEN"


async def test_initial_sync_of_a_room_for_those_who_were_there(alice: Api, bob: Api) -> None:
    """A member gets the room as it is, a former member as it was when they left."""
    room = await new_room(alice, preset="public_chat")
    await bob.post(f"/join/{room}", {})
    await say(alice, room, "together")
    assert (await bob.get(f"/rooms/{room}/initialSync")).body["membership"] == "join"
    await bob.post(f"/rooms/{room}/leave", {})
    await say(alice, room, "alone")
    await alice.put(f"/rooms/{room}/state/m.room.topic", {"topic": "later"})
    info = (await bob.get(f"/rooms/{room}/initialSync")).body
    assert info["membership"] == "leave"
    assert texts(info["messages"]["chunk"]) == ["together"]
    assert "m.room.topic" not in {event["type"] for event in info["state"]}


async def test_one_event_by_its_id_alone(alice: Api, bob: Api) -> None:
    """/events/{eventId} gives an event of any room that the user may read; of others not even that it exists."""
    event_id = await say(alice, await new_room(alice), "x")
    assert (await alice.get(f"/events/{event_id}")).body["content"]["body"] == "x"
    for reader, id in ((bob, event_id), (alice, "$nothing"), (alice, "nonsense")):
        assert (await reader.get(f"/events/{id}")).errcode == "M_NOT_FOUND"
