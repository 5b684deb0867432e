"""Timelines, state and the `unsigned` of their events, as filters ask for them."""

from __future__ import annotations

from typing import Any

from homeserver.rooms.receipts import READ, READ_PRIVATE, Receipt, Receipts
from homeserver.storage.names import Room
from tests.sync.world import World, bodies, user_id


async def section(world: World, name: str, room: Room, since: str | None = None, **options: Any) -> Any:
    return (await world.sync(name, since, **options))["rooms"]["join"][room.room_id]


async def test_filters_of_types_and_senders(world: World) -> None:
    """Types with wildcards and senders, wanted and unwanted, choose what the timeline has; the limit counts after."""
    room = await world.create_room("alice")
    await world.join(room, "bob")
    for number in range(3):
        await world.say(room, "alice", f"a{number}")
        await world.say(room, "bob", f"b{number}")
    for filter, expected in (
        ({"types": ["m.room.mess*"], "limit": 2}, ["a2", "b2"]),
        ({"senders": [user_id("bob")], "types": ["m.room.message"]}, ["b0", "b1", "b2"]),
        (
            {"not_senders": [user_id("bob")], "not_types": ["m.room.[a-z]*", "m.room.message"], "limit": 1},
            ["m.room.join_rules"],
        ),
        ({"types": []}, []),
        ({"limit": 0}, []),
        ({"not_rooms": [room.room_id]}, []),
    ):
        timeline = (await section(world, "alice", room, filter={"room": {"timeline": filter}}))["timeline"]
        assert bodies(timeline["events"]) == expected, filter


async def test_filters_of_rooms(world: World) -> None:
    """A room that the filter leaves out is absent, whatever happens there."""
    room, other = await world.create_room("alice"), await world.create_room("alice")
    response = await world.sync("alice", filter={"room": {"not_rooms": [room.room_id]}})
    assert response["rooms"]["join"].keys() == {other.room_id}
    response = await world.sync("alice", filter={"room": {"rooms": [room.room_id]}})
    assert response["rooms"]["join"].keys() == {room.room_id}


async def test_state_that_the_timeline_filter_hides_is_told_as_state(world: World) -> None:
    """A change of state that a filter keeps out of the timeline comes in `state`."""
    room = await world.create_room("alice")
    hiding = {"room": {"timeline": {"not_types": ["m.room.topic"]}}}
    since = (await world.sync("alice", filter=hiding))["next_batch"]
    await world.set_state(room, "alice", "m.room.topic", {"topic": "new"})
    await world.say(room, "alice", "hello")
    joined = await section(world, "alice", room, since, filter=hiding)
    assert bodies(joined["timeline"]["events"]) == ["hello"]
    assert [event["content"] for event in joined["state"]["events"]] == [{"topic": "new"}]


async def test_state_after_has_what_the_timeline_changes(world: World) -> None:
    """With use_state_after `state_after` has the state at the end of the timeline, and there is no `state`."""
    room = await world.create_room("alice")
    since = (await world.sync("alice"))["next_batch"]
    await world.set_state(room, "alice", "m.room.topic", {"topic": "1"})
    await world.set_state(room, "alice", "m.room.topic", {"topic": "2"})
    joined = await section(world, "alice", room, since, state_after=True)
    assert "state" not in joined
    assert [event["content"] for event in joined["state_after"]["events"]] == [{"topic": "2"}]
    assert len(joined["timeline"]["events"]) == 2


async def test_full_state_keeps_to_the_timeline_since(world: World) -> None:
    """full_state tells all state of all rooms, and of the timeline only what is new."""
    room = await world.create_room("alice")
    since = (await world.sync("alice"))["next_batch"]
    joined = await section(world, "alice", room, since, full_state=True)
    assert joined["timeline"]["events"] == []
    assert len(joined["state"]["events"]) == 4


async def test_lazy_members_are_those_who_speak(world: World) -> None:
    """With lazy_load_members the state has the members who sent what the timeline has, and the reader; no others."""
    lazy = {"room": {"timeline": {"limit": 1}, "state": {"lazy_load_members": True}}}
    room = await world.create_room("alice")
    for name in ("bob", "carol", "dave"):
        await world.join(room, name)
    await world.set_state(room, "alice", "m.room.name", {"name": "So that it needs no heroes"})
    await world.say(room, "bob", "hello")
    response = await world.sync("alice", filter=lazy)
    assert members(response, room) == {user_id("alice"), user_id("bob")}
    await world.say(room, "bob", "again")
    response = await world.sync("alice", response["next_batch"], filter=lazy)
    assert members(response, room) == set(), "already sent"
    before = response["next_batch"]
    await world.say(room, "carol", "hi")
    for _ in range(2):  # the first response may have been lost
        response = await world.sync("alice", before, filter=lazy)
        assert members(response, room) == {user_id("carol")}
    redundant = {"room": {**lazy["room"], "state": {"lazy_load_members": True, "include_redundant_members": True}}}
    await world.say(room, "carol", "hi again")
    response = await world.sync("alice", response["next_batch"], filter=redundant)
    assert members(response, room) == {user_id("carol")}


def members(response: Any, room: Room) -> set[str]:
    events = response["rooms"]["join"][room.room_id]["state"]["events"]
    return {event["state_key"] for event in events if event["type"] == "m.room.member"}


