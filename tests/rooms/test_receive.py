"""Events of other servers: forks, late ones and hostile ones end where the specification puts them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from homeserver.protocol.auth_rules import auth_event_keys
from homeserver.protocol.event_builder import build_event
from homeserver.protocol.events import Event, JsonObject, StateKey
from homeserver.protocol.room_versions import RoomVersion
from homeserver.protocol.signing import generate_signing_key
from homeserver.protocol.state_resolution import resolve
from homeserver.rooms.checked_pdus import checked
from homeserver.storage.events import Status
from homeserver.storage.names import Room
from tests.support.rooms import ALICE, Rooms

ZOE = "@zoe:elsewhere"
_KEY = generate_signing_key()


class Graph:
    """A naive model of one room: every event with the whole state after it."""

    def __init__(self, version: RoomVersion, events: Sequence[Event]) -> None:
        self.version = version
        self.events = {event.event_id: event for event in events}
        self.after: dict[str, dict[StateKey, str]] = {}
        for event in events:
            self.add(event)

    def before(self, prev_events: Sequence[str]) -> dict[StateKey, str]:
        states = [self.after[event_id] for event_id in prev_events]
        if len(states) == 1:
            return states[0]
        return resolve(self.version, states, None, self.events) if states else {}

    def add(self, event: Event) -> None:
        self.events[event.event_id] = event
        state = dict(self.before(event.prev_events))
        if event.is_state:
            state[event.key] = event.event_id
        self.after[event.event_id] = state

    def make(
        self,
        room_id: str,
        prev: Sequence[str],
        type: str,
        sender: str,
        content: JsonObject,
        state_key: str | None,
        ts: int,
    ) -> Event:
        """An event of another server that follows these."""
        state = self.before(prev)
        keys = auth_event_keys(self.version, type=type, sender=sender, state_key=state_key, content=content)
        return build_event(
            room_version=self.version,
            room_id=room_id,
            type=type,
            sender=sender,
            content=content,
            state_key=state_key,
            prev_events=list(prev),
            auth_events=[state[key] for key in keys if key in state],
            depth=max(self.events[event_id].depth for event_id in prev) + 1,
            origin_server_ts=ts,
            server_name="elsewhere",
            signing_key=_KEY,
        )


async def _graph(rooms: Rooms, room: Room) -> Graph:
    async with rooms.pool.acquire() as conn:
        rows = await conn.fetch("SELECT event_id FROM events WHERE room_nid = $1 ORDER BY ord", room.nid)
    return Graph(room.version, [(await rooms.event(row["event_id"])).event for row in rows])


async def _join_zoe(rooms: Rooms, room: Room) -> Graph:
    graph = await _graph(rooms, room)
    last = list(graph.events)[-1]
    join = graph.make(room.room_id, [last], "m.room.member", ZOE, {"membership": "join"}, ZOE, 1)
    await rooms.receiver.receive_checked("elsewhere", room, checked(join))
    graph.add(join)
    return graph


@pytest.mark.parametrize("version", ["2", "6", "11", "12"])
@pytest.mark.parametrize("seed", [1, 2])
async def test_forks_resolve_as_the_algorithm_on_the_whole_graph(rooms: Rooms, version: str, seed: int) -> None:
    """However the history forks and meets, the room's state is what resolving the newest events' states gives."""
    choose = random.Random(f"{version} {seed}")
    room = await rooms.create(version=version if version != "2" else "3")
    await rooms.set_state(
        room,
        ALICE,
        "m.room.power_levels",
        {"users": {ZOE: 60} | ({} if version == "12" else {ALICE: 100}), "events": {"m.room.topic": 0}},
    )
    graph = await _join_zoe(rooms, room)
    extremities = {list(graph.events)[-1]}
    for step in range(40):
        ids = list(graph.events)
        recent = [event_id for event_id in ids[-8:] if ("m.room.member", ZOE) in graph.after[event_id]]
        prev = (
            sorted(extremities)
            if choose.random() < 0.3
            else choose.sample(recent, min(len(recent), choose.randint(1, 2)))
        )
        kind = choose.choice(["topic", "topic", "name", "message", "join_rules"])
        type = f"m.room.{kind}" if kind != "message" else "m.room.message"
        content: JsonObject = (
            {kind: str(step)} if kind != "join_rules" else {"join_rule": choose.choice(["public", "invite"])}
        )
        event = graph.make(
            room.room_id, prev, type, ZOE, content, None if kind == "message" else "", choose.randint(1, 50)
        )
        if event.event_id in graph.events:
            continue
        await rooms.receiver.receive_checked("elsewhere", room, checked(event))
        assert (await rooms.event(event.event_id)).status is Status.ACCEPTED
        graph.add(event)
        extremities = (extremities - set(event.prev_events)) | {event.event_id}
        state = {key: event.event_id for key, event in (await rooms.state(room)).items()}
        assert state == graph.before(sorted(extremities))
    async with rooms.pool.acquire() as conn:
        head = await rooms.timeline.head(conn, room)
    assert set(head.extremities.values()) == extremities
    own = await rooms.event(await rooms.message(room, ALICE, "and on"))
    assert set(own.event.prev_events) == extremities


async def test_an_event_that_its_auth_events_do_not_allow_is_rejected(rooms: Rooms) -> None:
    """An event of someone who never joined is rejected: kept, in nobody's timeline, followed by nothing of ours."""
    room = await rooms.create()
    graph = await _graph(rooms, room)
    event = graph.make(room.room_id, [list(graph.events)[-1]], "m.room.message", ZOE, {"body": "hi"}, None, 1)
    await rooms.receiver.receive_checked("elsewhere", room, checked(event))
    stored = await rooms.event(event.event_id)
    assert (stored.status, stored.ord) == (Status.REJECTED, None)
    assert (await rooms.event(await rooms.message(room, ALICE, "on"))).event.prev_events != (event.event_id,)


