"""Invitations by e-mail address: over an identity server, and made real once somebody proves that it is theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from homeserver.protocol.signing import generate_signing_key, sign_json
from tests.support.client import Client, RequestFailed
from tests.support.federating import Network, Node
from tests.support.identity_server import IdentityServer, identity_server

BOB = "bob@example.org"


@pytest.fixture
async def identity(network: Network) -> AsyncIterator[IdentityServer]:
    async with identity_server(network.authority) as server:
        yield server


async def _server(network: Network, identity: IdentityServer) -> Node:
    return await network.server(identity_servers={"trusted": [identity.name]})


async def _refused(client: Client, method: str, path: str, body: Any = None) -> tuple[int, str]:
    with pytest.raises(RequestFailed) as refused:
        await client.request(method, path, body)
    return refused.value.status, refused.value.errcode


async def _member(client: Client, room_id: str, user: Client) -> Any:
    return await client.request("GET", f"/rooms/{room_id}/state/m.room.member/{user.user_id}")


async def test_bob_is_invited_by_his_address(network: Network, identity: IdentityServer) -> None:
    """The identity server mails Bob, the room gets its keys; when Bob proves his address he is invited, and comes."""
    one, two = await _server(network, identity), await network.server()
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="private_chat", name="Den")
    await alice.request("POST", f"/rooms/{room_id}/invite", identity.access(" Bob@Example.org "))
    [kept] = identity.invites
    assert (kept["address"], kept["medium"], kept["room_id"]) == (BOB, "email", room_id)
    assert (kept["sender"], kept["room_name"], kept["room_join_rules"]) == (alice.user_id, "Den", "invite")
    content = await alice.request("GET", f"/rooms/{room_id}/state/m.room.third_party_invite/{kept['token']}")
    assert content["public_key"] == identity.key.verify_key_base64
    assert content["display_name"] == "b…@e…"
    assert content["public_keys"][0]["key_validity_url"] == content["key_validity_url"]
    assert await identity.bind(BOB, bob.user_id, two.name) == 200
    assert identity.requests[-1] == "/pubkey/isvalid"
    await bob.sync_until(lambda: bob.room(room_id).membership == "invite", "to be invited")
    invite = (await _member(alice, room_id, bob))["third_party_invite"]
    assert invite["display_name"] == "b…@e…"
    assert BOB not in str(invite)
    await bob.join(room_id)
    assert (await _member(alice, room_id, bob))["membership"] == "join"
    # A second time it is no invitation of someone who is in the room.
    assert await identity.bind(BOB, bob.user_id, two.name) == 200
    assert (await _member(alice, room_id, bob))["membership"] == "join"


async def test_who_is_known_is_invited_at_once(network: Network, identity: IdentityServer) -> None:
    """Where the identity server knows the user, that user is invited; a changed pepper is asked for once more."""
    one, two = await _server(network, identity), await network.server()
    alice, bob = await one.user("alice"), await two.user("bob")
    identity.bound["email", BOB] = bob.user_id
    identity.stale_peppers = 1
    room_id = await alice.create_room(preset="private_chat")
    await alice.request("POST", f"/rooms/{room_id}/invite", identity.access(BOB) | {"reason": "come"})
    assert identity.invites == []
    member = await _member(alice, room_id, bob)
    assert (member["membership"], member["reason"]) == ("invite", "come")
    identity.bound.clear()
    identity.refusal = (400, {"errcode": "M_THREEPID_IN_USE", "error": "x", "mxid": bob.user_id})
    other = await alice.create_room(preset="private_chat")
    await alice.request("POST", f"/rooms/{other}/invite", identity.access(BOB))
    assert (await _member(alice, other, bob))["membership"] == "invite"
    identity.bound["email", BOB] = bob.user_id
    third = await alice.create_room(invite_3pid=[identity.access(BOB)], is_direct=True)
    assert (await _member(alice, third, bob))["is_direct"] is True


async def test_nobody_is_mailed_for_who_may_not_invite(network: Network, identity: IdentityServer) -> None:
    """The identity server is asked nothing for someone whom the rules refuse; what it refuses its user is told."""
    one = await _server(network, identity)
    alice, eve = await one.user("alice"), await one.user("eve")
    room_id = await alice.create_room(preset="public_chat")
    path, body = f"/rooms/{room_id}/invite", identity.access(BOB)
    assert await _refused(eve, "POST", path, body) == (403, "M_FORBIDDEN")
    await eve.join(room_id)
    assert await _refused(eve, "POST", path, body) == (403, "M_FORBIDDEN")
    assert identity.requests == []
    identity.refusal = (403, {"errcode": "M_TERMS_NOT_SIGNED", "error": "read them"})
    assert await _refused(alice, "POST", path, body) == (403, "M_TERMS_NOT_SIGNED")
    identity.refusal = (500, {"errcode": "M_UNKNOWN"})
    assert (await _refused(alice, "POST", path, body))[0] == 502
    assert await _refused(alice, "POST", path, {**body, "id_access_token": "guess"}) == (400, "M_INVALID_PARAM")
    for missing in ("id_access_token", "medium", "address", "id_server"):
        broken = {key: value for key, value in body.items() if key != missing}
        assert await _refused(alice, "POST", path, broken) == (400, "M_MISSING_PARAM")
    other = body | {"id_server": "identity.example"}
    assert await _refused(alice, "POST", path, other) == (400, "M_SERVER_NOT_TRUSTED")
    assert not [key for key in await alice.state_ids(room_id) if key[0] == "m.room.third_party_invite"]


async def test_a_room_is_made_even_if_the_identity_server_fails(network: Network, identity: IdentityServer) -> None:
    """What can be seen beforehand is refused before there is a room; what fails afterwards leaves the room."""
    one = await _server(network, identity)
    alice = await one.user("alice")
    for wrong, errcode in (
        ({"id_server": "identity.example"}, "M_SERVER_NOT_TRUSTED"),
        ({"address": 5}, "M_BAD_JSON"),
        ({"id_access_token": None}, "M_MISSING_PARAM"),
    ):
        body = {"invite_3pid": [identity.access(BOB), identity.access(BOB) | wrong]}
        assert (await _refused(alice, "POST", "/createRoom", body))[1] == errcode
    assert (await alice.request("GET", "/joined_rooms"))["joined_rooms"] == []
    identity.refusal = (500, {})
    room_id = await alice.create_room(invite_3pid=[identity.access(BOB)])
    identity.refusal = None
    other = await alice.create_room(invite_3pid=[identity.access(BOB)])
    assert ("m.room.third_party_invite", "token0") not in await alice.state_ids(room_id)
    assert ("m.room.third_party_invite", "token0") in await alice.state_ids(other)


async def test_the_proof_may_come_with_the_join(network: Network, identity: IdentityServer) -> None:
    """`third_party_signed` of a join, over the inviter's server or on it, is the invitation that the join needs."""
    one, two = await _server(network, identity), await network.server()
    alice, bob, carol = await one.user("alice"), await two.user("bob"), await one.user("carol")
    room_id = await alice.create_room(preset="private_chat")
    for address in (BOB, "carol@example.org"):
        await alice.request("POST", f"/rooms/{room_id}/invite", identity.access(address))
    others = {"third_party_signed": identity.signed(0, carol.user_id)}
    assert await _refused(bob, "POST", f"/join/{room_id}?via={one.name}", others) == (403, "M_FORBIDDEN")
    forged = {"third_party_signed": identity.signed(0, bob.user_id) | {"signatures": {}}}
    assert await _refused(bob, "POST", f"/join/{room_id}?via={one.name}", forged) == (403, "M_FORBIDDEN")
    proof = {"third_party_signed": identity.signed(0, bob.user_id)}
    assert (await bob.request("POST", f"/join/{room_id}?via={one.name}", proof))["room_id"] == room_id
    proof = {"third_party_signed": identity.signed(1, carol.user_id)}
    for _ in range(2):
        assert (await carol.request("POST", f"/rooms/{room_id}/join", proof))["room_id"] == room_id
    assert (await _member(alice, room_id, carol))["membership"] == "join"


