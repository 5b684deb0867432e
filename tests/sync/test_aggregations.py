"""Aggregations, relations, threads and search proved by doing them again by hand.

Random users write, edit, thread, refer, react and redact in random rooms, come, go and ignore each other. Then all that
each of them may read is compared with what follows from the bare events.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.rooms.timeline import NewEvent
from homeserver.rooms.visibility import Sight, sights
from homeserver.storage.events import COLUMNS, FROM, StoredEvent, stored_event
from homeserver.storage.names import Room
from homeserver.storage.stream import Connection
from homeserver.sync.client_events import Reader, timeline_events
from homeserver.sync.related_events import RelationsRequest, relations, threads
from homeserver.sync.search import SearchRequest, search_events
from tests.sync.world import World, user_id

USERS = ("alice", "bob", "carol")
WORDS = ("harbour", "harbours", "港口", "boat", "hafenboot")


class History:
    """Random acts of random users in one room."""

    def __init__(self, world: World, room: Room, random: random.Random) -> None:
        self.world = world
        self.room = room
        self.random = random
        self.events: list[str] = []

    async def act(self) -> None:
        name = self.random.choice(USERS)
        acts = (self.say, self.relate, self.relate, self.relate, self.relate, self.redact, self.move)
        try:
            event_id = await self.random.choice(acts)(name)
        except MatrixError:
            return  # not allowed just now
        if event_id is not None:
            self.events.append(event_id)

    async def send(self, name: str, type: str, content: JsonObject) -> str:
        # Few moments, so that edits often have the same.
        moment = 1_700_000_000_000 + self.random.randrange(2)
        new = NewEvent(type, user_id(name), content, origin_server_ts=moment)
        timeline = self.world.timeline
        # Past the check of relations: other servers send what it would refuse.
        async with timeline.locked(self.room, 1) as append:
            event = await timeline.build(append.write.conn, append.head, new)
            await append.append_to_head(event)
        return event.event_id

    async def say(self, name: str) -> str:
        return await self.send(name, "m.room.message", {"body": self.random.choice(WORDS)})

    async def relate(self, name: str) -> str | None:
        if not self.events:
            return None
        rel_type = self.random.choice(("m.replace", "m.replace", "m.thread", "m.reference", "m.annotation"))
        relation = {"rel_type": rel_type, "event_id": self.random.choice(self.events[-12:])}
        content: JsonObject = {"body": self.random.choice(WORDS), "m.relates_to": relation}
        if rel_type == "m.annotation":
            relation["key"] = self.random.choice("👍👎")
        if rel_type == "m.replace" and self.random.random() < 0.8:
            content["m.new_content"] = {"body": self.random.choice(WORDS)}
        type = self.random.choice(("m.room.message", "m.room.message", "m.room.message", "m.room.encrypted"))
        return await self.send(name, type, content)

    async def redact(self, name: str) -> str | None:
        return await self.world.redact(self.room, name, self.random.choice(self.events)) if self.events else None

    async def move(self, name: str) -> str:
        if self.random.random() < 0.3:
            visibility = self.random.choice(("shared", "joined", "invited", "world_readable"))
            content = {"history_visibility": visibility}
            return await self.world.set_state(self.room, name, "m.room.history_visibility", content)
        return await self.world.set_membership(self.room, name, self.random.choice(("join", "join", "leave")))


class ByHand:
    """What one reader is to be shown, from the room's events one by one."""

    def __init__(self, events: Sequence[StoredEvent], sight: Sight, reader: str, ignored: set[str]) -> None:
        self.reader = reader
        self.seen = [event for event in events if event.ord is not None and sight.sees(event.ord)]
        self.heard = [event for event in self.seen if event.event.sender not in ignored]
        self.served = [event for event in self.seen if event in self.heard or event.event.is_state]

    @staticmethod
    def relation(event: StoredEvent) -> tuple[str | None, str | None]:
        relation = event.event.content.get("m.relates_to")
        return (relation["rel_type"], relation["event_id"]) if isinstance(relation, dict) else (None, None)

    def children(self, parent: StoredEvent, rel_type: str) -> list[StoredEvent]:
        return [event for event in self.heard if self.relation(event) == (rel_type, parent.event.event_id)]

    def bundle(self, parent: StoredEvent, *, with_thread: bool = True) -> JsonObject:
        bundle: JsonObject = {}
        if parent.event.is_state:
            return bundle
        edits = [
            edit
            for edit in self.children(parent, "m.replace")
            if edit.event.sender == parent.event.sender
            and edit.event.type == parent.event.type
            and ("m.new_content" in edit.event.content or edit.event.type == "m.room.encrypted")
        ]
        if edits and parent.redacted_by is None and self.relation(parent)[0] != "m.replace":
            bundle["m.replace"] = max(edits, key=lambda e: (e.event.origin_server_ts, e.event.event_id)).event.event_id
        if references := self.children(parent, "m.reference"):
            bundle["m.reference"] = [child.event.event_id for child in references]
        replies = self.children(parent, "m.thread")
        if with_thread and replies and self.relation(parent)[0] is None:
            own = any(event.event.sender == self.reader for event in [parent, *replies])
            latest = replies[-1]
            bundle["m.thread"] = (len(replies), own, latest.event.event_id, self.bundle(latest, with_thread=False))
        return bundle

    def threads(self) -> list[str]:
        latest = {
            parent.event.event_id: replies[-1].nid
            for parent in self.seen
            if self.relation(parent)[0] is None and (replies := self.children(parent, "m.thread"))
        }
        return sorted(latest, key=lambda root: latest[root], reverse=True)

    def related(self, parent_id: str, depth: int) -> list[str]:
        found: dict[str, int] = {}
        level = {parent_id}
        for _ in range(depth):
            children = [event for event in self.served if self.relation(event)[1] in level]
            level = {child.event.event_id for child in children} - found.keys()
            found.update({child.event.event_id: child.nid for child in children})
        return sorted(found, key=lambda child: found[child], reverse=True)


