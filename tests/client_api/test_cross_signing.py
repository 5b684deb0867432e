"""Cross-signing keys and signatures.  # spec: client-server-api/#cross-signing"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import PASSWORD, Api, Json
from tests.support.keys import DeviceKeys, Identity, public, signed

PATH = "/keys/device_signing/upload"


def proof(user: str) -> Json:
    return {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": user}, "password": PASSWORD}


async def signing(user: Api) -> Identity:
    """Publishes a new identity of a user who has none."""
    identity = Identity(user.user_id)
    answer = await user.post(PATH, identity.upload())
    assert (answer.status, answer.body) == (200, {})
    return identity


async def device(user: Api) -> DeviceKeys:
    keys = DeviceKeys(user.user_id, user.device_id)
    assert (await user.post("/keys/upload", {"device_keys": keys.identity()})).status == 200
    return keys


async def query(user: Api, owner: Api) -> Any:
    answer = await user.post("/keys/query", {"device_keys": {owner.user_id: []}})
    assert answer.status == 200, answer
    return answer.body


async def sign(user: Api, owner: str, target: str, obj: Json) -> Any:
    """Uploads one signed object; the error that it got, if any."""
    answer = await user.post("/keys/signatures/upload", {owner: {target: obj}})
    assert answer.status == 200, answer
    failure = answer.body["failures"].get(owner, {}).get(target)
    return failure and failure["errcode"]


@pytest.fixture
async def bob(alice: Api) -> Api:
    return await alice.as_token(None).register("bob")


async def test_an_identity_is_published(alice: Api, bob: Api) -> None:
    """The first upload needs no proof; others see the master and self-signing key, oneself the user-signing key too."""
    identity = await signing(alice)
    seen = await query(bob, alice)
    assert seen["master_keys"] == {alice.user_id: identity.key("master")}
    assert seen["self_signing_keys"] == {alice.user_id: identity.key("self_signing")}
    assert seen["user_signing_keys"] == {}
    assert (await query(alice, alice))["user_signing_keys"] == {alice.user_id: identity.key("user_signing")}


async def test_the_same_keys_again_need_no_proof(alice: Api) -> None:
    """An upload without a new key can be repeated; one with a new key must be proved to be the owner's."""
    identity = await signing(alice)
    assert (await alice.post(PATH, identity.upload())).status == 200
    assert (await alice.post(PATH, {"self_signing_key": identity.key("self_signing")})).status == 200
    other = Identity(alice.user_id, master=identity.master)
    for body in (other.upload(), {"user_signing_key": other.key("user_signing")}, Identity(alice.user_id).upload()):
        asked = await alice.post(PATH, body)
        assert asked.status == 401
        assert asked.body["flows"] == [{"stages": ["m.login.password"]}]
        wrong = {**body, "auth": {**proof("alice"), "password": "wrong"}}
        assert (await alice.post(PATH, wrong)).status == 401
    assert (await query(alice, alice))["user_signing_keys"] == {alice.user_id: identity.key("user_signing")}
    body = {"user_signing_key": other.key("user_signing"), "auth": proof("alice")}
    assert (await alice.post(PATH, body)).status == 200
    assert (await query(alice, alice))["user_signing_keys"] == {alice.user_id: other.key("user_signing")}


async def test_a_new_master_key_ends_what_the_old_one_signed(alice: Api) -> None:
    """With another master key the keys that it did not sign are gone, and so are the signatures by them."""
    old = await signing(alice)
    keys = await device(alice)
    assert await sign(alice, alice.user_id, alice.device_id, old.sign(keys.identity(), "self_signing")) is None
    new = Identity(alice.user_id)
    assert (await alice.post(PATH, {"master_key": new.key("master"), "auth": proof("alice")})).status == 200
    seen = await query(alice, alice)
    assert seen["master_keys"] == {alice.user_id: new.key("master")}
    assert seen["self_signing_keys"] == seen["user_signing_keys"] == {}
    assert seen["device_keys"][alice.user_id][alice.device_id]["signatures"] == keys.identity()["signatures"]


