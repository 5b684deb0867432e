"""Alice on one server, Bob on another: who is online, and who may invite whom."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from federation.inbound_edus import take_in_edu
from tests.support.client import Client, RequestFailed, eventually
from tests.support.federating import Network, Node


async def _pair(network: Network) -> tuple[Node, Node, Client, Client, str]:
    one, two = await network.server(), await network.server()
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id, via=one.name)
    return one, two, alice, bob, room_id


async def _status(reader: Client, user: Client) -> Any:
    return await reader.request("GET", f"/presence/{quote(user.user_id)}/status")


async def test_presence_crosses_servers(network: Network) -> None:
    """Who shares a room sees on the other server who is there, with what state and message, and hears of changes."""
    _one, _two, alice, bob, _room = await _pair(network)
    path = f"/presence/{quote(alice.user_id)}/status"
    for state, message in (("online", "reading"), ("unavailable", "away"), ("offline", None)):
        await alice.request("PUT", path, {"presence": state, "status_msg": message})

        async def arrives(state: str = state, message: str | None = message) -> bool:
            seen = await _status(bob, alice)
            return bool(seen["presence"] == state and seen.get("status_msg") == message)

        await eventually(arrives, f"alice to be seen as {state}")
    told: list[str] = []
    await alice.request("PUT", path, {"presence": "online"})
    while "online" not in told:
        response = await bob.sync(timeout=10_000)
        told += [
            each["content"]["presence"] for each in response["presence"]["events"] if each["sender"] == alice.user_id
        ]


async def test_servers_speak_of_their_own_users_only(network: Network) -> None:
    """A presence EDU counts for users of the server that sent it who are in a room here; the rest of it is dropped."""
    one, two, alice, bob, _room = await _pair(network)
    update = {"presence": "online", "last_active_ago": 5}
    malformed: list[Any] = [None, 7, {}, {"user_id": 5}, {"user_id": bob.user_id}]
    malformed.append({"user_id": bob.user_id, "presence": []})
    push = [*malformed, {"user_id": alice.user_id, **update}, {"user_id": f"@stranger:{two.name}", **update}]
    await take_in_edu(one.server.federation, two.name, {"edu_type": "m.presence", "content": {"push": push}})
    contents: list[dict[str, Any]] = [{}, {"push": None}, {"push": {}}]
    for content in contents:
        await take_in_edu(one.server.federation, two.name, {"edu_type": "m.presence", "content": content})
    assert list(one.services.presence.present()) == []
    good = {"user_id": bob.user_id, **update, "status_msg": "x" * 5000, "last_active_ago": -1, "currently_active": 1}
    await take_in_edu(one.server.federation, two.name, {"edu_type": "m.presence", "content": {"push": [good]}})
    seen = await _status(alice, bob)
    assert seen["presence"] == "online"
    assert seen["currently_active"] is False
    assert len(seen["status_msg"]) < 5000


async def test_a_blocked_invitation_is_refused_across_servers(network: Network) -> None:
    """The invited user's server refuses with 403 M_INVITE_BLOCKED, which the inviter is told; nobody is invited."""
    _one, _two, alice, bob, room_id = await _pair(network)
    await bob.membership(room_id, "leave")
    data = f"/user/{quote(bob.user_id)}/account_data/"
    await bob.request("PUT", data + "m.invite_permission_config", {"default_action": "block"})
    private = await alice.create_room(preset="private_chat")
    with pytest.raises(RequestFailed) as refused:
        await alice.membership(private, "invite", bob.user_id)
    assert (refused.value.status, refused.value.errcode) == (403, "M_INVITE_BLOCKED")
    assert ("m.room.member", bob.user_id) not in await alice.state_ids(private)
    await bob.request("PUT", data + "m.invite_permission_config", {})
    await alice.membership(private, "invite", bob.user_id)
    await bob.sync_until(lambda: bob.room(private).membership == "invite", "to be invited")


async def test_an_ignored_invitation_is_hidden_across_servers(network: Network) -> None:
    """An invitation that its receiver ignores is accepted from the other server, and does not come down sync."""
    one, _two, alice, bob, _room = await _pair(network)
    data = f"/user/{quote(bob.user_id)}/account_data/org.matrix.msc4155.invite_permission_config"
    await bob.request("PUT", data, {"ignored_servers": [one.name.partition(":")[0]]})
    private = await alice.create_room(preset="private_chat", invite=[bob.user_id])
    assert ("m.room.member", bob.user_id) in await alice.state_ids(private)
    assert private not in (await bob.sync())["rooms"]["invite"]
