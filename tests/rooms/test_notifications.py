"""Whom events notify: the predefined rules and users' own, who is asked, and what is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

import pytest

from homeserver.protocol.events import Event, JsonObject
from homeserver.protocol.push_rule_edits import put_rule, set_actions, set_enabled
from homeserver.protocol.room_versions import room_version
from homeserver.rooms import notifications
from homeserver.rooms.notifications import counts_as_unread, relevant_rules
from homeserver.rooms.timeline import NewEvent
from homeserver.storage.names import Room
from homeserver.storage.notifications import NotifyingEvent, notified_among, notifying_events
from homeserver.storage.stream import Connection
from homeserver.storage.thread_subscriptions import subscribed_among
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
from tests.sync.world import open_world, user_id


@pytest.fixture
async def notified(database: str) -> AsyncIterator[Notified]:
    async with open_world(database) as world:
        yield Notified(world)


async def test_a_message_notifies_everyone_but_its_sender_with_one_row(notified: Notified) -> None:
    """An ordinary message counts for each other member and costs one row, whoever they are."""
    room = await notified.room_with("alice", "bob", "carol")
    await notified.send(room, "alice")
    assert await notified.counts(room, "bob") == await notified.counts(room, "carol") == (1, 0)
    assert await notified.counts(room, "alice") == (0, 0)
    assert await notified.rows_of("room_notifications", room) == 1
    assert await notified.rows_of("user_notifications", room) == 0


@pytest.mark.parametrize(
    ("type", "content", "expected"),
    [
        ("m.room.message", {}, (1, 0)),
        ("m.room.encrypted", {"algorithm": "m.megolm.v1.aes-sha2"}, (1, 0)),
        ("m.call.invite", {}, (1, 0)),
        ("org.matrix.msc3381.poll.start", {}, (1, 0)),
        ("m.room.message", {"msgtype": "m.notice"}, (0, 0)),
        ("m.reaction", {}, (0, 0)),
        ("m.room.message", {"m.relates_to": {"rel_type": "m.replace", "event_id": "$x"}}, (0, 0)),
        ("m.room.message", mention("bob"), (1, 1)),
        ("m.room.message", mention("carol"), (1, 0)),
        ("m.room.message", mention("nobody"), (1, 0)),
        ("m.room.message", {"m.mentions": {"user_ids": ["@\0", "", 3, None, "@bob:elsewhere"]}}, (1, 0)),
        ("m.reaction", mention("bob"), (1, 1)),
        ("com.example.other", {"body": "hello"}, (0, 0)),
    ],
)
async def test_predefined_rules(
    notified: Notified, type: str, content: dict[str, object], expected: tuple[int, int]
) -> None:
    """The predefined rules say of an event whether it notifies a member, and whether as a highlight."""
    room = await notified.room_with("alice", "bob", "carol")
    await notified.send(room, "alice", type, **content)
    assert await notified.counts(room, "bob") == expected


async def test_a_mention_of_the_whole_room_needs_the_power_to(notified: Notified) -> None:
    """`m.mentions.room` highlights for all if the sender may notify the room, and is a message if not."""
    room = await notified.room_with("alice", "bob", "carol")
    await notified.send(room, "alice", **{"m.mentions": {"room": True}})
    assert await notified.counts(room, "bob") == await notified.counts(room, "carol") == (1, 1)
    await notified.send(room, "bob", **{"m.mentions": {"room": True}})
    assert await notified.counts(room, "carol") == (2, 1)
    assert await notified.rows_of("user_notifications", room) == 0


async def test_a_tombstone_highlights_except_for_who_set_it(notified: Notified) -> None:
    """State can notify too; its sender has a row instead of having read the room by it."""
    room = await notified.room_with("alice", "bob")
    await notified.send(room, "bob")
    await notified.world.set_state(room, "alice", "m.room.tombstone", {"body": "moved", "replacement_room": "!x:y"})
    assert await notified.counts(room, "bob") == (1, 1)
    assert await notified.counts(room, "alice") == (1, 0)


@pytest.mark.parametrize("rule", [mute, mentions_only])
async def test_a_silenced_room_costs_no_rows(notified: Notified, rule: Callable[[Room], Edit]) -> None:
    """Once a member has silenced a room, its messages write nothing for the member; what came before still counts."""
    room = await notified.room_with("alice", "bob", "carol")
    await notified.send(room, "alice")
    await notified.change_rules("bob", rule(room))
    for _ in range(3):
        await notified.send(room, "alice")
    assert await notified.counts(room, "bob") == (1, 0)
    assert await notified.counts(room, "carol") == (4, 0)
    assert await notified.rows_of("user_notifications", room) == 0
    await notified.change_rules("bob", nothing_changed)
    await notified.send(room, "alice")
    assert await notified.counts(room, "bob") == (2, 0)
    assert (await notified.unread(room, "bob")).room.unread == 5


async def test_a_room_rule_lets_mentions_through(notified: Notified) -> None:
    """Mentions come before room rules, and after an override that silences the room."""
    room = await notified.room_with("alice", "bob", "carol")
    await notified.change_rules("bob", mentions_only(room))
    await notified.change_rules("carol", mute(room))
    await notified.send(room, "alice", **mention("bob", "carol"))
    assert await notified.counts(room, "bob") == (1, 1)
    assert await notified.counts(room, "carol") == (0, 0)


async def test_a_rule_about_another_room_changes_nothing(notified: Notified) -> None:
    """What a user silences elsewhere keeps the user among the ordinary members here."""
    room, other = await notified.room_with("alice", "bob"), await notified.room_with("alice", "bob")
    await notified.change_rules("bob", mute(other))
    await notified.change_rules("bob", mentions_only(other))
    await notified.send(room, "alice")
    await notified.send(other, "alice")
    assert (await notified.counts(room, "bob"), await notified.counts(other, "bob")) == ((1, 0), (0, 0))
    async with notified.world.stream.pool.acquire() as conn:
        assert await conn.fetchval("SELECT room_nid FROM quiet_spans") == other.nid


async def test_keywords(notified: Notified) -> None:
    """A content rule highlights for its user alone."""
    room = await notified.room_with("alice", "bob", "carol")
    await notified.change_rules("bob", keyword("tea"))
    await notified.send(room, "alice", body="Time for TEA?")
    await notified.send(room, "alice", body="A teapot")
    assert await notified.counts(room, "bob") == (2, 1)
    assert await notified.counts(room, "carol") == (2, 0)


async def test_a_silenced_sender(notified: Notified) -> None:
    """A sender rule silences that sender's messages, and only those."""
    room = await notified.room_with("alice", "bob", "carol")
    await notified.change_rules("bob", silence("alice"))
    await notified.send(room, "alice")
    await notified.send(room, "carol")
    assert await notified.counts(room, "bob") == (1, 0)


