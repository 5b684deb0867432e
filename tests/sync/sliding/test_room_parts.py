"""Timelines, state and names of single rooms as what is asked of them changes."""

from __future__ import annotations

from typing import Any

from tests.sync.sliding.conftest import PhoneOf
from tests.sync.sliding.phone import Json, everything, listing
from tests.sync.world import World, bodies, user_id

LAZY = [["m.room.member", "$LAZY"]]


def one(limit: int = 10, required: Any = None) -> Json:
    return {"lists": {"all": listing(limit, required)}}


def keys(events: list[Any]) -> set[tuple[str, str]]:
    return {(event["type"], event["state_key"]) for event in events}


async def test_a_gap_is_said(world: World, phone_of: PhoneOf) -> None:
    """More events than the limit: the newest, `limited`, and a token to read on from backwards."""
    room = await world.create_room("alice")
    phone = phone_of("alice")
    await phone.sync(one(2))
    for number in range(4):
        await world.say(room, "alice", str(number))
    told = (await phone.sync(one(2)))["rooms"][room.room_id]
    assert bodies(told["timeline"]) == ["2", "3"]
    assert told["limited"] is True
    assert told["num_live"] == 2
    assert "expanded_timeline" not in told
    assert told["prev_batch"].startswith("t")


async def test_a_larger_limit_brings_older_events_at_once(world: World, phone_of: PhoneOf) -> None:
    """As the proposal has it: the newest N events, marked as expanded, unless the client has had all of them."""
    room = await world.create_room("alice")
    await world.say(room, "alice", "A")
    phone = phone_of("alice")
    for text in ("B", "C", "D"):
        await world.say(room, "alice", text)
        await phone.sync(one(1))
    assert (await phone.sync(one(3)))["rooms"] == {}
    told = (await phone.sync(one(4)))["rooms"][room.room_id]
    assert bodies(told["timeline"]) == ["A", "B", "C", "D"]
    assert told["expanded_timeline"] is told["unstable_expanded_timeline"] is True
    assert told["num_live"] == 0
    assert "initial" not in told
    assert (await phone.sync(one(4)))["rooms"] == {}
    await phone.sync(one(1))
    assert (await phone.sync(one(4)))["rooms"] == {}  # it has them still


async def test_old_and_new_come_together_where_the_limit_grows(world: World, phone_of: PhoneOf) -> None:
    """Of an expanded timeline with new events in it, only those are live."""
    room = await world.create_room("alice")
    await world.say(room, "alice", "old")
    phone = phone_of("alice")
    await world.say(room, "alice", "known")
    await phone.sync(one(1))
    await world.say(room, "alice", "new")
    told = (await phone.sync(one(3)))["rooms"][room.room_id]
    assert bodies(told["timeline"]) == ["old", "known", "new"]
    assert told["num_live"] == 1
    assert told["expanded_timeline"] is True


async def test_after_a_gap_the_limit_counts_anew(world: World, phone_of: PhoneOf) -> None:
    """What lies before a gap is not part of what the client has."""
    room = await world.create_room("alice")
    phone = phone_of("alice")
    await phone.sync(one(5))
    for number in range(4):
        await world.say(room, "alice", str(number))
    await phone.sync(one(1))
    assert bodies((await phone.sync(one(3)))["rooms"][room.room_id]["timeline"]) == ["1", "2", "3"]


async def test_rules_that_meet_in_a_room_are_added_up(world: World, phone_of: PhoneOf) -> None:
    """The largest timeline and all of the state that any list or subscription asks for."""
    room = await world.create_room("alice")
    await world.say(room, "alice", "one")
    body = {
        "lists": {"a": listing(1, [["m.room.create", ""]]), "b": listing(2, [["m.room.join_rules", "*"]])},
        "room_subscriptions": {room.room_id: {"timeline_limit": 3, "required_state": [["*", user_id("alice")]]}},
    }
    told = (await phone_of("alice").sync(body))["rooms"][room.room_id]
    assert len(told["timeline"]) == 3
    assert told["lists"] == ["a", "b"]
    assert keys(told["required_state"]) == {
        ("m.room.create", ""),
        ("m.room.join_rules", ""),
        ("m.room.member", user_id("alice")),
    }


