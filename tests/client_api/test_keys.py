"""Keys of devices: uploaded, looked up and claimed.  # spec: client-server-api/#key-management-api"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from nacl.signing import SigningKey

from tests.support.api import Api, Json
from tests.support.keys import ALGORITHM, DeviceKeys, signed


def device_of(user: Api) -> DeviceKeys:
    return DeviceKeys(user.user_id, user.device_id)


async def uploaded(user: Api, *key_ids: str, fallback: Json | None = None) -> DeviceKeys:
    device = device_of(user)
    body = {"device_keys": device.identity(), "one_time_keys": device.one_time_keys(*key_ids)}
    answer = await user.post("/keys/upload", {**body, **({"fallback_keys": fallback} if fallback else {})})
    assert answer.status == 200, answer
    return device


async def claim(user: Api, owner: Api) -> Any:
    wanted = {owner.user_id: {owner.device_id: ALGORITHM}}
    answer = await user.post("/keys/claim", {"one_time_keys": wanted})
    assert answer.status == 200, answer
    return answer.body["one_time_keys"].get(owner.user_id, {}).get(owner.device_id)


async def query(user: Api, *user_ids: str) -> Any:
    answer = await user.post("/keys/query", {"device_keys": {user_id: [] for user_id in user_ids}})
    assert answer.status == 200, answer
    return answer.body


async def counts(user: Api) -> Any:
    answer = await user.post("/keys/upload", {})
    assert answer.status == 200, answer
    return answer.body["one_time_key_counts"]


async def test_identity_keys_are_published(alice: Api) -> None:
    """What a device uploads is what everyone is shown, with the name that the user gave the device."""
    bob = await alice.as_token(None).register("bob", initial_device_display_name="Bob's phone")
    device = await uploaded(bob)
    shown = (await query(alice, bob.user_id))["device_keys"][bob.user_id]
    assert shown == {bob.device_id: {**device.identity(), "unsigned": {"device_display_name": "Bob's phone"}}}
    assert (await query(alice, "@nobody:test.example", "no user"))["device_keys"] == {}


async def test_only_the_devices_asked_for(alice: Api) -> None:
    """A query that names devices gets these and no others."""
    other = await alice.as_token(None).login("alice")
    await uploaded(alice)
    await uploaded(other)
    body = {"device_keys": {alice.user_id: [other.device_id, "NONE"]}}
    answer = await alice.post("/keys/query", body)
    assert set(answer.body["device_keys"][alice.user_id]) == {other.device_id}


@pytest.mark.parametrize(
    "changes",
    [
        {"user_id": "@bob:test.example"},
        {"device_id": "OTHER"},
        {"algorithms": "x"},
        {"algorithms": [5]},
        {"keys": []},
        {"keys": {}},
        {"keys": {"ed25519:OTHER": "A" * 43}},
        {"extra": 1.5},
        {"extra": "x" * 20_000},
    ],
)
async def test_malformed_identity_keys_are_refused(alice: Api, changes: Json) -> None:
    """Identity keys that are not of the right form or another device's are refused, and nothing is stored."""
    device = device_of(alice)
    unsigned = {**device.identity(), **changes}
    try:
        body = device.identity(**changes)
    except ValueError:  # floats can't be signed
        body = unsigned
    answer = await alice.post("/keys/upload", {"device_keys": body, "one_time_keys": device.one_time_keys("A")})
    assert answer.status in (400, 413)
    assert (await query(alice, alice.user_id))["device_keys"] == {}


async def test_identity_keys_must_be_signed_by_the_device(alice: Api) -> None:
    """A missing or wrong signature of the device is refused; signatures by others are left out."""
    device = device_of(alice)
    good = device.identity()
    wrong = {**good, "algorithms": ["m.olm.v1.curve25519-aes-sha2"]}
    for bad in (wrong, {**good, "signatures": {}}):
        answer = await alice.post("/keys/upload", {"device_keys": bad})
        assert (answer.status, answer.errcode) == (400, "M_INVALID_SIGNATURE")
    stranger = signed(good, "@x:y.example", "X", SigningKey.generate())
    assert (await alice.post("/keys/upload", {"device_keys": stranger})).status == 200
    assert (await query(alice, alice.user_id))["device_keys"][alice.user_id][alice.device_id] == good