async def test_the_display_name_is_that_in_the_room(notified: Notified) -> None:
    """`contains_display_name` asks for the name that the member has in the room."""
    room = await notified.room_with("alice", "bob")
    await notified.world.join(room, "bob", displayname="Robert")
    await notified.change_rules(
        "bob",
        lambda rules: put_rule(
            rules,
            "override",
            "name",
            {"conditions": [{"kind": "contains_display_name"}], "actions": ["notify", {"set_tweak": "highlight"}]},
        ),
    )
    await notified.send(room, "alice", body="Hello robert!")
    await notified.send(room, "alice", body="Hello bob!")
    assert await notified.counts(room, "bob") == (2, 1)


async def test_the_master_rule_silences_everything(notified: Notified) -> None:
    """With the master rule on nothing notifies."""
    room = await notified.room_with("alice", "bob")
    await notified.change_rules("bob", master(on=True))
    await notified.send(room, "alice", **mention("bob"))
    assert await notified.counts(room, "bob") == (0, 0)
    await notified.change_rules("bob", master(on=False))
    await notified.send(room, "alice")
    assert await notified.counts(room, "bob") == (1, 0)


async def test_rules_that_count_members(notified: Notified) -> None:
    """`room_member_count` is that of the joined members when the event comes."""
    room = await notified.room_with("alice", "bob")
    await notified.change_rules("bob", lambda rules: set_actions(rules, "underride", ".m.rule.room_one_to_one", []))
    await notified.send(room, "alice")
    assert await notified.counts(room, "bob") == (0, 0)
    await notified.world.join(room, "carol")
    await notified.send(room, "alice")
    assert await notified.counts(room, "bob") == (1, 0)
    await notified.world.leave(room, "carol")
    await notified.send(room, "alice")
    assert await notified.counts(room, "bob") == (1, 0)