async def test_state_that_is_asked_for_later_comes_at_once(world: World, phone_of: PhoneOf) -> None:
    """What the new request matches and the old did not; what the client has is not sent again."""
    room = await world.create_room("alice")
    await world.set_state(room, "alice", "m.room.pinned_events", {"pinned": []})
    phone = phone_of("alice")
    await phone.sync(one(1, [["m.room.create", ""]]))
    more = [["m.room.create", ""], ["m.room.pinned_events", ""]]
    told = (await phone.sync(one(1, more)))["rooms"][room.room_id]
    assert keys(told["required_state"]) == {("m.room.pinned_events", "")}
    assert "timeline" not in told
    assert (await phone.sync(one(1, [["m.room.create", ""]])))["rooms"] == {}
    assert (await phone.sync(one(1, more)))["rooms"] == {}  # nothing changed while it was not asked for
    await phone.sync(one(1, [["m.room.create", ""]]))
    await world.set_state(room, "alice", "m.room.pinned_events", {"pinned": ["$x"]})
    await phone.sync(one(1, [["m.room.create", ""]]))
    again = (await phone.sync(one(1, more)))["rooms"][room.room_id]
    assert keys(again["required_state"]) == {("m.room.pinned_events", "")}


async def test_the_newer_form_includes_and_excludes(world: World, phone_of: PhoneOf) -> None:
    """`include` with absent fields for any, `exclude` taken from that, `lazy_members` instead of every member."""
    room = await world.create_room("alice")
    await world.join(room, "bob")
    await world.say(room, "alice", "hello")
    required = {"include": [{}], "exclude": [{"type": "m.room.create"}], "lazy_members": True}
    told = (await phone_of("alice").sync(one(1, required)))["rooms"][room.room_id]
    assert keys(told["required_state"]) == {
        ("m.room.join_rules", ""),
        ("m.room.power_levels", ""),
        ("m.room.member", user_id("alice")),
    }


async def test_lazy_members_come_with_who_needs_them(world: World, phone_of: PhoneOf) -> None:
    """Senders and whom member events are about, once; and every change of a member where there is no gap."""
    room = await world.create_room("alice")
    for name in ("bob", "carol", "dave"):
        await world.join(room, name)
    await world.say(room, "bob", "hi")
    phone = phone_of("alice")
    told = (await phone.sync(one(1, LAZY)))["rooms"][room.room_id]
    assert keys(told["required_state"]) == {("m.room.member", user_id("bob"))}
    await world.say(room, "bob", "again")
    assert "required_state" not in (await phone.sync(one(1, LAZY)))["rooms"][room.room_id]
    await world.join(room, "carol", displayname="C")
    told = (await phone.sync(one(1, LAZY)))["rooms"][room.room_id]
    assert keys(told["required_state"]) == {("m.room.member", user_id("carol"))}
    await world.join(room, "dave", displayname="D")
    await world.join(room, "bob", displayname="B")
    await world.say(room, "carol", "so many")
    told = (await phone.sync(one(1, LAZY)))["rooms"][room.room_id]
    assert told["limited"] is True
    assert keys(told["required_state"]) == {("m.room.member", user_id("bob"))}  # of those the client has, what is new