async def test_lazy_members_of_a_gap(world: World) -> None:
    """In a limited timeline every membership that changed in the gap is told, and nameless rooms bring their heroes."""
    lazy = {"room": {"timeline": {"limit": 1}, "state": {"lazy_load_members": True}}}
    room = await world.create_room("alice")
    await world.join(room, "bob")
    await world.say(room, "alice", "welcome")
    response = await world.sync("alice", filter=lazy)
    assert members(response, room) == {user_id("alice"), user_id("bob")}, "bob is a hero"
    await world.join(room, "carol")
    await world.leave(room, "bob")
    await world.say(room, "alice", "hello")
    response = await world.sync("alice", response["next_batch"], filter=lazy)
    assert members(response, room) == {user_id("bob"), user_id("carol")}
    summary = response["rooms"]["join"][room.room_id]["summary"]
    assert summary == {"m.joined_member_count": 2, "m.invited_member_count": 0, "m.heroes": [user_id("carol")]}


async def test_transaction_ids_are_for_the_device_that_sent(world: World) -> None:
    """`transaction_id` is told to the sending device alone."""
    room = await world.create_room("alice")
    await world.say(room, "alice", "mine", txn_id="t1", device="PHONE")
    for device, expected in (("PHONE", "t1"), ("LAPTOP", None)):
        [event] = (await section(world, "alice", room, device=device))["timeline"]["events"][-1:]
        assert event["unsigned"].get("transaction_id") == expected


async def test_unsigned_of_state_and_redacted_events(world: World) -> None:
    """State tells what it replaced, redacted events by what they were redacted, and all how the reader stood."""
    room = await world.create_room("alice")
    first = await world.set_state(room, "alice", "m.room.topic", {"topic": "1"})
    since = (await world.sync("alice"))["next_batch"]
    await world.join(room, "bob")
    second = await world.set_state(room, "bob", "m.room.topic", {"topic": "2"})
    said = await world.say(room, "alice", "regrettable")
    redaction = await world.redact(room, "alice", said)
    events = (await section(world, "alice", room, since))["timeline"]["events"]
    by_id = {event["event_id"]: event for event in events}
    unsigned = by_id[second]["unsigned"]
    assert unsigned["replaces_state"] == first
    assert unsigned["prev_content"] == {"topic": "1"}
    assert unsigned["prev_sender"] == user_id("alice")
    assert unsigned["membership"] == "join"
    assert by_id[said]["content"] == {}
    assert by_id[said]["unsigned"]["redacted_because"]["event_id"] == redaction
    assert by_id[redaction]["content"]["redacts"] == by_id[redaction]["redacts"] == said
    assert all("room_id" not in event for event in events)


async def test_membership_of_the_reader_at_each_event(world: World) -> None:
    """`membership` is the reader's at the event, with what the event does to it."""
    room = await world.create_room("alice")
    await world.set_membership(room, "bob", "invite", by="alice")
    await world.join(room, "bob")
    events = (await section(world, "bob", room))["timeline"]["events"]
    assert [event["unsigned"]["membership"] for event in events] == ["leave"] * 4 + ["invite", "join"]


async def test_event_fields_and_format(world: World) -> None:
    """event_fields keeps what it names; the federation format has what servers exchange."""
    room = await world.create_room("alice")
    await world.say(room, "alice", "hello")
    slim = await section(world, "alice", room, filter={"event_fields": ["type", "content.body"]})
    assert slim["timeline"]["events"][-1] == {"type": "m.room.message", "content": {"body": "hello"}}
    raw = await section(world, "alice", room, filter={"event_format": "federation"})
    assert raw["timeline"]["events"][-1].keys() >= {"auth_events", "prev_events", "hashes", "signatures", "room_id"}


async def test_receipts_and_typing(world: World) -> None:
    """Receipts come as one event a thread, private ones to their own user; typing lists replace one another."""
    room = await world.create_room("alice")
    await world.join(room, "bob")
    event_id = await world.say(room, "alice", "hello")
    receipts = Receipts(world.stream, world.timeline.names)
    since = {name: (await world.sync(name))["next_batch"] for name in ("alice", "bob")}
    for kind, thread_id in ((READ, None), (READ, "main"), (READ_PRIVATE, None)):
        await receipts.set_local(Receipt(room, kind, user_id("bob"), event_id, thread_id, 7))
    world.sources.typing.set_local(room.nid, user_id("bob"), typing=True)
    public = {READ: {user_id("bob"): {"ts": 7}}}
    threaded = {READ: {user_id("bob"): {"ts": 7, "thread_id": "main"}}}
    private = {READ_PRIVATE: {user_id("bob"): {"ts": 7}}}
    for name, unthreaded in (("alice", public), ("bob", public | private)):
        assert (await section(world, name, room, since[name]))["ephemeral"]["events"] == [
            {"type": "m.typing", "content": {"user_ids": [user_id("bob")]}},
            {"type": "m.receipt", "content": {event_id: unthreaded}},
            {"type": "m.receipt", "content": {event_id: threaded}},
        ]
    filter = {"room": {"ephemeral": {"not_types": ["m.receipt"]}}}
    ephemeral = (await section(world, "alice", room, since["alice"], filter=filter))["ephemeral"]["events"]
    assert [event["type"] for event in ephemeral] == ["m.typing"]


async def test_account_data(world: World) -> None:
    """Account data comes where it belongs, whole at first and then what changed."""
    room = await world.create_room("alice")
    await world.set_account_data("alice", "org.example.all", {"n": 1})
    await world.set_account_data("alice", "org.example.room", {"n": 2}, room)
    response = await world.sync("alice")
    own = [event for event in response["account_data"]["events"] if event["type"] != "m.push_rules"]
    assert own == [{"type": "org.example.all", "content": {"n": 1}}]
    in_room = response["rooms"]["join"][room.room_id]["account_data"]["events"]
    assert in_room == [{"type": "org.example.room", "content": {"n": 2}}]
    await world.set_account_data("alice", "org.example.all", {"n": 3})
    response = await world.sync("alice", response["next_batch"])
    assert response["account_data"]["events"] == [{"type": "org.example.all", "content": {"n": 3}}]
    assert response["rooms"]["join"] == {}
