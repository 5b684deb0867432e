"""How a user stands to a room decides what sliding sync tells of it."""

from __future__ import annotations

from typing import Any

from homeserver.protocol.canonical_json import encode_json
from homeserver.storage.members import write_stripped_membership
from tests.sync.sliding.conftest import PhoneOf
from tests.sync.sliding.phone import Json, everything, listing
from tests.sync.world import World, bodies, user_id

ALL = [["*", "*"]]


def keys(events: list[Any]) -> set[tuple[str, str]]:
    return {(event["type"], event["state_key"]) for event in events}


async def test_an_invitation_shows_stripped_state_and_nothing_else(world: World, phone_of: PhoneOf) -> None:
    """The invited see the room's description and their invitation: no timeline, no members, no counts."""
    room = await world.create_room("alice", join_rule="invite")
    await world.set_state(room, "alice", "m.room.name", {"name": "Party"})
    await world.say(room, "alice", "a secret")
    phone = phone_of("bob")
    assert (await phone.sync(everything(10, ALL)))["rooms"] == {}
    await world.set_membership(room, "bob", "invite", by="alice")
    told = (await phone.sync(everything(10, ALL)))["rooms"][room.room_id]
    assert told["membership"] == "invite"
    assert told["initial"] is True
    assert told["stripped_state"] == told["invite_state"]
    assert ("m.room.name", "") in keys(told["stripped_state"])
    assert ("m.room.member", user_id("bob")) in keys(told["stripped_state"])
    assert not told.keys() & {"timeline", "required_state", "joined_count", "heroes", "name", "prev_batch"}
    await world.say(room, "alice", "another secret")
    assert (await phone.sync(everything(10, ALL)))["rooms"] == {}


async def test_joining_tells_the_room_whole(world: World, phone_of: PhoneOf) -> None:
    """A room known from an invitation comes anew, as `initial`, once the user is in it."""
    room = await world.create_room("alice", join_rule="invite", visibility="joined")
    await world.say(room, "alice", "before")
    await world.set_membership(room, "bob", "invite", by="alice")
    phone = phone_of("bob")
    await phone.sync(everything(10, ALL))
    await world.join(room, "bob")
    await world.say(room, "alice", "after")
    told = (await phone.sync(everything(10, ALL)))["rooms"][room.room_id]
    assert told["initial"] is True
    assert told["membership"] == "join"
    assert told["joined_count"] == 2
    assert bodies(told["timeline"]) == ["m.room.member", "after"]
    assert told["limited"] is True
    assert "invite_state" not in told


async def test_a_rejected_or_retracted_invitation_ends(world: World, phone_of: PhoneOf) -> None:
    """The client hears that it is over, by the member event alone; one that never knew of it hears nothing."""
    for who in ("bob", "alice"):
        room = await world.create_room("alice", join_rule="invite")
        await world.set_membership(room, "bob", "invite", by="alice")
        phone, late = phone_of("bob", conn=f"{who}1"), phone_of("bob", conn=f"{who}2")
        await phone.sync(everything(10, ALL))
        await world.set_state(room, "alice", "m.room.topic", {"topic": "not for Bob"})
        await world.set_membership(room, "bob", "leave", by=who)
        told = (await phone.sync(everything(10, ALL)))["rooms"][room.room_id]
        assert told["membership"] == "leave"
        assert keys(told["stripped_state"]) == keys(told["required_state"]) == {("m.room.member", user_id("bob"))}
        assert [event["state_key"] for event in told["timeline"]] == [user_id("bob")]
        assert "invite_state" not in told
        assert room.room_id not in (await late.sync(everything(10, ALL)))["rooms"]


async def test_a_ban_of_one_who_was_never_in_is_not_told(world: World, phone_of: PhoneOf) -> None:
    """Banning a stranger puts nothing into the stranger's list, not even by subscription."""
    room = await world.create_room("alice")
    await world.set_membership(room, "bob", "ban", by="alice")
    body = {**everything(10, ALL), "room_subscriptions": {room.room_id: {"timeline_limit": 1, "required_state": ALL}}}
    response = await phone_of("bob").sync(body)
    assert response["rooms"] == {}
    assert response["lists"]["all"]["count"] == 0


async def test_rooms_of_others_are_never_shown(world: World, phone_of: PhoneOf) -> None:
    """A room that the user was never in, or that does not exist, is ignored where it is subscribed to."""
    for visibility in ("world_readable", "shared"):
        room = await world.create_room("alice", visibility=visibility)
        body = {
            "room_subscriptions": {
                room_id: {"timeline_limit": 5, "required_state": ALL}
                for room_id in (room.room_id, "!nowhere:here.example", "not a room")
            }
        }
        assert (await phone_of("bob").sync(body))["rooms"] == {}


