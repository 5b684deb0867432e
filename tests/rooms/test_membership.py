"""Who may come, who may be brought, who must go."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from homeserver.protocol.errors import Forbidden, NotFound, UnsupportedRoomVersion
from homeserver.protocol.signing import generate_signing_key, sign_json
from homeserver.remote import Remote, RemoteError
from tests.support.rooms import ALICE, BOB, CAROL, NoRemote, Rooms, rooms_on


async def test_public_rooms_are_open_and_others_need_an_invite(rooms: Rooms) -> None:
    """Anyone joins a public room; an invite-only room takes only those who were invited."""
    public, private = await rooms.create(), await rooms.create(preset="private_chat")
    await rooms.membership.join(public.room_id, BOB)
    with pytest.raises(Forbidden):
        await rooms.membership.join(private.room_id, BOB)
    await rooms.membership.invite(private, ALICE, BOB)
    await rooms.membership.join(private.room_id, BOB)
    assert await rooms.membership_of(public, BOB) == await rooms.membership_of(private, BOB) == "join"


async def test_an_invite_shows_the_room(rooms: Rooms) -> None:
    """The invited are given stripped state: what the room is, and who invites."""
    room = await rooms.create(preset="private_chat", name="Den")
    await rooms.membership.invite(room, ALICE, BOB)
    async with rooms.pool.acquire() as conn:
        raw = await conn.fetchval(
            "SELECT stripped_state FROM room_members JOIN users USING (user_nid) WHERE user_id = $1", BOB
        )
    events = json.loads(raw)
    assert {"m.room.create", "m.room.join_rules", "m.room.name", "m.room.member"} <= {event["type"] for event in events}
    assert all(event.keys() == {"type", "state_key", "sender", "content"} for event in events)
    assert events[-1]["state_key"] == BOB
    assert events[-1]["content"]["membership"] == "invite"


async def test_kick_ban_and_unban(rooms: Rooms) -> None:
    """Moderators remove, ban and unban; ordinary members can't; the banned can't come back until they are unbanned."""
    room = await rooms.create()
    for user_id in (BOB, CAROL):
        await rooms.membership.join(room.room_id, user_id)
    with pytest.raises(Forbidden):
        await rooms.membership.kick(room, BOB, CAROL)
    await rooms.membership.kick(room, ALICE, BOB, {"reason": "spam"})
    assert (await rooms.state(room))["m.room.member", BOB].content == {"membership": "leave", "reason": "spam"}
    await rooms.membership.join(room.room_id, BOB)
    await rooms.membership.ban(room, ALICE, BOB)
    with pytest.raises(Forbidden):
        await rooms.membership.join(room.room_id, BOB)
    with pytest.raises(Forbidden):
        await rooms.membership.invite(room, ALICE, BOB)
    await rooms.membership.unban(room, ALICE, BOB)
    await rooms.membership.join(room.room_id, BOB)
    assert await rooms.membership_of(room, BOB) == "join"


async def test_nobody_is_kicked_who_is_not_there(rooms: Rooms) -> None:
    """Kicking someone who isn't in the room, or unbanning someone who isn't banned, is forbidden."""
    room = await rooms.create()
    with pytest.raises(Forbidden):
        await rooms.membership.kick(room, ALICE, BOB)
    with pytest.raises(Forbidden):
        await rooms.membership.unban(room, ALICE, BOB)


async def test_an_invite_can_be_declined(rooms: Rooms) -> None:
    """Leaving a room that one is only invited to declines the invite."""
    room = await rooms.create(preset="private_chat", invite=[BOB])
    await rooms.membership.leave(room, BOB)
    assert await rooms.membership_of(room, BOB) == "leave"
    with pytest.raises(Forbidden):
        await rooms.membership.join(room.room_id, BOB)


async def test_knock(rooms: Rooms) -> None:
    """Where the join rule is knock one may knock, and whoever may invite lets one in."""
    room = await rooms.create(preset="private_chat")
    with pytest.raises(Forbidden):
        await rooms.membership.knock(room.room_id, BOB)
    await rooms.set_state(room, ALICE, "m.room.join_rules", {"join_rule": "knock"})
    await rooms.membership.knock(room.room_id, BOB)
    assert await rooms.membership_of(room, BOB) == "knock"
    await rooms.membership.invite(room, ALICE, BOB)
    await rooms.membership.join(room.room_id, BOB)


@pytest.mark.parametrize("rule", ["restricted", "knock_restricted"])
async def test_restricted(rooms: Rooms, rule: str) -> None:
    """A restricted room takes the members of the rooms that it allows, on the word of a member who may invite."""
    club, room = await rooms.create(), await rooms.create(preset="private_chat")
    allow = [{"type": "m.room_membership", "room_id": club.room_id}]
    await rooms.set_state(room, ALICE, "m.room.join_rules", {"join_rule": rule, "allow": allow})
    with pytest.raises(Forbidden):
        await rooms.membership.join(room.room_id, BOB)
    await rooms.membership.join(club.room_id, BOB)
    await rooms.membership.join(room.room_id, BOB)
    content = (await rooms.state(room))["m.room.member", BOB].content
    assert content == {"membership": "join", "join_authorised_via_users_server": ALICE}


async def test_an_unknown_room_can_not_be_joined(rooms: Rooms) -> None:
    """A room that is here unknown, with no server that could help, is not found."""
    with pytest.raises(NotFound):
        await rooms.membership.join("!nowhere", BOB)


async def test_a_server_that_does_not_know_the_room_version(database: str) -> None:
    """Inviting a user of such a server is refused with M_UNSUPPORTED_ROOM_VERSION, and changes nothing."""

    class OldServer(NoRemote):
        async def invite(self, destination: str, *args: Any) -> Any:
            raise RemoteError(destination, 400, "M_INCOMPATIBLE_ROOM_VERSION", "what is 12?", {"room_version": "12"})

    async with rooms_on(database, remote=cast(Remote, OldServer())) as rooms:
        room = await rooms.create()
        with pytest.raises(UnsupportedRoomVersion) as refused:
            await rooms.membership.invite(room, ALICE, "@bob:old.example")
        assert (refused.value.status, refused.value.errcode) == (400, "M_UNSUPPORTED_ROOM_VERSION")
        assert await rooms.membership_of(room, "@bob:old.example") is None


async def test_an_invitation_by_address_undoes_no_join(rooms: Rooms) -> None:
    """The rules would allow it: an invitation that is redeemed while its user joins must not put them out."""
    room, key = await rooms.create(), generate_signing_key()
    content = {"display_name": "b", "key_validity_url": "", "public_key": key.verify_key_base64}
    await rooms.set_state(room, ALICE, "m.room.third_party_invite", content, "t")
    signed = sign_json({"mxid": BOB, "token": "t"}, "identity.example", key)
    extra = {"third_party_invite": {"display_name": "b", "signed": signed}}
    await rooms.membership.invite(room, ALICE, BOB, extra)
    assert await rooms.membership_of(room, BOB) == "invite"
    await rooms.membership.join(room.room_id, BOB)
    await rooms.membership.invite(room, ALICE, BOB, extra)
    assert await rooms.membership_of(room, BOB) == "join"
