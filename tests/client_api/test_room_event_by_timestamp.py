"""The event next to a moment."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from homeserver.main import Server
from homeserver.rooms.timeline import NewEvent
from tests.support.api import Answer, Api

LONG_AGO = 1_000_000


async def _send_at(server: Server, user: Api, room_id: str, ts: int) -> str:
    timeline = server.services.timeline
    content = {"msgtype": "m.text", "body": str(ts)}
    event = NewEvent("m.room.message", user.user_id, content, origin_server_ts=ts)
    return await timeline.send_event(await timeline.room(room_id), event)


async def _near(user: Api, room_id: str, **query: Any) -> Answer:
    path = f"/_matrix/client/v1/rooms/{quote(room_id)}/timestamp_to_event"
    return await user.get(path, query={key: str(value) for key, value in query.items()})


@pytest.fixture
async def room(alice: Api) -> str:
    """A room of Alice's that shows newcomers nothing of its past."""
    initial = [{"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}]
    answer = await alice.post("/createRoom", {"preset": "public_chat", "initial_state": initial})
    return str(answer.body["room_id"])


async def test_the_nearest_event_in_a_direction(server: Server, alice: Api, room: str) -> None:
    """Forwards the first event at or after the moment is given, backwards the last at or before it."""
    ids = {ts: await _send_at(server, alice, room, ts) for ts in (LONG_AGO, LONG_AGO + 30, LONG_AGO + 10)}
    for ts, direction, expected in (
        (LONG_AGO, "f", LONG_AGO),
        (LONG_AGO + 1, "f", LONG_AGO + 10),
        (LONG_AGO + 11, "f", LONG_AGO + 30),
        (LONG_AGO + 29, "b", LONG_AGO + 10),
        (LONG_AGO + 31, "b", LONG_AGO + 30),
        (-5, "f", LONG_AGO),
    ):
        answer = await _near(alice, room, ts=ts, dir=direction)
        assert answer.body == {"event_id": ids[expected], "origin_server_ts": expected}
    assert (await _near(alice, room, ts=LONG_AGO - 1, dir="b")).errcode == "M_NOT_FOUND"
    assert (await _near(alice, room, ts=2**62, dir="f")).errcode == "M_NOT_FOUND"


async def test_only_events_that_the_user_may_see(server: Server, api: Api, alice: Api, room: str) -> None:
    """What was sent before a user came to a room that hides its past is not found for that user."""
    hidden = await _send_at(server, alice, room, LONG_AGO)
    bob = await api.register("bob")
    assert (await _near(bob, room, ts=0, dir="f")).errcode == "M_FORBIDDEN"
    await bob.post(f"/join/{quote(room)}", {})
    visible = await _send_at(server, alice, room, LONG_AGO + 1)
    assert (await _near(alice, room, ts=0, dir="f")).body["event_id"] == hidden
    assert (await _near(bob, room, ts=0, dir="f")).body["event_id"] == visible
    assert (await _near(bob, room, ts=LONG_AGO, dir="b")).errcode == "M_NOT_FOUND"


async def test_malformed_questions(alice: Api, room: str) -> None:
    """Moment and direction are both needed, as an integer and as f or b."""
    assert (await _near(alice, room, ts=1)).errcode == "M_MISSING_PARAM"
    assert (await _near(alice, room, dir="f")).errcode == "M_MISSING_PARAM"
    assert (await _near(alice, room, ts="x", dir="f")).errcode == "M_INVALID_PARAM"
    assert (await _near(alice, room, ts=1, dir="up")).errcode == "M_INVALID_PARAM"
    assert (await _near(alice, "!unknown:test.example", ts=1, dir="f")).errcode == "M_NOT_FOUND"
