"""What a sync looks at is bounded, however large the room and however little passes the filter."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from homeserver.protocol.filters import EventFilter
from homeserver.rooms.visibility import LAST_ORD
from homeserver.storage import sync_reads
from homeserver.sync import room_section, room_state_delta
from homeserver.sync.history import PageRequest, messages
from homeserver.sync.tokens import parse_place
from tests.sync.world import World, bodies

_TOPICS = EventFilter(types=("m.room.topic",))


async def test_a_filter_that_little_passes_does_not_read_the_whole_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timeline has what is found among so many events; it says that there may be more, and paging on finds it."""
    monkeypatch.setattr(room_section, "MOST_SCANNED_OF_A_ROOM", 20)
    room = await world.create_room("alice")
    await world.set_state(room, "alice", "m.room.topic", {"topic": "old"})
    since = (await world.sync("alice"))["next_batch"]
    await asyncio.gather(*(world.say(room, "alice", str(number)) for number in range(30)))
    await world.set_state(room, "alice", "m.room.topic", {"topic": "new"})
    filter = {"room": {"timeline": {"types": ["m.room.topic"]}}}
    for start in (None, since):
        section: Any = (await world.sync("alice", start, filter=filter))["rooms"]["join"][room.room_id]
        timeline = section["timeline"]
        assert [event["content"]["topic"] for event in timeline["events"]] == ["new"]
        assert timeline["limited"]
        request = PageRequest(True, parse_place(timeline["prev_batch"]), -LAST_ORD, 10, _TOPICS)
        reader = await world.reader("alice")
        page = await messages(world.stream.pool, world.timeline.names, reader, room, request, None)
        assert [event["content"]["topic"] for event in page["chunk"]] == ["old"]
    few = (await world.sync("alice", since, filter={"room": {"timeline": {"limit": 5}}}))["rooms"]["join"][room.room_id]
    assert bodies(few["timeline"]["events"])[-1] == "m.room.topic"


async def test_members_that_no_filter_lets_through_are_not_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a room's state a first sync reads member events only if its filter may let them through."""
    room = await world.create_room("alice")
    await asyncio.gather(*(world.join(room, f"member{number}") for number in range(10)))
    read: list[int] = []
    whole_state = sync_reads.whole_state

    async def counted(*args: Any, **named: Any) -> Any:
        spans = await whole_state(*args, **named)
        read.append(len(spans))
        return spans

    monkeypatch.setattr(room_state_delta, "whole_state", counted)
    for types, members in ((["m.room.create"], False), (["m.room.*"], True), (None, True)):
        state: Any = {} if types is None else {"types": types}
        filter = {"room": {"state": state, "timeline": {"limit": 1}}}
        section = (await world.sync("alice", filter=filter))["rooms"]["join"][room.room_id]
        assert (len([event for event in section["state"]["events"] if event["type"] == "m.room.member"]) > 5) is members
        assert (read.pop() > 10) is members
