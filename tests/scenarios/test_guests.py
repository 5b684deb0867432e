"""Guests of one server in rooms of another.  # spec: client-server-api/#guest-access"""

from __future__ import annotations

import pytest

from tests.support.client import Client, RequestFailed, eventually
from tests.support.federating import Network, Node


async def _guest(node: Node) -> Client:
    visitor = await node.user("visitor")
    await node.services.pool.execute(
        "UPDATE accounts SET guest = true WHERE user_nid = (SELECT user_nid FROM users WHERE user_id = $1)",
        visitor.user_id,
    )
    return visitor


async def test_a_server_sees_to_its_own_guests(network: Network) -> None:
    """They enter rooms of other servers only if these take guests, and leave when that ends."""
    one, two = await network.server(), await network.server()
    alice, guest = await one.user("alice"), await _guest(two)
    room_id = await alice.create_room(preset="public_chat")
    with pytest.raises(RequestFailed) as refused:
        await guest.join(room_id, via=one.name)
    assert (refused.value.status, refused.value.errcode) == (403, "M_GUEST_ACCESS_FORBIDDEN")
    assert ("m.room.member", guest.user_id) not in await alice.state_ids(room_id)
    await alice.set_state(room_id, "m.room.guest_access", {"guest_access": "can_join"})
    await guest.join(room_id, via=one.name)
    await alice.set_state(room_id, "m.room.guest_access", {"guest_access": "forbidden"})

    async def is_gone() -> bool:
        path = f"/rooms/{room_id}/state/m.room.member/{guest.user_id}"
        return bool((await alice.request("GET", path))["membership"] == "leave")

    await eventually(is_gone, "the guest to be gone")