async def test_names_pictures_and_heroes_follow_the_room(world: World, phone_of: PhoneOf) -> None:
    """Told when they change, null when they go; heroes with their names where the room has none."""
    room = await world.create_room("alice")
    await world.join(room, "bob", displayname="Bobby", avatar_url="mxc://here.example/b")
    phone = phone_of("alice")
    told = (await phone.sync(one()))["rooms"][room.room_id]
    hero = {"user_id": user_id("bob"), "displayname": "Bobby", "avatar_url": "mxc://here.example/b"}
    assert told["heroes"] == [hero]
    assert "name" not in told
    event_id = await world.set_state(room, "alice", "m.room.name", {"name": "Garden"})
    await world.set_state(room, "alice", "m.room.avatar", {"url": "mxc://here.example/a"})
    told = (await phone.sync(one()))["rooms"][room.room_id]
    assert (told["name"], told["avatar"]) == ("Garden", "mxc://here.example/a")
    assert "heroes" not in told
    await world.say(room, "alice", "x")
    assert "name" not in (await phone.sync(one()))["rooms"][room.room_id]
    await world.redact(room, "alice", event_id)
    await world.set_state(room, "alice", "m.room.avatar", {})
    told = (await phone.sync(one()))["rooms"][room.room_id]
    assert (told["name"], told["avatar"], told["heroes"]) == (None, None, [hero])


async def test_members_are_counted(world: World, phone_of: PhoneOf) -> None:
    """joined_count and invited_count come with what changed them."""
    room = await world.create_room("alice")
    phone = phone_of("alice")
    await phone.sync(one())
    await world.set_membership(room, "bob", "invite", by="alice")
    await world.join(room, "carol")
    told = (await phone.sync(one()))["rooms"][room.room_id]
    assert (told["joined_count"], told["invited_count"]) == (2, 1)


async def test_state_that_is_gone_leaves_a_stub(world: World, phone_of: PhoneOf) -> None:
    """Where the resolution of a fork takes a key out of the state, the client is told by type and state key alone."""
    room = await world.create_room("alice")
    await world.set_state(room, "alice", "org.example", {"is": 1}, "key")
    phone = phone_of("alice")
    await phone.sync(one(5, [["org.example", "*"]]))
    async with world.stream.write() as write:
        pos = await write.next_position()
        keys = await world.timeline.names.state_key_nids([("org.example", "key")])
        await write.conn.execute(
            "UPDATE room_state SET to_pos = $2 WHERE state_key_nid = $1", keys["org.example", "key"], pos
        )
        await write.conn.execute("UPDATE rooms SET active_pos = $1", pos)
        write.changed(rooms=[room.nid])
    told = (await phone.sync(one(5, [["org.example", "*"]])))["rooms"][room.room_id]
    assert told["required_state"] == [{"type": "org.example", "state_key": "key"}]


async def test_bump_stamps_count_what_people_do(world: World, phone_of: PhoneOf) -> None:
    """A message raises the stamp, a topic does not, though it moves the room to the top of the list."""
    room, other = await world.create_room("alice"), await world.create_room("alice")
    phone = phone_of("alice")
    first = (await phone.sync(one()))["rooms"]
    assert first[other.room_id]["bump_stamp"] > first[room.room_id]["bump_stamp"]
    await world.set_state(room, "alice", "m.room.topic", {"topic": "x"})
    told = (await phone.sync({"lists": {"all": listing(1, ranges=[[0, 0]])}}))["rooms"][room.room_id]
    assert told["bump_stamp"] == first[room.room_id]["bump_stamp"]
    await world.say(room, "alice", "x")
    told = (await phone.sync(one()))["rooms"][room.room_id]
    assert told["bump_stamp"] > first[other.room_id]["bump_stamp"]


async def test_reading_elsewhere_lowers_the_counts(world: World, phone_of: PhoneOf) -> None:
    """A receipt of the user's own changes the counts, and the room is told for that alone."""
    from homeserver.rooms.receipts import READ_PRIVATE, Receipt, Receipts

    room = await world.create_room("alice")
    await world.join(room, "bob")
    event_id = await world.say(room, "bob", "hello alice")
    phone = phone_of("alice")
    assert (await phone.sync(everything()))["rooms"][room.room_id]["notification_count"] == 1
    receipts = Receipts(world.stream, world.timeline.names)
    await receipts.set_local(Receipt(room, READ_PRIVATE, user_id("alice"), event_id, None, 1))
    told = (await phone.sync(everything()))["rooms"][room.room_id]
    assert (told["notification_count"], told["highlight_count"]) == (0, 0)
    assert "timeline" not in told
    assert (await phone.sync(everything()))["rooms"] == {}
