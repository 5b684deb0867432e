"""How rooms move between the sections of a response as their users come and go."""

from __future__ import annotations

from typing import Any

from tests.sync.world import World, bodies, user_id

LEFT_TOO = {"room": {"include_leave": True}}


async def changes(world: World, name: str, since: str, **options: Any) -> Any:
    return (await world.sync(name, since, **options))["rooms"]


async def test_who_leaves_is_told_up_to_that(world: World) -> None:
    """A room that was left comes once, with its timeline up to the leave event and nothing after it."""
    room = await world.create_room("alice")
    await world.join(room, "bob")
    since = (await world.sync("bob"))["next_batch"]
    await world.say(room, "alice", "before")
    await world.leave(room, "bob")
    await world.say(room, "alice", "after")
    await world.set_state(room, "alice", "m.room.topic", {"topic": "after"})
    response = await world.sync("bob", since)
    assert response["rooms"]["join"] == {}
    left = response["rooms"]["leave"][room.room_id]
    assert bodies(left["timeline"]["events"]) == ["before", "m.room.member"]
    assert left["state"]["events"] == []
    assert await changes(world, "bob", response["next_batch"]) == {"join": {}, "invite": {}, "knock": {}, "leave": {}}


async def test_a_first_sync_has_left_rooms_only_if_asked(world: World) -> None:
    """With include_leave a first sync has left rooms as they were then; without, or once forgotten, it has none."""
    room = await world.create_room("alice")
    await world.join(room, "bob")
    await world.leave(room, "bob")
    await world.set_state(room, "alice", "m.room.topic", {"topic": "after"})
    assert (await world.sync("bob"))["rooms"]["leave"] == {}
    left = (await world.sync("bob", filter=LEFT_TOO))["rooms"]["leave"][room.room_id]
    assert left["timeline"]["events"][-1]["content"] == {"membership": "leave"}
    assert "m.room.topic" not in {event["type"] for event in left["state"]["events"] + left["timeline"]["events"]}
    await world.stream.pool.execute("UPDATE room_members SET forgotten = true WHERE membership = 'leave'")
    assert (await world.sync("bob", filter=LEFT_TOO))["rooms"]["leave"] == {}


async def test_kicks_and_bans_are_leaves(world: World) -> None:
    """Who is put out of a room finds it in `leave`, with the event that says by whom; a later ban comes by itself."""
    room = await world.create_room("alice")
    await world.join(room, "bob")
    since = (await world.sync("bob"))["next_batch"]
    await world.set_membership(room, "bob", "leave", by="alice")
    response = await world.sync("bob", since)
    [kick] = response["rooms"]["leave"][room.room_id]["timeline"]["events"]
    assert (kick["sender"], kick["content"]["membership"]) == (user_id("alice"), "leave")
    await world.set_membership(room, "bob", "ban", by="alice")
    left = (await changes(world, "bob", response["next_batch"]))["leave"][room.room_id]
    assert [event["content"]["membership"] for event in left["timeline"]["events"]] == ["ban"]


async def test_leaving_and_coming_back_tells_the_room_anew(world: World) -> None:
    """Who left and joined again between two syncs gets the whole state and a limited timeline."""
    room = await world.create_room("alice")
    await world.join(room, "bob")
    since = (await world.sync("bob"))["next_batch"]
    await world.leave(room, "bob")
    await world.join(room, "bob")
    found = await changes(world, "bob", since, filter={"room": {"timeline": {"limit": 1}}})
    joined = found["join"][room.room_id]
    assert joined["timeline"]["limited"] is True
    assert {event["type"] for event in joined["state"]["events"]} >= {"m.room.create", "m.room.power_levels"}
    assert found["leave"] == {}