async def test_who_subscribes_to_threads_hears_of_no_others(notified: Notified) -> None:
    """From the first subscription on, an event in a thread notifies that user if they are subscribed to it then, or
    mentioned; whoever never subscribed is notified of all."""
    room = await notified.room_with("alice", "bob", "carol", "dave")
    one, two = [await notified.send(room, "alice") for _ in range(2)]
    in_one = await notified.send(room, "alice", **in_thread(one))
    await notified.subscribe(room, "bob", one)
    await notified.subscribe(room, "carol", two)

    async def notifies(**content: Any) -> set[str]:
        names = ("bob", "carol", "dave")
        before = {name: await notified.counts(room, name) for name in names}
        await notified.send(room, "alice", **content)
        return {name for name in names if await notified.counts(room, name) != before[name]}

    assert await notifies(**in_thread(one)) == {"bob", "dave"}
    assert await notifies(**in_thread(two)) == {"carol", "dave"}
    by_another_hop = {"m.relates_to": {"rel_type": "m.reference", "event_id": in_one}}
    assert await notifies(**by_another_hop) == {"bob", "dave"}
    assert await notifies(**in_thread(one) | mention("carol")) == {"bob", "carol", "dave"}
    assert await notifies() == {"bob", "carol", "dave"}
    await notified.subscribe(room, "bob", one, subscribed=False)
    assert await notifies(**in_thread(one)) == {"dave"}
    # They disable that rule like any other; their other changes are for those rules too.
    rule_id = ".io.element.msc4306.rule.unsubscribed_thread"
    await notified.change_rules("bob", lambda rules: set_enabled(rules, "postcontent", rule_id, False))
    assert await notifies(**in_thread(one)) == {"bob", "dave"}


async def test_a_subscribed_thread_notifies_in_a_muted_room(notified: Notified) -> None:
    """A subscription stands above a rule of the room, not above an override; and it counts in every room."""
    room, muted = await notified.room_with("alice", "bob"), await notified.room_with("alice", "bob")
    roots = [await notified.send(each, "alice") for each in (room, muted)]
    await notified.change_rules("bob", mentions_only(room))
    await notified.change_rules("bob", mute(muted))
    for each, root in zip((room, muted), roots, strict=True):
        await notified.subscribe(each, "bob", root)
        await notified.send(each, "alice")
        await notified.send(each, "alice", **in_thread(root))
    elsewhere = await notified.room_with("alice", "bob")
    root = await notified.send(elsewhere, "alice")
    await notified.send(elsewhere, "alice", **in_thread(root))
    assert await notified.counts(room, "bob") == (2, 0)
    assert await notified.counts(muted, "bob") == (1, 0)
    assert await notified.counts(elsewhere, "bob") == (1, 0)