def shown_bundle(event: JsonObject) -> JsonObject:
    """The `m.relations` of an event as it is served, reduced to what `ByHand.bundle` says."""
    bundle: JsonObject = dict(event["unsigned"].get("m.relations", {}))
    if "m.replace" in bundle:
        bundle["m.replace"] = bundle["m.replace"]["event_id"]
    if "m.reference" in bundle:
        bundle["m.reference"] = [child["event_id"] for child in bundle["m.reference"]["chunk"]]
    if "m.thread" in bundle:
        thread = bundle["m.thread"]
        latest = thread["latest_event"]
        bundle["m.thread"] = (
            thread["count"],
            thread["current_user_participated"],
            latest["event_id"],
            shown_bundle(latest),
        )
    return bundle


async def _events(conn: Connection, room: Room) -> list[StoredEvent]:
    rows = await conn.fetch(f"SELECT {COLUMNS} FROM {FROM} WHERE e.room_nid = $1 ORDER BY e.ord", room.nid)
    return [stored_event(row) for row in rows]


async def _check(world: World, conn: Connection, room: Room, reader: Reader, ignored: set[str]) -> None:
    names = world.timeline.names
    sight = (await sights(conn, names, reader.user_id, [room.nid]))[room.nid]
    by_hand = ByHand(await _events(conn, room), sight, reader.user_id, ignored)
    shown = await timeline_events(conn, reader, by_hand.served, {room.nid: sight})
    shown = {nid: orjson.loads(encode_json(event)) for nid, event in shown.items()}
    for event in by_hand.served:
        assert shown_bundle(shown[event.nid]) == by_hand.bundle(event), event
    if not sight.joins:
        return
    page = await threads(conn, names, reader, room, participated=False, until=None, limit=100)
    assert [root["event_id"] for root in page["chunk"]] == by_hand.threads()
    for event in by_hand.seen:
        for recurse in (False, True):
            request = RelationsRequest(event.event.event_id, True, None, None, 100, recurse=recurse)
            page = await relations(conn, names, reader, room, request)
            expected = by_hand.related(event.event.event_id, 3 if recurse else 1)
            assert [child["event_id"] for child in page["chunk"]] == expected
    found = await search_events(conn, names, reader, SearchRequest("BOOT", by_rank=False))
    expected_hits = [e for e in by_hand.heard[::-1] if e.event.type == "m.room.message" and _has(e, "boot")]
    assert [result["result"]["event_id"] for result in found["results"]] == [
        event.event.event_id for event in expected_hits[:10]
    ]
    assert found["count"] == len(expected_hits)