def _broken(identity: Identity) -> list[Json]:
    key, master = identity.key("self_signing"), identity.key("master")
    stranger = Identity(identity.user_id).key("self_signing")
    twice = {**master["keys"], **key["keys"]}
    return [
        {"self_signing_key": key},
        {"master_key": {**master, "user_id": "@bob:test.example"}},
        {"master_key": {**master, "usage": ["self_signing"]}},
        {"master_key": {**master, "usage": []}},
        {"master_key": {**master, "keys": {}}},
        {"master_key": {**master, "keys": twice}},
        {"master_key": {**master, "keys": {"ed25519:x": "x"}}},
        {"master_key": {**master, "keys": {"ed25519:other": public(identity.master)}}},
        {"master_key": {**master, "signatures": 5}},
        {"master_key": {**master, "signatures": {identity.user_id: 5}}},
        {"master_key": 5},
        {"master_key": master, "self_signing_key": {**key, "signatures": {}}},
        {"master_key": master, "self_signing_key": stranger},
        {"master_key": master, "self_signing_key": identity.sign({**master, "usage": ["self_signing"]}, "master")},
    ]


async def test_malformed_identities_are_refused(alice: Api) -> None:
    """Keys of others, for other usages, without or with several keys, or not signed by the master key, are refused."""
    for body in _broken(Identity(alice.user_id)):
        answer = await alice.post(PATH, body)
        assert answer.status == 400, body
        assert answer.errcode in ("M_BAD_JSON", "M_INVALID_PARAM", "M_MISSING_PARAM", "M_INVALID_SIGNATURE")
    assert (await query(alice, alice))["master_keys"] == {}


async def test_a_key_is_never_a_device_id(alice: Api) -> None:
    """A cross-signing key that is the id of a device is refused, and so is a device whose id is such a key."""
    identity = Identity(alice.user_id)
    named = await alice.as_token(None).login("alice", device_id=public(identity.master))
    answer = await alice.post(PATH, identity.upload())
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    other = await signing(alice)
    assert named.device_id == public(identity.master)
    named = await alice.as_token(None).login("alice", device_id=public(other.master))
    answer = await named.post("/keys/upload", {"device_keys": DeviceKeys(alice.user_id, named.device_id).identity()})
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")


async def test_own_devices_and_the_master_key_are_signed(alice: Api, bob: Api) -> None:
    """The self-signing key signs devices, devices sign the master key; everyone sees both."""
    identity, keys = await signing(alice), await device(alice)
    signed_device = identity.sign(keys.identity(), "self_signing")
    assert await sign(alice, alice.user_id, alice.device_id, signed_device) is None
    signed_master = keys.sign(identity.key("master"))
    assert await sign(alice, alice.user_id, public(identity.master), signed_master) is None
    seen = await query(bob, alice)
    assert seen["device_keys"][alice.user_id][alice.device_id] == signed_device
    assert seen["master_keys"][alice.user_id] == signed_master


async def test_the_master_key_may_come_signed(alice: Api) -> None:
    """A device's signature that comes with the master key is kept if it is good, and refused if it is not."""
    identity, keys = Identity(alice.user_id), await device(alice)
    stranger = DeviceKeys(alice.user_id, alice.device_id)
    answer = await alice.post(PATH, {"master_key": stranger.sign(identity.key("master"))})
    assert (answer.status, answer.errcode) == (400, "M_INVALID_SIGNATURE")
    good = keys.sign(identity.key("master"))
    assert (await alice.post(PATH, {"master_key": good})).status == 200
    assert (await query(alice, alice))["master_keys"][alice.user_id] == good


async def test_only_the_signer_sees_whom_it_verified(alice: Api, bob: Api) -> None:
    """A signature on another's master key is shown to its maker alone, not even to whom it is about."""
    alices, bobs = await signing(alice), await signing(bob)
    good = alices.sign(bobs.key("master"), "user_signing")
    assert await sign(alice, bob.user_id, public(bobs.master), good) is None
    assert (await query(alice, bob))["master_keys"][bob.user_id] == good
    assert (await query(bob, bob))["master_keys"][bob.user_id] == bobs.key("master")