async def test_an_invitation_shows_stripped_state(world: World) -> None:
    """An invitation comes with what identifies the room, who invites, and the invite itself; once."""
    room = await world.create_room("alice", join_rule="invite")
    await world.set_state(room, "alice", "m.room.name", {"name": "Pub"})
    await world.set_state(room, "alice", "org.example.secret", {"secret": True})
    since = (await world.sync("bob"))["next_batch"]
    await world.set_membership(room, "bob", "invite", by="alice")
    response = await world.sync("bob", since)
    events = response["rooms"]["invite"][room.room_id]["invite_state"]["events"]
    assert {(event["type"], event["state_key"]) for event in events} == {
        ("m.room.create", ""),
        ("m.room.join_rules", ""),
        ("m.room.name", ""),
        ("m.room.member", user_id("alice")),
        ("m.room.member", user_id("bob")),
    }
    assert all(event.keys() == {"type", "state_key", "sender", "content"} for event in events)
    assert (await changes(world, "bob", response["next_batch"]))["invite"] == {}
    assert (await world.sync("bob"))["rooms"]["invite"].keys() == {room.room_id}


async def test_a_refused_invitation_moves_to_leave(world: World) -> None:
    """Refusing shows the room in `leave` with the refusal alone, also to the user's other devices."""
    room = await world.create_room("alice", join_rule="invite")
    await world.set_membership(room, "bob", "invite", by="alice")
    since = (await world.sync("bob"))["next_batch"]
    await world.leave(room, "bob")
    for state_after in (False, True):
        left = (await changes(world, "bob", since, state_after=state_after))["leave"][room.room_id]
        assert [event["content"] for event in left["timeline"]["events"]] == [{"membership": "leave"}]
        if state_after:
            assert left["state_after"]["events"] == left["timeline"]["events"]


async def test_knocks_have_their_section(world: World) -> None:
    """A knock comes in `knock` with stripped state, and an invitation takes its place."""
    room = await world.create_room("alice", join_rule="knock")
    since = (await world.sync("bob"))["next_batch"]
    await world.set_membership(room, "bob", "knock")
    response = await world.sync("bob", since)
    events = response["rooms"]["knock"][room.room_id]["knock_state"]["events"]
    assert {event["type"] for event in events} == {"m.room.create", "m.room.join_rules", "m.room.member"}
    await world.set_membership(room, "bob", "invite", by="alice")
    found = await changes(world, "bob", response["next_batch"])
    assert found["knock"] == {}
    assert found["invite"].keys() == {room.room_id}


async def test_newly_joined_rooms_show_the_history_that_may_be_seen(world: World) -> None:
    """With visibility `joined` the timeline of a new member begins with the join; with `shared` before it."""
    for visibility, expected in (("joined", ["m.room.member"]), ("shared", ["secret", "m.room.member"])):
        room = await world.create_room("alice", visibility=visibility)
        since = (await world.sync("bob"))["next_batch"]
        await world.say(room, "alice", "secret")
        await world.join(room, "bob")
        timeline = (await changes(world, "bob", since))["join"][room.room_id]["timeline"]
        assert bodies(timeline["events"])[-len(expected) :] == expected
        assert ("secret" in bodies(timeline["events"])) == (visibility == "shared")


async def test_ignored_users(world: World) -> None:
    """What an ignored user says is left out, the state they set is not, and neither do their invitations come."""
    room, private = await world.create_room("alice"), await world.create_room("carol", join_rule="invite")
    await world.join(room, "carol")
    await world.set_account_data("alice", "m.ignored_user_list", {"ignored_users": {user_id("carol"): {}}})
    since = (await world.sync("alice"))["next_batch"]
    await world.say(room, "carol", "rubbish")
    await world.set_state(room, "carol", "m.room.topic", {"topic": "theirs"})
    await world.set_membership(private, "alice", "invite", by="carol")
    found = await changes(world, "alice", since)
    assert bodies(found["join"][room.room_id]["timeline"]["events"]) == ["m.room.topic"]
    assert found["invite"] == {}


async def test_a_token_from_elsewhere(world: World) -> None:
    """A token that is ahead of this database is answered as by a server that knows nothing of the client: wholly."""
    room = await world.create_room("alice")
    response = await world.sync("alice", "s999999999_1")
    assert response["rooms"]["join"][room.room_id]["timeline"]["events"][0]["type"] == "m.room.create"
    assert response["next_batch"].startswith(f"s{world.stream.position}_")