def _has(event: StoredEvent, part: str) -> bool:
    body: Any = event.event.content.get("body")
    return isinstance(body, str) and part in body


@pytest.mark.parametrize("seed", range(6))
async def test_what_is_summed_up_equals_what_is_counted_by_hand(world: World, seed: int) -> None:
    """After any history every reader is shown exactly the aggregations, relations, threads and finds that follow from
    the events that this reader may see and that nobody whom they ignore has sent."""
    rng = random.Random(seed)
    room = await world.create_room("alice", visibility=rng.choice((None, "joined", "shared")))
    await world.join(room, "bob")
    history = History(world, room, rng)
    ignored: dict[str, set[str]] = {name: set() for name in USERS}
    for _ in range(150):
        await history.act()
        if rng.random() < 0.03:
            name = rng.choice(USERS)
            ignored[name] = {user_id(other) for other in USERS if other != name and rng.random() < 0.4}
            users: JsonObject = {other: {} for other in ignored[name]}
            await world.set_account_data(name, "m.ignored_user_list", {"ignored_users": users})
    async with world.sources.pool.acquire() as conn:
        for name in USERS:
            await _check(world, conn, room, await world.reader(name), ignored[name])


async def test_a_response_takes_as_many_queries_for_many_events_as_for_one(world: World) -> None:
    """The number of queries that aggregations cost does not depend on the number of events, and is one if nothing
    relates to them."""
    room = await world.create_room("alice")
    plain = [await world.say(room, "alice", str(number)) for number in range(5)]
    for parent in plain[1:]:
        for rel_type in ("m.thread", "m.thread", "m.replace", "m.reference"):
            content = {"body": "x", "m.new_content": {}, "m.relates_to": {"rel_type": rel_type, "event_id": parent}}
            await world.timeline.send_event(room, NewEvent("m.room.message", user_id("alice"), content))
    reader = await world.reader("alice")
    async with world.sources.pool.acquire() as conn:
        events = {event.event.event_id: event for event in await _events(conn, room)}
        counts = []
        for parents in (plain[:1], plain[1:2], plain[1:]):
            queries: list[Any] = []
            with conn.query_logger(queries.append):
                await timeline_events(conn, reader, [events[parent] for parent in parents], {})
            counts.append(len(queries))
    assert counts[1] == counts[2]
    assert counts[0] <= 3


async def test_of_edits_of_the_same_moment_the_largest_id_counts(world: World) -> None:
    """Where replacements have the same origin_server_ts, the lexicographically largest event id is the latest."""
    room = await world.create_room("alice")
    root = await world.say(room, "alice", "root")
    relation = {"rel_type": "m.replace", "event_id": root}
    content: JsonObject = {"body": "x", "m.new_content": {}, "m.relates_to": relation}
    edits = [
        await world.timeline.send_event(
            room, NewEvent("m.room.message", user_id("alice"), {**content, "n": number}, origin_server_ts=1)
        )
        for number in range(6)
    ]
    async with world.sources.pool.acquire() as conn:
        [parent] = [event for event in await _events(conn, room) if event.event.event_id == root]
        shown = await timeline_events(conn, await world.reader("alice"), [parent], {})
    assert shown_bundle(shown[parent.nid]) == {"m.replace": max(edits)}
