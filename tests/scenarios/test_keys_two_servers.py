"""Alice on one server, Bob on another: each finds, claims and signs the other's keys."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.client import Client, eventually
from tests.support.federating import Network, Node
from tests.support.keys import ALGORITHM, DeviceKeys, Identity, public


async def _pair(network: Network) -> tuple[Node, Node, Client, Client]:
    one, two = await network.server(), await network.server()
    return one, two, await one.user("alice"), await two.user("bob")


async def _published(user: Client, *key_ids: str) -> tuple[DeviceKeys, Identity]:
    """A device with one-time keys and a cross-signing identity that has signed it."""
    device_id = (await user.request("GET", "/account/whoami"))["device_id"]
    device, identity = DeviceKeys(user.user_id, device_id), Identity(user.user_id)
    body = {"device_keys": device.identity(), "one_time_keys": device.one_time_keys(*key_ids)}
    await user.request("POST", "/keys/upload", body)
    await user.request("POST", "/keys/device_signing/upload", identity.upload())
    signed = identity.sign(device.identity(), "self_signing")
    answer = await user.request("POST", "/keys/signatures/upload", {user.user_id: {device_id: signed}})
    assert answer["failures"] == {}
    return device, identity


async def _query(user: Client, *owners: Client) -> Any:
    return await user.request("POST", "/keys/query", {"device_keys": {owner.user_id: [] for owner in owners}})


async def _claim(user: Client, owner: Client, device_id: str) -> Any:
    answer = await user.request("POST", "/keys/claim", {"one_time_keys": {owner.user_id: {device_id: ALGORITHM}}})
    return answer["one_time_keys"].get(owner.user_id, {}).get(device_id)


async def test_keys_are_found_across_servers(network: Network) -> None:
    """Another server's users see devices, master and self-signing keys, but no device names or user-signing keys."""
    _, _, alice, bob = await _pair(network)
    device, identity = await _published(bob)
    await bob.request("PUT", f"/devices/{device.device_id}", {"display_name": "Bob's phone"})
    seen = await _query(alice, bob)
    assert seen["failures"] == {}
    signed = identity.sign(device.identity(), "self_signing")
    assert seen["device_keys"] == {bob.user_id: {device.device_id: signed}}
    assert seen["master_keys"] == {bob.user_id: identity.key("master")}
    assert seen["self_signing_keys"] == {bob.user_id: identity.key("self_signing")}
    assert seen["user_signing_keys"] == {}


async def test_keys_are_claimed_once_across_servers(network: Network) -> None:
    """Claims from both servers at the same time never get the same key, and there are as many as keys."""
    _, two, alice, bob = await _pair(network)
    device, _ = await _published(bob, *"ABCDEF")
    carol = await two.user("carol")
    claims = [_claim(user, bob, device.device_id) for user in (alice, carol) for _ in range(4)]
    claimed = [name for one in await asyncio.gather(*claims) if one for name in one]
    assert sorted(claimed) == [f"{ALGORITHM}:{name}" for name in "ABCDEF"]


async def test_a_user_of_another_server_is_verified(network: Network) -> None:
    """A signature on the master key of another server's user is kept here and shown to its maker alone."""
    _, _, alice, bob = await _pair(network)
    (_, alices), (_, bobs) = await _published(alice), await _published(bob)
    signed = alices.sign(bobs.key("master"), "user_signing")
    body = {bob.user_id: {public(bobs.master): signed}}
    assert (await alice.request("POST", "/keys/signatures/upload", body))["failures"] == {}
    seen = (await _query(alice, bob))["master_keys"][bob.user_id]["signatures"]
    assert seen[alice.user_id] == signed["signatures"][alice.user_id]
    assert alice.user_id not in (await _query(bob, bob))["master_keys"][bob.user_id].get("signatures", {})
    wrong = bobs.sign(bobs.key("master"), "user_signing")
    failures = (await alice.request("POST", "/keys/signatures/upload", {bob.user_id: {"x": wrong}}))["failures"]
    assert failures[bob.user_id]["x"]["errcode"] == "M_NOT_FOUND"


async def test_a_cut_line_is_a_failure_of_that_server(network: Network) -> None:
    """While one server can't be reached, it is named, and all others are answered."""
    one, two, alice, bob = await _pair(network)
    await _published(alice)
    device, _ = await _published(bob, "A")
    network.cut(one, two)
    seen = await _query(alice, alice, bob)
    assert set(seen["failures"]) == {two.name}
    assert set(seen["device_keys"]) == {alice.user_id}
    assert await _claim(alice, bob, device.device_id) is None
    network.heal()
    assert set((await _query(alice, bob))["device_keys"]) == {bob.user_id}
    assert set(await _claim(alice, bob, device.device_id)) == {f"{ALGORITHM}:A"}


async def test_devices_of_those_one_shares_rooms_with_are_known_without_asking(network: Network) -> None:
    """What was learnt of a user in a shared room is answered while their server can't be reached, and is kept up to
    date by what that server tells when it can."""
    one, two, alice, bob = await _pair(network)
    device, _ = await _published(bob)
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id, via=one.name)

    async def told() -> bool:
        return not await two.services.pool.fetchval("SELECT count(*) FROM outgoing_edus")

    await eventually(told, "Bob's server to have told of his devices")
    await alice.sync()
    assert set((await _query(alice, bob))["device_keys"][bob.user_id]) == {device.device_id}
    network.cut(one, two)
    seen = await _query(alice, bob)
    assert seen["failures"] == {}
    assert set(seen["device_keys"][bob.user_id]) == {device.device_id}
    other = await bob.other_device()
    other_id = await other.device_id()
    await other.request("POST", "/keys/upload", {"device_keys": DeviceKeys(bob.user_id, other_id).identity()})
    network.heal()
    while bob.user_id not in (await alice.sync(timeout=20_000))["device_lists"]["changed"]:
        pass
    assert set((await _query(alice, bob))["device_keys"][bob.user_id]) == {device.device_id, other_id}