async def test_where_nobody_subscribes_threads_cost_nothing(
    notified: Notified, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no member subscribes to threads an event in one is one row, and nobody is asked for; where one does, the
    main timeline is as before."""
    asked: list[str] = []

    async def subscribed(conn: Connection, room_nid: int, thread_id: str, user_nids: Collection[int]) -> set[int]:
        asked.append(thread_id)
        return await subscribed_among(conn, room_nid, thread_id, user_nids)

    monkeypatch.setattr(notifications, "subscribed_among", subscribed)
    room = await notified.room_with("alice", "bob", "carol")
    await notified.change_rules("bob", keyword("tea"))
    root = await notified.send(room, "alice")
    await notified.send(room, "alice", **in_thread(root))
    await notified.subscribe(room, "bob", root)
    await notified.send(room, "alice")
    assert await notified.rows_of("user_notifications", room) == 0
    assert asked == []
    await notified.send(room, "alice", **in_thread(root))
    assert asked == [root]
    assert await notified.rows_of("user_notifications", room) == 0


async def test_ignored_users_notify_nobody_who_ignores_them(notified: Notified) -> None:
    """Messages and invites of an ignored user neither notify nor count as unread."""
    room = await notified.room_with("alice", "bob", "carol")
    await notified.ignore("bob", "alice")
    await notified.send(room, "alice", **mention("bob"))
    assert (await notified.unread(room, "bob")).room == (0, 0, 0)
    assert await notified.counts(room, "carol") == (1, 0)
    await notified.ignore("bob")
    await notified.send(room, "alice")
    assert (await notified.unread(room, "bob")).room == (1, 0, 1)
    other = await notified.room_with("alice")
    await notified.ignore("bob", "alice")
    await notified.world.set_membership(other, "bob", "invite", by="alice")
    assert await notified.rows_of("user_notifications", other) == 0


async def test_an_invite_notifies_whom_it_is_for(notified: Notified) -> None:
    """The rule for invites is that of the invited user, who is no member yet; joining reads it."""
    room = await notified.room_with("alice", "bob")
    await notified.world.set_membership(room, "carol", "invite", by="alice")
    assert await notified.counts(room, "carol") == (1, 0)
    assert await notified.counts(room, "bob") == (0, 0)
    await notified.world.join(room, "carol")
    assert await notified.counts(room, "carol") == (0, 0)


@pytest.mark.parametrize(
    ("type", "content"),
    [
        ("org.matrix.msc4155.invite_permission_config", {"ignored_users": [user_id("alice")]}),
        ("org.matrix.msc4155.invite_permission_config", {"ignored_servers": ["*"]}),
        ("m.invite_permission_config", {"default_action": "block"}),
    ],
)
async def test_an_unwanted_invite_does_not_notify(notified: Notified, type: str, content: Any) -> None:
    """An invite that its receiver's permissions hide does not notify either, from here or from elsewhere."""
    room = await notified.room_with("alice")
    await notified.world.set_account_data("carol", type, content)
    await notified.user_nid("carol")
    await notified.world.set_membership(room, "carol", "invite", by="alice")
    there = await notified.timeline.names.ensure_room("!there:elsewhere", "11", 0)
    member = event_of(
        "m.room.member", user_id("carol"), {"membership": "invite"}, sender=user_id("alice"), room_id=there.room_id
    )
    async with notified.world.stream.write() as write:
        await notified.timeline.notifications.notify_invited(write, there, member, 1, await write.next_position())
    assert await notified.rows_of("user_notifications", room) == 0
    assert await notified.rows_of("user_notifications", there) == 0


async def test_an_invite_from_elsewhere_notifies_too(notified: Notified) -> None:
    """An invite to a room that this server is not in is evaluated with the rules of whom it is for."""
    room = await notified.timeline.names.ensure_room("!there:elsewhere", "11", 0)
    await notified.world.set_account_data("dave", "m.ignored_user_list", {"ignored_users": {"@eve:elsewhere": {}}})
    for number, name in enumerate(("carol", "dave")):
        await notified.user_nid(name)
        member = {"membership": "invite"}
        invite = event_of("m.room.member", user_id(name), member, sender="@eve:elsewhere", room_id=room.room_id)
        async with notified.world.stream.write() as write:
            pos = await write.next_position()
            await notified.timeline.notifications.notify_invited(write, room, invite, number, pos)
    rows = await notified.world.stream.pool.fetch("SELECT user_nid, notify, highlight FROM user_notifications")
    assert [tuple(row) for row in rows] == [(await notified.user_nid("carol"), True, False)]


async def test_only_what_comes_after_the_join_counts(notified: Notified) -> None:
    """Neither what was before the join nor what was before coming back counts; a new name is no new join."""
    room = await notified.room_with("alice")
    await notified.send(room, "alice")
    await notified.world.join(room, "bob")
    await notified.send(room, "alice")
    await notified.world.join(room, "bob", displayname="Robert")
    assert await notified.counts(room, "bob") == (1, 0)
    await notified.world.leave(room, "bob")
    await notified.send(room, "alice", **mention("bob"))
    await notified.world.join(room, "bob")
    assert await notified.counts(room, "bob") == (0, 0)


async def test_memberships_and_messages_of_one_batch_are_seen_in_their_order(notified: Notified) -> None:
    """Within one transaction a message is for those who are in the room at it."""
    room = await notified.room_with("alice", "bob")
    await notified.change_rules("carol", keyword("tea"))
    timeline = notified.timeline
    to_bob_and_carol = {"msgtype": "m.text", "body": "tea", **mention("bob", "carol")}

    def membership(name: str, value: str) -> NewEvent:
        return NewEvent("m.room.member", user_id(name), {"membership": value}, state_key=user_id(name))

    async with timeline.locked(room, 5) as append:
        for new in (
            NewEvent("m.room.message", user_id("alice"), to_bob_and_carol),
            membership("carol", "join"),
            membership("bob", "leave"),
            NewEvent("m.room.message", user_id("alice"), to_bob_and_carol),
            membership("bob", "join"),
        ):
            await timeline.append_new(append, new)
    assert await notified.counts(room, "bob") == (0, 0)
    assert await notified.counts(room, "carol") == (1, 1)
    rows = await notified.world.stream.pool.fetch("SELECT user_nid FROM user_notifications ORDER BY ord")
    assert [row["user_nid"] for row in rows] == [await notified.user_nid("bob"), await notified.user_nid("carol")]


async def test_a_batch_that_fails_leaves_no_trace(notified: Notified) -> None:
    """What a transaction that comes to nothing did to the audience is not remembered."""
    room = await notified.room_with("alice", "bob")
    await notified.send(room, "alice")

    async def fail() -> None:
        async with notified.timeline.locked(room, 2) as append:
            join = NewEvent("m.room.member", user_id("carol"), {"membership": "join"}, state_key=user_id("carol"))
            await notified.timeline.append_new(append, join)
            await append.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    await notified.send(room, "alice")
    await notified.change_rules("bob", lambda rules: set_actions(rules, "underride", ".m.rule.room_one_to_one", []))
    await notified.send(room, "alice")
    assert await notified.counts(room, "bob") == (2, 0)  # of two members, as before


async def test_a_batch_may_be_flushed_in_between(notified: Notified) -> None:
    """Where each event is written at once, as in room version 1, the audience is carried from one to the next."""
    room = await notified.room_with("alice", "bob")
    async with notified.timeline.locked(room, 3) as append:
        for name in ("carol", "dave"):
            join = NewEvent("m.room.member", user_id(name), {"membership": "join"}, state_key=user_id(name))
            await notified.timeline.append_new(append, join)
            await append.flush()
            await append.flush()
        message = NewEvent("m.room.message", user_id("alice"), {"msgtype": "m.text", "body": "hi", **mention("dave")})
        await notified.timeline.append_new(append, message)
    assert await notified.counts(room, "dave") == (1, 1)
    assert await notified.counts(room, "carol") == (1, 0)


async def test_a_hostile_thread_root_is_the_main_timeline(notified: Notified) -> None:
    """What is no event id makes no thread."""
    room = await notified.room_with("alice", "bob")
    await notified.send(room, "alice", **in_thread("$" + "x" * 300))
    await notified.send(room, "alice", **in_thread("no event id"))
    unread = await notified.unread(room, "bob", by_thread=True)
    assert (unread.room.notify, unread.threads) == (2, {})


async def test_who_sends_push_notifications_can_read_on_from_a_position(notified: Notified) -> None:
    """The durable stream gives each notifying event once, in order, and says which users it notified."""
    room = await notified.room_with("alice", "bob", "carol", "dave")
    await notified.change_rules("carol", mute(room))
    first = notified.world.stream.position
    await notified.send(room, "alice")
    middle = notified.world.stream.position
    await notified.send(room, "alice", "m.reaction")
    await notified.send(room, "alice", "m.reaction", **mention("dave"))
    gone = await notified.send(room, "alice")
    await notified.world.redact(room, "alice", gone)
    nids = {name: await notified.user_nid(name) for name in ("alice", "bob", "carol", "dave")}
    async with notified.world.stream.pool.acquire() as conn:
        last = notified.world.stream.position

        async def names(event: NotifyingEvent) -> dict[str, bool]:
            told = await notified_among(conn, event, list(nids.values()))
            return {name: told[nid] for name, nid in nids.items() if nid in told}

        events = await notifying_events(conn, first, last, 10)
        assert [event.ordinary for event in events] == [True, False]
        assert await names(events[0]) == {"bob": False, "dave": False}
        assert await names(events[1]) == {"dave": True}
        assert await notifying_events(conn, middle, last, 10) == events[1:]
        assert await notifying_events(conn, first, last, 1) == events[:1]


def test_rules_that_cannot_matter_in_a_room_are_left_out() -> None:
    """Users who differ only in rules about other rooms, or disabled ones, have equal rules in a room."""
    here, there = "!here:x", "!there:x"
    rules = put_rule({}, "room", there, {"actions": []})
    condition = {"kind": "event_match", "key": "room_id", "pattern": there}
    rules = put_rule(rules, "override", "mine", {"actions": [], "conditions": [condition]})
    assert relevant_rules(rules, here) == {}
    assert set(relevant_rules(rules, there)) == {"override", "room"}


@pytest.mark.parametrize(
    ("type", "state_key", "content", "expected"),
    [
        ("m.room.message", None, {"msgtype": "m.text", "body": "x"}, True),
        ("m.room.message", None, {"msgtype": "m.text", "body": ""}, False),
        ("m.room.message", None, {"msgtype": "m.notice", "body": "x"}, False),
        ("m.room.message", None, {"body": "x", "m.relates_to": {"rel_type": "m.replace"}}, False),
        ("m.room.message", None, {"body": "x", "m.relates_to": "nonsense"}, True),
        ("com.example", None, {"body": "x"}, True),
        ("m.room.encrypted", None, {}, True),
        ("m.room.topic", "", {}, True),
        ("m.room.member", "@x:y", {"body": "x"}, False),
    ],
)
def test_what_is_unread(type: str, state_key: str | None, content: dict[str, object], expected: bool) -> None:
    """MSC2654 says what there is to read in a room, whatever push rules say."""
    assert counts_as_unread(event_of(type, state_key, content)) is expected


def event_of(
    type: str, state_key: str | None, content: JsonObject, *, sender: str = "@a:x", room_id: str = "!r:x"
) -> Event:
    """An event that is nowhere stored."""
    json: JsonObject = {
        "room_id": room_id,
        "type": type,
        "sender": sender,
        "content": content,
        "depth": 1,
        "origin_server_ts": 1,
        "prev_events": [],
        "auth_events": [],
    }
    if state_key is not None:
        json["state_key"] = state_key
    return Event(json, room_version("11"), "$e")