async def test_what_evades_a_ban_is_soft_failed(rooms: Rooms) -> None:
    """An event from before its sender was banned, that arrives after, is kept but shown to nobody and not followed."""
    room = await rooms.create()
    graph = await _join_zoe(rooms, room)
    join = list(graph.events)[-1]
    await rooms.membership.ban(room, ALICE, ZOE)
    evading = graph.make(room.room_id, [join], "m.room.message", ZOE, {"body": "still here"}, None, 1)
    await rooms.receiver.receive_checked("elsewhere", room, checked(evading))
    stored = await rooms.event(evading.event_id)
    assert (stored.status, stored.ord) == (Status.SOFT_FAILED, None)
    own = await rooms.event(await rooms.message(room, ALICE, "on"))
    assert evading.event_id not in own.event.prev_events


async def test_the_same_event_twice_is_one(rooms: Rooms) -> None:
    """An event that arrives again changes nothing."""
    room = await rooms.create()
    graph = await _join_zoe(rooms, room)
    event = graph.make(room.room_id, [list(graph.events)[-1]], "m.room.message", ZOE, {"body": "hi"}, None, 1)
    for _ in range(3):
        await rooms.receiver.receive_checked("elsewhere", room, checked(event))
    async with rooms.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM events WHERE event_id = $1", event.event_id) == 1


async def test_a_redaction_that_comes_before_its_target(rooms: Rooms) -> None:
    """A redaction takes effect whichever of the two arrives first."""
    room = await rooms.create(version="11")
    graph = await _join_zoe(rooms, room)
    last = list(graph.events)[-1]
    message = graph.make(room.room_id, [last], "m.room.message", ZOE, {"body": "oops"}, None, 1)
    redaction = graph.make(room.room_id, [last], "m.room.redaction", ZOE, {"redacts": message.event_id}, None, 2)
    for event in (redaction, message):
        await rooms.receiver.receive_checked("elsewhere", room, checked(event))
    stored = await rooms.event(message.event_id)
    assert stored.event.content == {}
    assert stored.redacted_by == (await rooms.event(redaction.event_id)).nid
