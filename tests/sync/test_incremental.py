"""What an incremental sync tells of the rooms that a user is in."""

from __future__ import annotations

from tests.sync.world import World, bodies, user_id


async def test_a_first_sync_tells_all_of_a_small_room(world: World) -> None:
    """A room that fits into the timeline comes whole in it, with nothing in state and nothing left out."""
    room = await world.create_room("alice")
    await world.say(room, "alice", "hello")
    joined = (await world.sync("alice"))["rooms"]["join"][room.room_id]
    assert bodies(joined["timeline"]["events"]) == [
        "m.room.create",
        "m.room.member",
        "m.room.power_levels",
        "m.room.join_rules",
        "hello",
    ]
    assert joined["timeline"]["limited"] is False
    assert joined["state"]["events"] == []
    assert joined["summary"] == {"m.joined_member_count": 1, "m.invited_member_count": 0, "m.heroes": []}


async def test_an_incremental_sync_tells_only_what_is_new(world: World) -> None:
    """Rooms in which nothing happened are absent, and the others have just what is new."""
    room, quiet = await world.create_room("alice"), await world.create_room("alice")
    first = await world.sync("alice")
    assert set(first["rooms"]["join"]) == {room.room_id, quiet.room_id}
    await world.say(room, "alice", "one")
    await world.say(room, "alice", "two")
    second = await world.sync("alice", first["next_batch"])
    assert list(second["rooms"]["join"]) == [room.room_id]
    joined = second["rooms"]["join"][room.room_id]
    assert bodies(joined["timeline"]["events"]) == ["one", "two"]
    assert joined["timeline"]["limited"] is False
    third = await world.sync("alice", second["next_batch"])
    assert third["rooms"] == {"join": {}, "invite": {}, "knock": {}, "leave": {}}


async def test_a_limited_timeline_has_the_state_of_its_start(world: World) -> None:
    """State that changed in the gap comes in `state`, state that changes in the timeline does not."""
    room = await world.create_room("alice")
    first = await world.sync("alice")
    for number in range(3):
        await world.set_state(room, "alice", "m.room.topic", {"topic": str(number)})
        await world.say(room, "alice", str(number))
    second = await world.sync("alice", first["next_batch"], filter={"room": {"timeline": {"limit": 2}}})
    joined = second["rooms"]["join"][room.room_id]
    assert joined["timeline"]["limited"] is True
    assert bodies(joined["timeline"]["events"]) == ["m.room.topic", "2"]
    assert [event["content"] for event in joined["state"]["events"]] == [{"topic": "1"}]


async def test_joining_tells_the_whole_state(world: World) -> None:
    """A room joined since the last sync comes with all of its state, and as limited."""
    room = await world.create_room("alice")
    for number in range(20):
        await world.say(room, "alice", str(number))
    first = await world.sync("bob")
    await world.join(room, "bob")
    joined = (await world.sync("bob", first["next_batch"]))["rooms"]["join"][room.room_id]
    assert joined["timeline"]["limited"] is True
    assert bodies(joined["timeline"]["events"])[-2:] == ["19", "m.room.member"]
    assert {event["type"] for event in joined["state"]["events"]} == {
        "m.room.create",
        "m.room.member",
        "m.room.power_levels",
        "m.room.join_rules",
    }
    assert joined["summary"]["m.heroes"] == [user_id("alice")]