async def test_other_relations_are_refused(alice: Api, bob: Api) -> None:
    """Whatever cross-signing has no use for is a failure of its own, and is not stored."""
    alices, bobs = await signing(alice), await signing(bob)
    keys, bobs_device = await device(alice), await device(bob)
    master, own = public(alices.master), alices.key("master")
    theirs = bobs.key("master")
    me, bob_id, mine = alice.user_id, bob.user_id, alice.device_id
    identity = keys.identity()
    tampered = {**alices.sign(identity, "self_signing"), "algorithms": []}
    wrong = signed(identity, me, public(alices.self_signing), DeviceKeys(me, "X").key)
    cases: list[tuple[str, str, Json, str]] = [
        (me, mine, alices.sign(identity, "master"), "M_INVALID_SIGNATURE"),
        (me, mine, alices.sign(identity, "user_signing"), "M_INVALID_SIGNATURE"),
        (me, mine, tampered, "M_INVALID_SIGNATURE"),
        (me, mine, wrong, "M_INVALID_SIGNATURE"),
        (me, mine, {**identity, "signatures": {}}, "M_INVALID_SIGNATURE"),
        (me, mine, {**identity, "signatures": 5}, "M_BAD_JSON"),
        (me, master, alices.sign(own, "self_signing"), "M_INVALID_SIGNATURE"),
        (me, public(alices.self_signing), keys.sign(alices.key("self_signing")), "M_NOT_FOUND"),
        (me, "NONE", alices.sign(identity, "self_signing"), "M_NOT_FOUND"),
        (bob_id, public(bobs.master), alices.sign(theirs, "self_signing"), "M_INVALID_SIGNATURE"),
        (bob_id, public(bobs.master), keys.sign(theirs), "M_INVALID_SIGNATURE"),
        (bob_id, public(bobs.master), theirs, "M_INVALID_SIGNATURE"),
        (bob_id, bob.device_id, alices.sign(bobs_device.identity(), "user_signing"), "M_NOT_FOUND"),
        ("@nobody:test.example", "x", alices.sign(theirs, "user_signing"), "M_NOT_FOUND"),
    ]
    for owner, target, obj, errcode in cases:
        assert await sign(alice, owner, target, obj) == errcode, (owner, target)
    seen = await query(alice, alice)
    assert seen["device_keys"][me][mine]["signatures"] == identity["signatures"]
    assert seen["master_keys"][me] == own
    assert (await query(alice, bob))["master_keys"][bob_id] == theirs


async def test_one_failure_does_not_hold_up_the_rest(alice: Api) -> None:
    """Of several objects the good are taken and the bad are named."""
    identity, keys = await signing(alice), await device(alice)
    body = {alice.user_id: {alice.device_id: identity.sign(keys.identity(), "self_signing"), "NONE": {}}}
    answer = await alice.post("/keys/signatures/upload", body)
    assert {owner: set(failed) for owner, failed in answer.body["failures"].items()} == {alice.user_id: {"NONE"}}
    seen = await query(alice, alice)
    assert (
        f"ed25519:{public(identity.self_signing)}"
        in (seen["device_keys"][alice.user_id][alice.device_id]["signatures"][alice.user_id])
    )


@pytest.mark.parametrize("body", [{"x": {}}, {"@a:b.example": 5}, {"@a:b.example": {"D": 5}}])
async def test_malformed_signature_uploads(alice: Api, body: Json) -> None:
    """A body that does not map users to objects is refused."""
    assert (await alice.post("/keys/signatures/upload", body)).errcode == "M_BAD_JSON"


async def test_a_devices_signature_goes_with_it(alice: Api) -> None:
    """A device that is gone has signed nothing any more, so that one of the same name vouches for nobody."""
    other = await alice.as_token(None).login("alice")
    identity, keys = await signing(alice), await device(other)
    assert await sign(other, alice.user_id, public(identity.master), keys.sign(identity.key("master"))) is None
    await other.post("/logout")
    assert (await query(alice, alice))["master_keys"][alice.user_id] == identity.key("master")


async def test_others_who_cannot_be_asked_are_failures(alice: Api) -> None:
    """A signature on a key of a server that can't be reached is reported, not taken on trust."""
    identity, other = await signing(alice), Identity("@x:unreachable.example")
    obj = identity.sign(other.key("master"), "user_signing")
    assert await sign(alice, other.user_id, public(other.master), obj) is not None
