"""An invitation by e-mail address, from its token in the room to a real invitation on another server."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from homeserver.protocol.signing import SigningKey, generate_signing_key, sign_json
from tests.support.client import Client, RequestFailed
from tests.support.federating import Network, Node


async def _bind(node: Node, user_id: str, invite: dict[str, Any]) -> int:
    """What an identity server does when somebody proves that an address is theirs; the status of the answer."""
    body = {"medium": "email", "address": "bob@example.org", "mxid": user_id, "invites": [invite]}
    url = f"https://{node.name}/_matrix/federation/v1/3pid/onbind"
    async with aiohttp.ClientSession() as session, session.put(url, json=body, ssl=False) as response:
        return response.status


def _invite(room_id: str, sender: str, user_id: str, key: SigningKey) -> dict[str, Any]:
    signed = sign_json({"mxid": user_id, "token": "token1"}, "identity.example", key)
    return {
        "medium": "email",
        "address": "bob@example.org",
        "mxid": user_id,
        "room_id": room_id,
        "sender": sender,
        "signed": signed,
    }


async def _room(alice: Client, key: SigningKey) -> str:
    room_id = await alice.create_room(preset="private_chat", name="Den")
    content = {
        "display_name": "b…@example.org",
        "key_validity_url": "https://identity.example/valid",
        "public_key": key.verify_key_base64,
        "public_keys": [{"public_key": key.verify_key_base64}],
    }
    await alice.set_state(room_id, "m.room.third_party_invite", content, "token1")
    return room_id


async def test_bob_is_invited_by_his_address(network: Network) -> None:
    """Once the identity server says whose the address is, its user on another server is invited, and comes."""
    one, two = await network.server(), await network.server()
    alice, bob = await one.user("alice"), await two.user("bob")
    key = generate_signing_key()
    room_id = await _room(alice, key)
    assert await _bind(two, bob.user_id, _invite(room_id, alice.user_id, bob.user_id, key)) == 200
    await bob.sync_until(lambda: bob.room(room_id).membership == "invite", "to be invited")
    await bob.join(room_id)
    member = await alice.request("GET", f"/rooms/{room_id}/state/m.room.member/{bob.user_id}")
    assert member["membership"] == "join"


async def test_a_forged_binding_invites_nobody(network: Network) -> None:
    """Without the signature that the room's event asks for, nobody is invited."""
    one, two = await network.server(), await network.server()
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await _room(alice, generate_signing_key())
    forged = _invite(room_id, alice.user_id, bob.user_id, generate_signing_key())
    assert await _bind(two, bob.user_id, forged) == 200
    with pytest.raises(RequestFailed) as missing:
        await alice.request("GET", f"/rooms/{room_id}/state/m.room.member/{bob.user_id}")
    assert missing.value.errcode == "M_NOT_FOUND"
    assert await _bind(two, "@nobody:elsewhere.example", forged) == 400


async def test_without_an_identity_server_nobody_is_invited_by_address(network: Network) -> None:
    """This server says that it trusts no identity server, and changes nothing."""
    one = await network.server()
    alice = await one.user("alice")
    third = {"id_server": "identity.example", "id_access_token": "x", "medium": "email", "address": "b@example.org"}
    room_id = await alice.create_room()
    for path, body in ((f"/rooms/{room_id}/invite", third), ("/createRoom", {"invite_3pid": [third]})):
        with pytest.raises(RequestFailed) as refused:
            await alice.request("POST", path, body)
        assert refused.value.errcode == "M_SERVER_NOT_TRUSTED"
    assert (await alice.request("GET", "/joined_rooms"))["joined_rooms"] == [room_id]