async def test_an_invitation_outlives_its_sender(network: Network, identity: IdentityServer) -> None:
    """Who is invited by address may come although the one who invited has left the room since."""
    one, two = await _server(network, identity), await network.server()
    alice, carol, bob = await one.user("alice"), await one.user("carol"), await two.user("bob")
    room_id = await alice.create_room(preset="private_chat", invite=[carol.user_id])
    await carol.join(room_id)
    await alice.request("POST", f"/rooms/{room_id}/invite", identity.access(BOB))
    await alice.membership(room_id, "leave")
    assert await identity.bind(BOB, bob.user_id, two.name) == 200
    await bob.sync_until(lambda: bob.room(room_id).membership == "invite", "to be invited")
    await bob.join(room_id)
    assert (await _member(carol, room_id, bob))["membership"] == "join"


async def test_a_revoked_key_invites_nobody(network: Network, identity: IdentityServer) -> None:
    """The inviter's server asks whether the key still counts before it redeems the invitation."""
    one, two = await _server(network, identity), await network.server()
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await alice.create_room(preset="private_chat")
    await alice.request("POST", f"/rooms/{room_id}/invite", identity.access(BOB))
    identity.revoked = True
    assert await identity.bind(BOB, bob.user_id, two.name) == 200
    assert await _refused(alice, "GET", f"/rooms/{room_id}/state/m.room.member/{bob.user_id}") == (404, "M_NOT_FOUND")
    identity.revoked = False
    assert await identity.bind(BOB, bob.user_id, two.name) == 200
    assert (await _member(alice, room_id, bob))["membership"] == "invite"