async def test_uploads_can_be_repeated(alice: Api) -> None:
    """The same keys again change nothing; another key under the id of one that waits is refused, and all with it."""
    device = device_of(alice)
    body = {"device_keys": device.identity(), "one_time_keys": device.one_time_keys("A", "B")}
    for _ in range(2):
        answer = await alice.post("/keys/upload", body)
        assert answer.body == {"one_time_key_counts": {ALGORITHM: 2}}
    answer = await alice.post("/keys/upload", {"one_time_keys": device.one_time_keys("C", "A")})
    assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")
    assert await counts(alice) == {ALGORITHM: 2}


@pytest.mark.parametrize(
    "name", ["", "x", ":A", "signed_curve25519:", "signed_curve25519:\0", "signed_curve25519:" + "x" * 300]
)
async def test_malformed_names_of_one_time_keys(alice: Api, name: str) -> None:
    """The name of a one-time key is an algorithm and an id of bounded length."""
    device = await uploaded(alice)
    answer = await alice.post("/keys/upload", {"one_time_keys": {name: device.one_time_key()}})
    assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")


async def test_one_time_keys_are_checked(alice: Api) -> None:
    """A key must be 32 bytes and, where the algorithm says so, signed by the device; otherwise nothing is stored."""
    device = await uploaded(alice)
    key = device.one_time_key()
    stranger = DeviceKeys(alice.user_id, alice.device_id)
    for bad in ("A" * 43, 5, {}, {**key, "key": "A" * 43}, {**key, "signatures": {}}, stranger.one_time_key()):
        answer = await alice.post("/keys/upload", {"one_time_keys": {f"{ALGORITHM}:A": bad}})
        assert answer.status == 400, bad
    short = device.sign({"key": "AAAA"})
    assert (await alice.post("/keys/upload", {"one_time_keys": {f"{ALGORITHM}:A": short}})).status == 400
    assert await counts(alice) == {}
    plain = {"curve25519:A": "A" * 43}
    assert (await alice.post("/keys/upload", {"one_time_keys": plain})).body == {
        "one_time_key_counts": {"curve25519": 1}
    }


async def test_one_time_keys_need_identity_keys_and_have_a_bound(alice: Api) -> None:
    """Without identity keys there is nothing to check signatures with; more keys than any client keeps are refused."""
    device = device_of(alice)
    assert (await alice.post("/keys/upload", {"one_time_keys": device.one_time_keys("A")})).status == 400
    await alice.post("/keys/upload", {"device_keys": device.identity()})
    many = {f"curve25519:{number}": "A" * 43 for number in range(1000)}
    assert (await alice.post("/keys/upload", {"one_time_keys": many})).status == 200
    assert (await alice.post("/keys/upload", {"one_time_keys": device.one_time_keys("A")})).status == 400


async def test_each_key_is_claimed_once(alice: Api) -> None:
    """Claims take the keys in the order of their uploads, each once, and then there are none."""
    bob = await alice.as_token(None).register("bob")
    device = await uploaded(bob, "A")
    await bob.post("/keys/upload", {"one_time_keys": device.one_time_keys("B")})
    assert [set(await claim(alice, bob)) for _ in range(2)] == [{f"{ALGORITHM}:A"}, {f"{ALGORITHM}:B"}]
    assert await claim(alice, bob) is None
    assert await counts(bob) == {}


async def test_claims_at_once_never_share_a_key(alice: Api) -> None:
    """Of forty claims at the same time for thirty keys, thirty get one each and ten get none."""
    bob = await alice.as_token(None).register("bob")
    await uploaded(bob, *(str(number) for number in range(30)))
    claimed = await asyncio.gather(*(claim(alice, bob) for _ in range(40)))
    given = Counter(name for one in claimed if one for name in one)
    assert len(given) == 30
    assert set(given.values()) == {1}


