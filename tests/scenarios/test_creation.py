"""Rooms made together with people of other servers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import RequestFailed, eventually
from tests.support.federating import Network, agree


async def test_a_room_is_made_even_if_invitations_fail(network: Network) -> None:
    """Servers that are down or refuse keep nobody else from being invited; the answer is the room all the same."""
    one, two, three = [await network.server() for _ in range(3)]
    alice = await one.user("alice")
    bob, blocking, carol = await two.user("bob"), await two.user("blocking"), await three.user("carol")
    await blocking.request(
        "PUT",
        f"/user/{blocking.user_id}/account_data/m.invite_permission_config",
        {"default_action": "block"},
    )
    network.cut(one, three)
    nobody = f"@nobody:{two.name}"
    invite = [carol.user_id, blocking.user_id, nobody, bob.user_id]
    room_id = await alice.create_room(preset="private_chat", invite=invite)
    await bob.sync_until(lambda: bob.room(room_id).membership == "invite", "to be invited")
    state = await alice.state_ids(room_id)
    assert {key for type, key in state if type == "m.room.member"} == {alice.user_id, bob.user_id}
    network.heal()
    await alice.membership(room_id, "invite", carol.user_id)
    await carol.join(room_id, via=one.name)


async def test_people_of_several_servers_are_invited_at_once(network: Network) -> None:
    """Their servers are asked side by side; all are invited, come, and agree on what the room is."""
    one, two, three = [await network.server() for _ in range(3)]
    alice = await one.user("alice")
    guests = [await node.user(name) for node in (two, three) for name in ("bob", "carol")]
    room_id = await alice.create_room(preset="private_chat", invite=[guest.user_id for guest in guests])
    for guest in guests:
        await guest.join(room_id)

        async def is_in(user_id: str = guest.user_id) -> bool:
            member = await alice.request("GET", f"/rooms/{room_id}/state/m.room.member/{user_id}")
            return bool(member["membership"] == "join")

        await eventually(is_in, "the join to be known")
    await agree(room_id, one, two, three)
    state = await alice.state_ids(room_id)
    assert {key for type, key in state if type == "m.room.member"} == {user.user_id for user in (alice, *guests)}


async def test_what_can_be_seen_beforehand_makes_no_room(network: Network) -> None:
    """A malformed user id, or more invitations than the limit allows, is refused before there is a room."""
    one = await network.server(rate_limits={"enabled": True, "invite": {"per_second": 0.001, "burst": 2}})
    alice = await one.user("alice")
    people = [f"@user{number}:{one.name}" for number in range(2)]
    refused: list[tuple[dict[str, Any], int, str]] = [
        ({"invite": ["nobody"]}, 400, "M_INVALID_PARAM"),
        ({"invite": [5]}, 400, "M_BAD_JSON"),
        ({"invite": people}, 429, "M_LIMIT_EXCEEDED"),
    ]
    await alice.create_room(invite=people[:1])
    for body, status, errcode in refused:
        with pytest.raises(RequestFailed) as failed:
            await alice.request("POST", "/createRoom", body)
        assert (failed.value.status, failed.value.errcode) == (status, errcode)
    assert len((await alice.request("GET", "/joined_rooms"))["joined_rooms"]) == 1


async def test_joins_over_other_servers_have_a_limit_of_their_own(network: Network) -> None:
    """Rooms that are here can be joined as before when it is used up."""
    one, two = (
        await network.server(),
        await network.server(rate_limits={"enabled": True, "remote_join": {"per_second": 0.001, "burst": 1}}),
    )
    alice, bob, carol = await one.user("alice"), await two.user("bob"), await two.user("carol")
    rooms = [await alice.create_room(preset="public_chat") for _ in range(2)]
    await bob.join(rooms[0], via=one.name)
    with pytest.raises(RequestFailed) as refused:
        await bob.join(rooms[1], via=one.name)
    assert (refused.value.status, refused.value.errcode) == (429, "M_LIMIT_EXCEEDED")
    await carol.join(rooms[1], via=one.name)
    await bob.join(rooms[1], via=one.name)
