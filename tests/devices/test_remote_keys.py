"""What other servers say of their users' keys: only what was asked for, only in the promised form, in bounded time."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from homeserver.devices.remote_keys import claim_remote_keys, query_remote_keys
from homeserver.protocol.errors import Unavailable
from homeserver.protocol.events import JsonObject
from homeserver.remote import Remote, RemoteError
from homeserver.storage.cross_signing_keys import SeenSignature
from tests.support.keys import ALGORITHM, DeviceKeys, Identity, public

BOB = "@bob:far.example"
EVE = "@eve:far.example"
ALICE = "@alice:test.example"


class Servers:
    """Other servers: an answer for each, or what it raises; None never answers."""

    def __init__(self, **answers: Any) -> None:
        self._answers = {name.replace("_", "."): answer for name, answer in answers.items()}

    async def query_keys(self, destination: str, device_keys: Any) -> JsonObject:
        answer = self._answers[destination]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return cast("JsonObject", answer)

    claim_keys = query_keys


def servers(**answers: Any) -> Remote:
    return cast("Remote", Servers(**answers))


def ask(**answers: Any) -> Any:
    return servers(**answers).query_keys


async def test_what_was_not_asked_for_is_left_out() -> None:
    """Users of other servers, users and devices that nobody asked for, and user-signing keys are not passed on."""
    bob, eve, ours = DeviceKeys(BOB, "B"), DeviceKeys(EVE, "E"), DeviceKeys(ALICE, "A")
    answer = {
        "device_keys": {
            BOB: {"B": bob.identity(), "C": DeviceKeys(BOB, "C").identity()},
            EVE: {"E": eve.identity()},
            ALICE: {"A": ours.identity()},
        },
        "master_keys": {BOB: Identity(BOB).key("master"), ALICE: Identity(ALICE).key("master")},
        "user_signing_keys": {BOB: Identity(BOB).key("user_signing")},
    }
    found = await query_remote_keys(ask(far_example=answer), {BOB: ["B"]}, ALICE, [], 5)
    assert found["device_keys"] == {BOB: {"B": bob.identity()}}
    assert set(found["master_keys"]) == {BOB}
    assert "user_signing_keys" not in found
    assert found["failures"] == {}


@pytest.mark.parametrize(
    "device",
    [5, {}, {**DeviceKeys(BOB, "B").identity(), "user_id": EVE}, {**DeviceKeys(BOB, "C").identity()}, {"keys": {}}],
)
async def test_malformed_devices_are_left_out(device: Any) -> None:
    """A device that is not of the promised form, or another's, is as if it were not there."""
    found = await query_remote_keys(ask(far_example={"device_keys": {BOB: {"B": device}}}), {BOB: []}, ALICE, [], 5)
    assert found["device_keys"] == {}


@pytest.mark.parametrize("answer", [{}, {"device_keys": 5}, {"device_keys": {BOB: 5}, "master_keys": 5}])
async def test_malformed_answers_are_empty(answer: Any) -> None:
    """An answer of any other form says nothing, and breaks nothing."""
    found = await query_remote_keys(ask(far_example=answer), {BOB: []}, ALICE, [], 5)
    assert found == {"device_keys": {}, "master_keys": {}, "self_signing_keys": {}, "failures": {}}
    claimed = await claim_remote_keys(servers(far_example={"one_time_keys": answer}), {BOB: {"B": ALGORITHM}}, 5)
    assert claimed == {"one_time_keys": {}, "failures": {}}


async def test_signatures_on_master_keys_are_those_one_may_see() -> None:
    """Of the signatures on a master key its owner's are shown, and those kept here if the key is still the same."""
    identity, eve = Identity(BOB), Identity(EVE)
    key = identity.key("master")
    signed = {**key, "signatures": {**eve.sign(key, "user_signing")["signatures"], BOB: {"ed25519:B": "own"}}}
    added = [
        SeenSignature(BOB, public(identity.master), ALICE, "ed25519:USK", "mine"),
        SeenSignature(BOB, "another key", ALICE, "ed25519:USK", "old"),
    ]
    answer = {"master_keys": {BOB: signed}}
    found = await query_remote_keys(ask(far_example=answer), {BOB: []}, ALICE, added, 5)
    expected = {BOB: {"ed25519:B": "own"}, ALICE: {"ed25519:USK": "mine"}}
    assert found["master_keys"][BOB]["signatures"] == expected


async def test_failures_are_named_by_server() -> None:
    """Whoever is unreachable, silent or in error is a failure of its own; not knowing a user is none."""
    remote = servers(
        down_example=Unavailable("no route"),
        silent_example=None,
        wrong_example=RemoteError("wrong.example", 500),
        empty_example=RemoteError("empty.example", 404, "M_NOT_FOUND"),
        far_example={"device_keys": {BOB: {"B": DeviceKeys(BOB, "B").identity()}}},
    )
    names = ("down", "silent", "wrong", "empty", "far")
    wanted: dict[str, list[str]] = {f"@bob:{name}.example": [] for name in names}
    found = await query_remote_keys(remote.query_keys, wanted, ALICE, [], 0.2)
    assert set(found["failures"]) == {"down.example", "silent.example", "wrong.example"}
    assert set(found["device_keys"]) == {BOB}


async def test_a_claim_gets_the_keys_it_asked_for() -> None:
    """One key of the algorithm for each device; more, others, or none that was asked for are left out."""
    device = DeviceKeys(BOB, "B")
    one, two = device.one_time_keys("1"), device.one_time_keys("1", "2")
    other = {"curve25519:1": "A" * 43}
    wanted = {BOB: dict.fromkeys(["B", "C", "D"], ALGORITHM)}
    answer = {"one_time_keys": {BOB: {"B": one, "C": two, "D": other, "E": one}, ALICE: {"A": one}}}
    found = await claim_remote_keys(servers(far_example=answer), wanted, 5)
    assert found == {"one_time_keys": {BOB: {"B": one}}, "failures": {}}