async def test_who_leaves_is_told_up_to_the_leave_and_no_further(world: World, phone_of: PhoneOf) -> None:
    """Neither events nor state nor names nor counts of after the leave reach the user, whatever is asked."""
    room = await world.create_room("alice")
    await world.set_state(room, "alice", "m.room.name", {"name": "Before"})
    await world.join(room, "bob")
    phone = phone_of("bob")
    await phone.sync(everything(10, ALL))
    await world.say(room, "alice", "you may know")
    await world.leave(room, "bob")
    await world.say(room, "alice", "you may not")
    await world.set_state(room, "alice", "m.room.name", {"name": "After"})
    await world.join(room, "carol")
    subscription = {"room_subscriptions": {room.room_id: {"timeline_limit": 50, "required_state": ALL}}}
    told = (await phone.sync(everything(10, ALL)))["rooms"][room.room_id]
    assert told["membership"] == "leave"
    assert bodies(told["timeline"]) == ["you may know", "m.room.member"]
    assert keys(told["required_state"]) == {("m.room.member", user_id("bob"))}
    assert not told.keys() & {"name", "joined_count", "heroes", "notification_count"}
    more = (await phone.sync(subscription))["rooms"].get(room.room_id, {})
    assert "you may not" not in bodies(more.get("timeline", []))
    fresh = (await phone_of("bob", conn="fresh").sync(subscription))["rooms"][room.room_id]
    assert bodies(fresh["timeline"])[-2:] == ["you may know", "m.room.member"]
    assert fresh["name"] == "Before"
    assert ("m.room.member", user_id("carol")) not in keys(fresh["required_state"])
    await world.say(room, "alice", "still nothing")
    assert (await phone.sync(everything(10, ALL)))["rooms"] == {}
    assert room.room_id not in (await phone_of("bob", conn="list").sync(everything(10, ALL)))["rooms"]


async def test_who_is_put_out_finds_the_room_in_the_list(world: World, phone_of: PhoneOf) -> None:
    """Kicked and banned users are told so, even on a new connection; what comes of their membership later as well."""
    room = await world.create_room("alice")
    await world.join(room, "bob")
    phone = phone_of("bob")
    await phone.sync(everything(10, ALL))
    await world.set_membership(room, "bob", "leave", by="alice", reason="out")
    await world.say(room, "alice", "secret")
    for each in (phone, phone_of("bob", conn="new")):
        told = (await each.sync(everything(10, ALL)))["rooms"][room.room_id]
        assert told["membership"] == "leave"
        assert told["timeline"][-1]["content"]["reason"] == "out"
        assert "secret" not in bodies(told["timeline"])
    await world.set_membership(room, "bob", "ban", by="alice")
    told = (await phone.sync(everything(10, ALL)))["rooms"][room.room_id]
    assert told["membership"] == "ban"
    assert [event["content"]["membership"] for event in told["timeline"]] == ["ban"]
    assert [event["content"]["membership"] for event in told["required_state"]] == ["ban"]


async def test_coming_back_tells_the_room_anew(world: World, phone_of: PhoneOf) -> None:
    """After a break the client replaces what it had: state may have changed while it was not told."""
    room = await world.create_room("alice", visibility="joined")
    await world.join(room, "bob")
    phone = phone_of("bob")
    await phone.sync(everything(10, ALL))
    await world.leave(room, "bob")
    await world.set_state(room, "alice", "m.room.topic", {"topic": "new"})
    await world.say(room, "alice", "missed")
    await world.join(room, "bob")
    told = (await phone.sync(everything(10, ALL)))["rooms"][room.room_id]
    assert told["initial"] is True
    assert ("m.room.topic", "") in keys(told["required_state"])
    assert "missed" not in bodies(told["timeline"])


async def test_forgotten_rooms_are_gone(world: World, phone_of: PhoneOf) -> None:
    """A room that the user has forgotten is in no list and answers to no subscription."""
    room = await world.create_room("alice")
    await world.join(room, "bob")
    phone = phone_of("bob")
    await phone.sync(everything())
    await world.set_membership(room, "bob", "leave", by="alice")
    await world.sources.pool.execute("UPDATE room_members SET forgotten = membership = 'leave'")
    body = {**everything(), "room_subscriptions": {room.room_id: {"timeline_limit": 1, "required_state": ALL}}}
    response = await phone.sync(body)
    assert response["rooms"] == {}
    assert response["lists"]["all"]["count"] == 0


async def test_a_knock_shows_stripped_state(world: World, phone_of: PhoneOf) -> None:
    """Who knocks sees what the room shows of itself, and the end of it."""
    room = await world.create_room("alice", join_rule="knock")
    await world.set_membership(room, "bob", "knock")
    phone = phone_of("bob")
    told = (await phone.sync(everything(10, ALL)))["rooms"][room.room_id]
    assert told["membership"] == "knock"
    assert ("m.room.join_rules", "") in keys(told["stripped_state"])
    assert "timeline" not in told
    await world.set_membership(room, "bob", "leave", by="alice")
    assert (await phone.sync(everything(10, ALL)))["rooms"][room.room_id]["membership"] == "leave"