async def test_a_forged_binding_invites_nobody(network: Network, identity: IdentityServer) -> None:
    """Without the signature that the room's event asks for, nobody is invited, in whoever's name."""
    one, two = await _server(network, identity), await network.server()
    alice, bob, eve = await one.user("alice"), await two.user("bob"), await one.user("eve")
    room_id = await alice.create_room(preset="private_chat")
    await alice.request("POST", f"/rooms/{room_id}/invite", identity.access(BOB))
    true_key = identity.key
    identity.key = generate_signing_key()
    assert await identity.bind(BOB, bob.user_id, two.name) == 200
    identity.key = true_key
    identity.invites[0]["sender"] = eve.user_id
    assert await identity.bind(BOB, bob.user_id, two.name) == 200
    assert await identity.bind(BOB, "@nobody:elsewhere.example", two.name) == 404
    assert await _refused(alice, "GET", f"/rooms/{room_id}/state/m.room.member/{bob.user_id}") == (404, "M_NOT_FOUND")
    unsigned = sign_json({"mxid": bob.user_id, "token": 5}, identity.name, true_key)
    invite = {"room_id": room_id, "sender": alice.user_id, "signed": unsigned}
    identity.signed = lambda index, user_id: invite["signed"]  # type: ignore[method-assign, assignment, return-value]
    assert await identity.bind(BOB, bob.user_id, two.name) == 400


async def test_without_an_identity_server_nobody_is_invited_by_address(network: Network) -> None:
    """This server says that it trusts no identity server, and changes nothing."""
    one = await network.server()
    alice = await one.user("alice")
    third = {"id_server": "identity.example", "id_access_token": "x", "medium": "email", "address": "b@example.org"}
    room_id = await alice.create_room()
    for path, body in ((f"/rooms/{room_id}/invite", third), ("/createRoom", {"invite_3pid": [third]})):
        assert await _refused(alice, "POST", path, body) == (400, "M_SERVER_NOT_TRUSTED")
    assert (await alice.request("GET", "/joined_rooms"))["joined_rooms"] == [room_id]
