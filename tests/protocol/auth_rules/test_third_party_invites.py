"""Invites that redeem an m.room.third_party_invite (5.3.1), and sending one (7.1)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from nacl.signing import SigningKey

from homeserver.protocol.canonical_json import encode_canonical_json
from homeserver.protocol.hashing import encode_base64, encode_urlsafe_base64
from homeserver.protocol.room_versions import RoomVersion
from tests.protocol.auth_rules.refusals import assert_verdict
from tests.protocol.rooms import ALICE, BOB, CHARLIE, VERSIONS, Room

EVERY = pytest.mark.parametrize("version", VERSIONS)
KEY, OTHER_KEY = SigningKey(b"k" * 32), SigningKey(b"o" * 32)


def _public(key: SigningKey, encode: Callable[[bytes], str] = encode_base64) -> str:
    return encode(bytes(key.verify_key))


def _signed(key: SigningKey = KEY, **fields: Any) -> dict[str, Any]:
    signed: dict[str, Any] = {"mxid": CHARLIE, "token": "t"} | fields
    signature = key.sign(encode_canonical_json(signed)).signature
    return signed | {"signatures": {"is.example": {"ed25519:0": encode_base64(signature)}}}


def _room(version: RoomVersion, **content: Any) -> Room:
    room = Room.with_members(version, BOB, join_rule="invite")
    room.add("m.room.third_party_invite", BOB, content or {"public_key": _public(KEY)}, "t")
    return room


def _invite(room: Room, third_party_invite: Any, sender: str = BOB, target: str = CHARLIE) -> Any:
    content = {"membership": "invite", "third_party_invite": third_party_invite}
    return room.make("m.room.member", sender, content, target)


def _clause(number: int) -> dict[int, str]:
    return {1: f"5.3.1.{number}", 6: f"4.3.1.{number}", 8: f"4.4.1.{number}", 12: f"5.4.1.{number}"}


@EVERY
def test_a_signature_of_the_identity_server_suffices(version: RoomVersion) -> None:
    """5.3.1.7: signed by public_key or by one of public_keys, in either Base64 alphabet, the invite is allowed."""
    for content in (
        {"public_key": _public(KEY)},
        {"public_key": _public(KEY, encode_urlsafe_base64)},
        {"public_key": _public(KEY) + "="},
        {"public_keys": [{"public_key": _public(KEY)}]},
        {"public_key": _public(OTHER_KEY), "public_keys": [1, {}, {"public_key": 5}, {"public_key": _public(KEY)}]},
    ):
        room = _room(version, **content)
        assert_verdict(room, _invite(room, {"signed": _signed()}), {1: ""})


@EVERY
def test_the_inviter_needs_no_power_and_no_membership(version: RoomVersion) -> None:
    """5.3.1: the identity server's word stands in for the inviter's power at that time."""
    room = _room(version)
    room.member(BOB, "leave")
    assert_verdict(room, _invite(room, {"signed": _signed()}), {1: ""})


@EVERY
def test_the_banned_are_not_invited(version: RoomVersion) -> None:
    """5.3.1.1: the target is not banned."""
    room = _room(version)
    room.member(ALICE, "ban", CHARLIE)
    assert_verdict(room, _invite(room, {"signed": _signed()}), _clause(1))


@EVERY
@pytest.mark.parametrize("invite", [None, 1, "x", [], {}, {"signed": None}, {"signed": []}])
def test_signed_is_there(version: RoomVersion, invite: Any) -> None:
    """5.3.1.2: third_party_invite has `signed`."""
    room = _room(version)
    assert_verdict(room, _invite(room, invite), _clause(2))


@EVERY
@pytest.mark.parametrize("signed", [{}, {"mxid": CHARLIE}, {"token": "t"}, {"mxid": 1, "token": "t"}])
def test_signed_names_user_and_token(version: RoomVersion, signed: dict[str, Any]) -> None:
    """5.3.1.3: `signed` has mxid and token."""
    room = _room(version)
    assert_verdict(room, _invite(room, {"signed": signed}), _clause(3))


@EVERY
def test_signed_is_for_the_target(version: RoomVersion) -> None:
    """5.3.1.4: mxid is the state_key."""
    room = _room(version)
    assert_verdict(room, _invite(room, {"signed": _signed()}, target="@eve:e.example"), _clause(4))


@EVERY
def test_the_token_is_known(version: RoomVersion) -> None:
    """5.3.1.5: the room has an m.room.third_party_invite with the token."""
    room = _room(version)
    assert_verdict(room, _invite(room, {"signed": _signed(token="other")}), _clause(5))


@EVERY
def test_the_inviter_is_who_asked_for_it(version: RoomVersion) -> None:
    """5.3.1.6: the sender is the sender of the m.room.third_party_invite."""
    room = _room(version)
    assert_verdict(room, _invite(room, {"signed": _signed()}, sender=ALICE), _clause(6))


@EVERY
def test_other_signatures_count_for_nothing(version: RoomVersion) -> None:
    """5.3.1.8: without a signature by one of the keys, reject, however the signatures are garbled."""
    good = _signed()
    room = _room(version)
    signature = good["signatures"]["is.example"]["ed25519:0"]
    odd: list[Any] = [None, [], {}, {"is": None}, *({"is": {"ed25519:0": text}} for text in (5, "&&", "AAAA", "ß"))]
    wrong = [{"is": {"rsa:0": signature}}, _signed(OTHER_KEY)["signatures"], _signed(token="u")["signatures"]]
    for signatures in odd + wrong:
        assert_verdict(room, _invite(room, {"signed": good | {"signatures": signatures}}), _clause(8))
    keys: list[Any] = [{"public_key": 1}, {"public_key": "ß"}, {"public_key": "AAAA"}, {"public_keys": {}}]
    for content in keys:
        room = _room(version, **content)
        assert_verdict(room, _invite(room, {"signed": good}), _clause(8))


def test_piles_of_signatures_cost_little() -> None:
    """The work for one invite is bounded, however many signatures and keys are piled up in the events."""
    signature = encode_base64(b"s" * 64)
    pile = {f"ed25519:{i}": encode_base64(i.to_bytes(64)) for i in range(500)} | {"ed25519:x": signature}
    room = _room(VERSIONS[-1], public_keys=[{"public_key": encode_base64(i.to_bytes(32))} for i in range(1, 900)])
    event = _invite(room, {"signed": _signed() | {"signatures": {"is.example": pile}}})
    start = time.process_time()
    assert_verdict(room, event, _clause(8))
    assert time.process_time() - start < 0.5


@EVERY
def test_asking_for_an_invite_takes_the_invite_level(version: RoomVersion) -> None:
    """7.1: m.room.third_party_invite is allowed from the invite level on, whatever state events require."""
    room = Room.with_members(version, BOB, CHARLIE, levels={BOB: 10, CHARLIE: 9})
    room.power_levels(ALICE, invite=10)
    assert_verdict(room, room.make("m.room.third_party_invite", BOB, {}, "@token"), {1: ""})
    refused = {1: "7.1", 6: "6.1", 12: "7.1"}
    assert_verdict(room, room.make("m.room.third_party_invite", CHARLIE, {}, "token"), refused)