async def test_a_repeated_upload_offers_no_claimed_key_again(alice: Api) -> None:
    """A client that repeats an upload because the answer was lost does not put back a key that was given out."""
    bob = await alice.as_token(None).register("bob")
    device = device_of(bob)
    body = {"device_keys": device.identity(), "one_time_keys": device.one_time_keys("A")}
    await bob.post("/keys/upload", body)
    assert await claim(alice, bob)
    assert (await bob.post("/keys/upload", body)).body == {"one_time_key_counts": {}}
    assert await claim(alice, bob) is None


async def test_the_fallback_key_stays(alice: Api) -> None:
    """Without one-time keys the fallback key is given out, again and again, until another takes its place."""
    bob = await alice.as_token(None).register("bob")
    device = device_of(bob)
    fallback = {f"{ALGORITHM}:F": device.one_time_key(fallback=True)}
    body = {"device_keys": device.identity(), "one_time_keys": device.one_time_keys("A"), "fallback_keys": fallback}
    assert (await bob.post("/keys/upload", body)).body == {"one_time_key_counts": {ALGORITHM: 1}}
    assert set(await claim(alice, bob)) == {f"{ALGORITHM}:A"}
    assert [await claim(alice, bob) for _ in range(2)] == [fallback, fallback]
    newer = {f"{ALGORITHM}:G": device.one_time_key(fallback=True)}
    await bob.post("/keys/upload", {"fallback_keys": newer})
    assert await claim(alice, bob) == newer
    two = {f"{ALGORITHM}:{name}": device.one_time_key(fallback=True) for name in "HI"}
    assert (await bob.post("/keys/upload", {"fallback_keys": two})).status == 400


async def test_new_identity_keys_end_the_old_ones(alice: Api) -> None:
    """With other identity keys a device's one-time keys are gone: they were signed with the old ones."""
    await uploaded(alice, "A", "B")
    device = await uploaded(alice)
    assert await counts(alice) == {}
    shown = (await query(alice, alice.user_id))["device_keys"][alice.user_id][alice.device_id]
    assert shown["keys"] == device.identity()["keys"]


async def test_keys_go_with_their_device(alice: Api) -> None:
    """A device that logs out has no keys any more, neither to be seen nor to be claimed."""
    bob = await alice.as_token(None).register("bob")
    await uploaded(bob, "A")
    await bob.post("/logout")
    assert (await query(alice, bob.user_id))["device_keys"] == {}
    assert await claim(alice, bob) is None


@pytest.mark.parametrize("path", ["query", "claim"])
@pytest.mark.parametrize("asked", [None, 5, [], {"@a:b.example": 5}, {"@a:b.example": [5]}, {"@a:b.example": {"D": 5}}])
async def test_malformed_questions(alice: Api, path: str, asked: Any) -> None:
    """Queries and claims that are not of the right form are refused."""
    body = {"device_keys": asked, "one_time_keys": asked}
    answer = await alice.post(f"/keys/{path}", body)
    assert answer.status == 400
    assert answer.errcode in ("M_BAD_JSON", "M_MISSING_PARAM")


async def test_unreachable_servers_are_reported(alice: Api) -> None:
    """A server that can't be asked is a failure of its own; what is here is answered all the same."""
    await uploaded(alice, "A")
    far = "@x:unreachable.example"
    answer = await alice.post("/keys/query", {"device_keys": {far: [], alice.user_id: []}, "timeout": 2000})
    assert set(answer.body["failures"]) == {"unreachable.example"}
    assert set(answer.body["device_keys"]) == {alice.user_id}
    wanted = {far: {"D": ALGORITHM}, alice.user_id: {alice.device_id: ALGORITHM}}
    answer = await alice.post("/keys/claim", {"one_time_keys": wanted, "timeout": 2000})
    assert set(answer.body["failures"]) == {"unreachable.example"}
    assert set(answer.body["one_time_keys"]) == {alice.user_id}
