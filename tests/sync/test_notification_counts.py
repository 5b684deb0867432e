"""Unread counts: what resets them, threads apart or not, and that they equal what a naive recount gives."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from homeserver.protocol.events import JsonObject
from homeserver.protocol.push_rules import (
    EventForPush,
    PushUser,
    UserRules,
    compile_rules,
    evaluate,
    with_thread_subscriptions,
)
from homeserver.rooms.notifications import counts_as_unread
from homeserver.storage.events import event_by_id
from homeserver.storage.names import Room
from homeserver.storage.notifications import Counts
from tests.support.notified import (
    Edit,
    Notified,
    in_thread,
    keyword,
    master,
    mention,
    mentions_only,
    mute,
    nothing_changed,
    silence,
)
from tests.sync.world import World, open_world, user_id

THREADS: JsonObject = {"room": {"timeline": {"unread_thread_notifications": True}}}


@pytest.fixture
def notified(world: World) -> Notified:
    return Notified(world)


async def section(world: World, room: Room, name: str, since: str | None = None, **options: Any) -> Any:
    return (await world.sync(name, since, **options))["rooms"]["join"].get(room.room_id)


async def test_sync_shows_the_counts_with_the_event(world: World, notified: Notified) -> None:
    """The counts come in the same response as the event that changes them."""
    room = await notified.room_with("alice", "bob")
    since = (await world.sync("bob"))["next_batch"]
    await notified.send(room, "alice", **mention("bob"))
    joined = await section(world, room, "bob", since)
    assert joined["unread_notifications"] == {"notification_count": 1, "highlight_count": 1}
    assert joined["org.matrix.msc2654.unread_count"] == 1
    assert "unread_thread_notifications" not in joined


@pytest.mark.parametrize("kind", ["m.read", "m.read.private"])
async def test_a_receipt_resets_and_never_sets_back(notified: Notified, kind: str) -> None:
    """Whichever of the two receipts is further counts; what came after it is unread."""
    room = await notified.room_with("alice", "bob")
    sent = [await notified.send(room, "alice") for _ in range(4)]
    await notified.read(room, "bob", sent[2], kind=kind)
    assert await notified.counts(room, "bob") == (1, 0)
    other = "m.read" if kind == "m.read.private" else "m.read.private"
    await notified.read(room, "bob", sent[0], kind=other)
    assert await notified.counts(room, "bob") == (1, 0)
    await notified.read(room, "bob", sent[3], kind=other)
    assert await notified.counts(room, "bob") == (0, 0)


async def test_a_message_of_ones_own_reads_its_timeline(notified: Notified) -> None:
    """Saying something in the main timeline reads that and no thread, in a thread reads that; state reads nothing."""
    room = await notified.room_with("alice", "bob")
    root = await notified.send(room, "alice")
    await notified.send(room, "alice", **in_thread(root))
    await notified.world.set_state(room, "bob", "m.room.topic", {"topic": "x"})
    await notified.world.join(room, "bob", displayname="Robert")
    assert await notified.counts(room, "bob") == (2, 0)
    await notified.send(room, "bob")
    unread = await notified.unread(room, "bob", by_thread=True)
    assert (unread.room.notify, unread.threads) == (0, {root: Counts(1, 0, 1)})
    await notified.send(room, "bob", **in_thread(root))
    assert await notified.counts(room, "bob") == (0, 0)


async def test_threads_are_counted_apart_if_asked_for(world: World, notified: Notified) -> None:
    """With the filter each thread has counts of its own and the room has those of the main timeline alone."""
    room = await notified.room_with("alice", "bob")
    roots = [await notified.send(room, "alice") for _ in range(3)]
    await notified.send(room, "alice", **in_thread(roots[0]))
    await notified.send(room, "alice", **in_thread(roots[1]) | mention("bob"))
    in_first = await notified.send(room, "alice", **in_thread(roots[0]))
    # Related to something in the thread, over two hops: part of it too.
    await notified.send(room, "alice", **{"m.relates_to": {"rel_type": "m.reference", "event_id": in_first}})
    joined = await section(world, room, "bob", filter=THREADS)
    assert joined["unread_notifications"] == {"notification_count": 3, "highlight_count": 0}
    assert joined["unread_thread_notifications"] == {
        roots[0]: {"notification_count": 3, "highlight_count": 0},
        roots[1]: {"notification_count": 1, "highlight_count": 1},
    }
    assert await notified.counts(room, "bob") == (7, 1)


async def test_threaded_receipts_read_one_thread(notified: Notified) -> None:
    """A receipt for a thread, or for `main`, resets that; one without thread resets all up to it."""
    room = await notified.room_with("alice", "bob")
    root = await notified.send(room, "alice")
    threaded = [await notified.send(room, "alice", **in_thread(root)) for _ in range(3)]
    last = await notified.send(room, "alice")
    await notified.read(room, "bob", threaded[1], root)
    unread = await notified.unread(room, "bob", by_thread=True)
    assert (unread.room.notify, unread.threads) == (2, {root: Counts(1, 0, 1)})
    assert await notified.counts(room, "bob") == (3, 0)
    await notified.read(room, "bob", last, "main")
    unread = await notified.unread(room, "bob", by_thread=True)
    assert (unread.room.notify, unread.threads) == (0, {root: Counts(1, 0, 1)})
    assert await notified.counts(room, "bob") == (1, 0)
    await notified.read(room, "bob", last)
    assert (await notified.unread(room, "bob", by_thread=True)).threads == {}
    assert await notified.counts(room, "bob") == (0, 0)


async def test_a_redacted_event_is_no_longer_unread(notified: Notified) -> None:
    """A redaction takes the event out of every count, also out of that of who was mentioned."""
    room = await notified.room_with("alice", "bob", "carol")
    root = await notified.send(room, "alice")
    gone = await notified.send(room, "alice", **in_thread(root) | mention("bob"))
    await notified.send(room, "alice", **in_thread(root))
    await notified.world.redact(room, "alice", gone)
    for name in ("bob", "carol"):
        assert (await notified.unread(room, name)).room == (2, 0, 2)
        assert (await notified.unread(room, name, by_thread=True)).threads == {root: Counts(1, 0, 1)}


async def test_a_receipt_from_another_device_brings_the_room(world: World, notified: Notified) -> None:
    """A change of the counts alone makes the room appear, also where the filter hides receipts."""
    room = await notified.room_with("alice", "bob")
    event_id = await notified.send(room, "alice")
    hiding: JsonObject = {"room": {"ephemeral": {"not_types": ["*"]}}}
    since = (await world.sync("bob", filter=hiding))["next_batch"]
    waiting = asyncio.create_task(world.sync("bob", since, filter=hiding, timeout=10))
    await notified.read(room, "bob", event_id, kind="m.read.private")
    joined = (await waiting)["rooms"]["join"][room.room_id]
    assert joined["ephemeral"]["events"] == []
    assert joined["unread_notifications"]["notification_count"] == 0
    since = (await world.sync("bob", filter=hiding))["next_batch"]
    assert await section(world, room, "bob", since, filter=hiding) is None


async def test_a_hidden_message_brings_the_room(world: World, notified: Notified) -> None:
    """A message that the filter hides changes the counts all the same; what notifies nobody brings nothing."""
    room = await notified.room_with("alice", "bob")
    hiding: JsonObject = {"room": {"timeline": {"types": []}, "state": {"types": []}}}
    since = (await world.sync("bob", filter=hiding))["next_batch"]
    await notified.send(room, "alice", "m.reaction")
    assert await section(world, room, "bob", since, filter=hiding) is None
    await notified.send(room, "alice")
    joined = await section(world, room, "bob", since, filter=hiding)
    assert joined["timeline"]["events"] == []
    assert joined["unread_notifications"]["notification_count"] == 1


async def test_push_rules_are_account_data(world: World, notified: Notified) -> None:
    """A first sync has the rules, predefined ones for who changed nothing, and every change comes in the next."""

    def rules(response: Any) -> Any:
        events = response["account_data"]["events"]
        return [event["content"]["global"] for event in events if event["type"] == "m.push_rules"]

    first = await world.sync("bob")
    [ruleset] = rules(first)
    assert {"override", "content", "room", "sender", "underride"} <= ruleset.keys()
    waiting = asyncio.create_task(world.sync("bob", first["next_batch"], timeout=10))
    await notified.change_rules("bob", keyword("tea"))
    second = await waiting
    [ruleset] = rules(second)
    assert [rule["pattern"] for rule in ruleset["content"]] == ["tea"]
    assert rules(await world.sync("bob", second["next_batch"])) == []
    assert len(rules(await world.sync("bob", full_state=True))) == 1
    assert rules(await world.sync("bob", filter={"account_data": {"not_types": ["m.push_rules"]}})) == []


async def test_counts_outlive_the_process(database: str) -> None:
    """A server that starts anew goes on counting where the other stopped, with the same rules and the same silences."""
    async with open_world(database) as world:
        before = Notified(world)
        room = await before.room_with("alice", "bob", "carol")
        await before.change_rules("bob", keyword("tea"))
        await before.change_rules("carol", mute(room))
        await before.send(room, "alice", body="tea")
    async with open_world(database) as world:
        after = Notified(world)
        await after.send(room, "alice", body="more tea")
        assert (await after.counts(room, "bob"), await after.counts(room, "carol")) == ((2, 2), (0, 0))
        await after.change_rules("carol", nothing_changed)
        await after.send(room, "alice")
        assert await after.counts(room, "carol") == (1, 0)
        assert await after.rows_of("quiet_spans", room) == 1


@dataclass
class Told:
    """What an event did to one user, as the recount remembers it."""

    ord: int
    thread: str
    notify: bool
    highlight: bool
    unread: bool


@dataclass
class Person:
    """A user of a random history, and all that the recount knows of them."""

    name: str
    rules: UserRules = field(default_factory=dict)
    ignored: set[str] = field(default_factory=set)
    joined: bool = False
    told: dict[str, Told] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    subscribed: set[str] = field(default_factory=set)

    def asked(self, thread: str) -> PushUser:
        """Whom rules ask for about an event of that thread."""
        return PushUser(user_id(self.name), subscribed_to_thread=thread in self.subscribed)

    def has_read(self, thread: str, ord: int) -> None:
        self.read[thread] = max(self.read.get(thread, 0), ord)

    def count(self, threads: set[str] | None = None) -> Counts:
        """Event by event, of these threads or of all."""
        unread = [
            each
            for each in self.told.values()
            if each.ord > max(self.read.get("", 0), self.read.get(each.thread, 0))
            and (threads is None or each.thread in threads)
        ]
        return Counts(
            sum(each.notify for each in unread),
            sum(each.highlight for each in unread),
            sum(each.unread for each in unread),
        )


class History:
    """Random acts in one room, done for real and remembered event by event."""

    def __init__(self, notified: Notified, seed: int) -> None:
        self.notified = notified
        self.random = random.Random(seed)
        self.people = {name: Person(name) for name in ("alice", "bob", "carol", "dave")}
        self.events: list[tuple[str, int, str]] = []  # event_id, ord, thread
        self.roots: list[str] = []
        self.room: Room

    async def run(self, steps: int) -> None:
        self.room = await self.notified.world.create_room("alice")
        self.people["alice"].joined = True
        await self.join("bob")
        acts = [self.say] * 8 + [self.burst, self.receipt, self.receipt, self.redact, self.move, self.move]
        acts += [self.change_rules, self.change_rules, self.ignore, self.topic]
        acts += [self.subscribe, self.subscribe]
        for _ in range(steps):
            await self.random.choice(acts)()
            if self.random.random() < 0.3:
                await self.check()
        await self.check()

    async def check(self) -> None:
        for name, person in self.people.items():
            if not person.joined:
                continue
            whole = await self.notified.unread(self.room, name)
            assert whole.room == person.count(), name
            apart = await self.notified.unread(self.room, name, by_thread=True)
            assert apart.room == person.count({"main"}), name
            threads = {each.thread for each in person.told.values()} - {"main"}
            counted = {thread: person.count({thread}) for thread in threads}
            expected = {thread: count for thread, count in counted.items() if count.notify or count.highlight}
            assert apart.threads == expected, name

    def somebody(self) -> Person:
        return self.random.choice([person for person in self.people.values() if person.joined])

    def content(self) -> tuple[str, JsonObject]:
        """Type and content of some event."""
        choice = self.random.choice
        mentioned = choice([{}, {}, mention(choice(list(self.people))), {"m.mentions": {"room": True}}])
        content: JsonObject = {"msgtype": "m.text", "body": choice(["hello", "tea time", "coffee"]), **mentioned}
        type = "m.room.message"
        kind = self.random.randrange(8)
        if kind == 0:
            content["msgtype"] = "m.notice"
        elif kind == 1:
            type, content = "m.room.encrypted", dict(mentioned)
        if kind in (2, 3, 4) and self.roots:
            content |= in_thread(choice(self.roots[:3]))
        elif kind == 5 and self.events:
            related = choice(self.events)[0]
            content["m.relates_to"] = {"rel_type": choice(["m.replace", "m.reference"]), "event_id": related}
        return type, content

    async def say(self) -> None:
        person = self.somebody()
        type, content = self.content()
        await self.remember(await self.notified.send(self.room, person.name, type, **content))

    async def burst(self) -> None:
        said = [(self.somebody().name, *self.content()) for _ in range(4)]
        sent = await asyncio.gather(
            *(self.notified.send(self.room, name, type, **content) for name, type, content in said)
        )
        for event_id in sent:
            await self.remember(event_id)

    async def remember(self, event_id: str) -> None:
        async with self.notified.world.stream.pool.acquire() as conn:
            stored = await event_by_id(conn, event_id)
            assert stored is not None
            assert stored.ord is not None
            head = await self.notified.timeline.head(conn, self.room)
            levels = await head.power_levels(conn, self.notified.timeline.names)
            thread = await self.thread_of(conn, stored.event.content)
        event = stored.event
        if event_id in [known for known, _, _ in self.events]:
            return
        self.events.append((event_id, stored.ord, thread))
        if event.type == "m.room.message" and "m.relates_to" not in event.content:
            self.roots.append(event_id)
        push = EventForPush(
            event,
            member_count=sum(person.joined for person in self.people.values()),
            power_levels=levels,
            in_thread=thread != "main",
        )
        for person in self.people.values():
            if user_id(person.name) == event.sender:
                if not event.is_state:
                    person.has_read(thread, stored.ord)
            elif person.joined and event.sender not in person.ignored:
                actions = evaluate(push, compile_rules(person.rules), person.asked(thread))
                told = Told(stored.ord, thread, actions.notify, actions.highlight, counts_as_unread(event))
                person.told[event_id] = told

    async def thread_of(self, conn: Any, content: JsonObject) -> str:
        """Over at most three relations, each read from what is stored now."""
        for _ in range(3):
            relation = content.get("m.relates_to")
            if relation is None:
                return "main"
            if relation["rel_type"] == "m.thread":
                return str(relation["event_id"])
            target = await event_by_id(conn, relation["event_id"])
            assert target is not None
            content = target.event.content
        return "main"

    async def receipt(self) -> None:
        person = self.somebody()
        if not self.events:
            return
        event_id, ord, thread = self.random.choice(self.events)
        chosen = self.random.choice([None, thread])
        if chosen is not None:
            async with self.notified.world.stream.pool.acquire() as conn:
                stored = await event_by_id(conn, event_id)
                assert stored is not None
                if await self.thread_of(conn, stored.event.content) != thread:
                    chosen = None  # redacted since: it is in no thread any more
        kind = self.random.choice(["m.read", "m.read.private"])
        await self.notified.read(self.room, person.name, event_id, chosen, kind)
        person.has_read("" if chosen is None else chosen, ord)

    async def redact(self) -> None:
        if not self.events:
            return
        event_id, _, _ = self.random.choice(self.events)
        for person in self.people.values():
            person.told.pop(event_id, None)
        await self.remember(await self.notified.world.redact(self.room, "alice", event_id))

    async def join(self, name: str) -> None:
        event_id = await self.notified.world.join(self.room, name)
        async with self.notified.world.stream.pool.acquire() as conn:
            stored = await event_by_id(conn, event_id)
        assert stored is not None
        assert stored.ord is not None
        self.people[name].joined = True
        self.people[name].has_read("", stored.ord)

    async def move(self) -> None:
        """Joins, leaves, or takes another name."""
        name = self.random.choice(["bob", "carol", "dave"])
        if not self.people[name].joined:
            await self.join(name)
        elif self.random.random() < 0.5:
            await self.notified.world.join(self.room, name, displayname=str(self.random.random()))
        else:
            await self.notified.world.leave(self.room, name)
            self.people[name].joined = False

    async def change_rules(self) -> None:
        person = self.random.choice(list(self.people.values()))
        edits: list[Edit] = [
            mute(self.room),
            mentions_only(self.room),
            keyword("tea"),
            silence("alice"),
            master(on=True),
            nothing_changed,
            nothing_changed,
        ]
        edit = self.random.choice(edits)
        person.rules = edit(person.rules)
        await self.notified.change_rules(person.name, edit)

    async def subscribe(self) -> None:
        """Somebody, member or not, subscribes to a thread, or takes it back."""
        person = self.random.choice([self.people["bob"], self.people["carol"]])
        if not self.roots:
            return
        root = self.random.choice(self.roots[:3])
        subscribed = self.random.random() < 0.7
        await self.notified.subscribe(self.room, person.name, root, subscribed=subscribed)
        (person.subscribed.add if subscribed else person.subscribed.discard)(root)
        person.rules = with_thread_subscriptions(person.rules)

    async def ignore(self) -> None:
        person = self.random.choice(list(self.people.values()))
        ignored = self.random.sample(sorted(self.people.keys() - {person.name}), self.random.randrange(2))
        person.ignored = {user_id(name) for name in ignored}
        await self.notified.ignore(person.name, *ignored)

    async def topic(self) -> None:
        person = self.somebody()
        topic = {"topic": str(self.random.random())}
        await self.remember(await self.notified.world.set_state(self.room, person.name, "m.room.topic", topic))


@pytest.mark.parametrize("seed", range(12))
async def test_counts_equal_a_naive_recount(notified: Notified, seed: int) -> None:
    """Over random histories of messages, rules, silences, subscriptions, memberships, receipts and redactions the
    counts are what evaluating each event for each member by itself and counting them one by one gives."""
    await History(notified, seed).run(60)