async def test_ignored_users_are_not_heard(world: World, phone_of: PhoneOf) -> None:
    """Neither their messages nor their invitations nor their typing are told; state they set is."""
    room, other = await world.create_room("alice"), await world.create_room("carol", join_rule="invite")
    await world.join(room, "carol")
    await world.set_account_data("alice", "m.ignored_user_list", {"ignored_users": {user_id("carol"): {}}})
    phone = phone_of("alice")
    extensions = {"typing": {"enabled": True}}
    await phone.sync(everything(10, ALL, extensions=extensions))
    await world.say(room, "carol", "unheard")
    await world.set_membership(other, "alice", "invite", by="carol")
    assert (await phone.sync(everything(10, ALL, extensions=extensions)))["rooms"] == {}
    await world.set_state(room, "carol", "m.room.topic", {"topic": "heard"})
    world.sources.typing.set_local(room.nid, user_id("carol"), typing=True)
    response = await phone.sync(everything(10, ALL, extensions=extensions))
    assert bodies(response["rooms"][room.room_id]["timeline"]) == ["m.room.topic"]
    assert response["extensions"]["typing"]["rooms"][room.room_id]["content"]["user_ids"] == []


async def test_unwanted_invitations_are_not_told(world: World, phone_of: PhoneOf) -> None:
    """What the invited user's permissions hide comes neither by a list nor by subscription, until they allow it."""
    room = await world.create_room("carol", join_rule="invite")
    subscribed = {"room_subscriptions": {room.room_id: {"timeline_limit": 1, "required_state": ALL}}}
    type, phone = "org.matrix.msc4155.invite_permission_config", phone_of("alice")
    await world.set_account_data("alice", type, {"ignored_users": [user_id("carol")]})
    await phone.sync(everything(10, ALL))
    await world.set_membership(room, "alice", "invite", by="carol")
    assert (await phone.sync({**everything(10, ALL), **subscribed}))["rooms"] == {}
    await world.set_account_data("alice", type, {})
    told = (await phone.sync({**everything(10, ALL), **subscribed}))["rooms"]
    assert told[room.room_id]["membership"] == "invite"


async def test_history_that_was_not_visible_stays_so(world: World, phone_of: PhoneOf) -> None:
    """A larger timeline_limit does not reach behind the join where history is for members only."""
    room = await world.create_room("alice", visibility="joined")
    await world.say(room, "alice", "secret")
    await world.join(room, "bob")
    phone = phone_of("bob")
    await phone.sync({"lists": {"all": listing(1)}})
    told = (await phone.sync({"lists": {"all": listing(50)}}))["rooms"].get(room.room_id, {})
    assert "secret" not in bodies(told.get("timeline", []))


async def test_an_invitation_from_elsewhere_says_what_the_other_server_said(world: World, phone_of: PhoneOf) -> None:
    """Of a room that this server is not in, its stripped state is all there is: to show, and to filter by."""
    room = await world.timeline.names.ensure_room("!there:other.example", "11", 1)
    bob = user_id("bob")
    said: list[Json] = [
        {"type": "m.room.create", "state_key": "", "sender": "@x:other.example", "content": {"type": "m.space"}},
        {"type": "m.room.encryption", "state_key": "", "sender": "@x:other.example", "content": {}},
        {"type": "m.room.member", "state_key": bob, "sender": "@x:other.example", "content": {"membership": "invite"}},
    ]

    async def set_membership(membership: str, stripped: list[Json]) -> None:
        nid = await world.timeline.names.user_nid(bob)
        async with world.stream.write() as write:
            pos = await write.next_position()
            await write_stripped_membership(write.conn, room.nid, nid, membership, 0, pos, encode_json(stripped))
            write.changed(users=[nid])

    await set_membership("invite", said)
    phone = phone_of("bob")
    for filters, count in (
        ({}, 1),
        ({"is_encrypted": True, "room_types": ["m.space"]}, 1),
        ({"is_encrypted": False}, 0),
        ({"not_room_types": ["m.space"]}, 0),
    ):
        response = await phone_of("bob", conn="filters").sync({"lists": {"a": listing(1, filters=filters)}})
        assert response["lists"]["a"]["count"] == count
    told = (await phone.sync(everything(10, ALL)))["rooms"][room.room_id]
    assert told["invite_state"] == said
    await set_membership("leave", [])
    told = (await phone.sync(everything(10, ALL)))["rooms"][room.room_id]
    assert (told["membership"], told["stripped_state"]) == ("leave", [])
