"""Rooms that members of another room may join, across servers.  # spec: client-server-api/#restricted-rooms"""

from __future__ import annotations

from typing import Any

from tests.support.client import Client, eventually
from tests.support.federating import Network


async def _restricted(alice: Client, **settings: Any) -> tuple[str, str]:
    """A room that everyone may join, and one that its members may."""
    club = await alice.create_room(preset="public_chat")
    content = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club}]}
    rule = {"type": "m.room.join_rules", "content": content}
    return club, await alice.create_room(preset="private_chat", initial_state=[rule], **settings)


async def test_who_was_let_in_changes_their_name(network: Network) -> None:
    """Only the join itself needs another server's word: a client that sends back what it found in the state, with a
    new name, does not claim that word again, and the other servers take the event."""
    one, two = await network.server(), await network.server()
    alice, bob = await one.user("alice"), await two.user("bob")
    club, room_id = await _restricted(alice, power_level_content_override={"invite": 50})
    await bob.join(club, via=one.name)
    await bob.join(room_id, via=one.name)
    path = f"/rooms/{room_id}/state/m.room.member/{bob.user_id}"
    content = await bob.request("GET", path)
    assert content["join_authorised_via_users_server"] == alice.user_id
    await bob.request("PUT", path, {**content, "displayname": "Bobby"})
    assert "join_authorised_via_users_server" not in await bob.request("GET", path)

    async def is_seen() -> bool:
        return bool((await alice.request("GET", path)).get("displayname") == "Bobby")

    await eventually(is_seen, "the new name")
    # And by the profile.
    await bob.request("PUT", f"/profile/{bob.user_id}/displayname", {"displayname": "Rob"})

    async def is_seen_again() -> bool:
        return bool((await alice.request("GET", path)).get("displayname") == "Rob")

    await eventually(is_seen_again, "the next name")


async def test_a_second_user_comes_in_where_nobody_here_may_invite(network: Network) -> None:
    """A server that is in the room, but has nobody who may invite, asks one that has."""
    one, two = await network.server(), await network.server()
    alice, bob, dave = await one.user("alice"), await two.user("bob"), await two.user("dave")
    club, room_id = await _restricted(alice, power_level_content_override={"invite": 50})
    for user in (bob, dave):
        await user.join(club, via=one.name)

        async def is_in_club(user: Client = user) -> bool:
            return ("m.room.member", user.user_id) in await alice.state_ids(club)

        await eventually(is_in_club, "the member to be known")
        await user.join(room_id, via=one.name)
        member = await alice.request("GET", f"/rooms/{room_id}/state/m.room.member/{user.user_id}")
        assert (member["membership"], member["join_authorised_via_users_server"]) == ("join", alice.user_id)
    said = await dave.send(room_id, "here I am")

    async def is_heard() -> bool:
        return any(event["event_id"] == said for event in await bob.history(room_id))

    await eventually(is_heard, "dave to be heard")
