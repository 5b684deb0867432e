"""Keys and signatures.  # spec: appendices/#signing-json  appendices/#cryptographic-test-vectors"""

from __future__ import annotations

import contextlib
from copy import deepcopy
from typing import Any

import pytest
import signedjson.key
import signedjson.sign
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.canonical_json import MAX_SAFE_INTEGER, JsonObject
from homeserver.protocol.errors import InvalidEvent, InvalidSignature
from homeserver.protocol.events import Event
from homeserver.protocol.hashing import content_hash
from homeserver.protocol.redaction import redact
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.protocol.signing import (
    SigningKey,
    check_event_signature,
    check_signed_json,
    format_signing_key,
    generate_signing_key,
    parse_signing_key,
    parse_verify_key,
    required_signers,
    sign_event,
    sign_json,
)

SEED = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"
KEY = parse_signing_key("ed25519 1 " + SEED)
REFERENCE_KEY = signedjson.key.decode_signing_key_base64("ed25519", "1", SEED)
ALL = list(ROOM_VERSIONS)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=8).filter(lambda key: key != "signatures"), json_values, max_size=4)


def event_for(version: str, **changes: Any) -> Event:
    """An event whose format nobody checked, signed by "domain"."""
    pdu = {
        "type": "m.room.message",
        "sender": "@a:domain",
        "room_id": "!r:domain",
        "content": {"body": "hello"},
        "depth": 3,
        "origin_server_ts": 1_000_000,
        "prev_events": [],
        "auth_events": [],
    } | changes
    pdu["hashes"] = {"sha256": content_hash(pdu, ROOM_VERSIONS[version])}
    pdu = sign_event(pdu, ROOM_VERSIONS[version], "domain", KEY)
    return Event(pdu, ROOM_VERSIONS[version], changes.get("event_id", "$" + "e" * 43))


@pytest.mark.parametrize(
    ("obj", "signature"),
    [
        ({}, "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"),
        (
            {"one": 1, "two": "Two"},
            "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
        ),
    ],
)
def test_spec_json_vectors(obj: JsonObject, signature: str) -> None:
    """The specification's signed JSON objects come out as it says."""
    signed = sign_json(obj, "domain", KEY)
    assert signed == {**obj, "signatures": {"domain": {"ed25519:1": signature}}}
    check_signed_json(signed, "domain", "ed25519:1", KEY.verify_key)


MINIMAL_EVENT = {
    "room_id": "!x:domain",
    "sender": "@a:domain",
    "origin": "domain",
    "origin_server_ts": 1000000,
    "signatures": {},
    "hashes": {},
    "type": "X",
    "content": {},
    "prev_events": [],
    "auth_events": [],
    "depth": 3,
    "unsigned": {"age_ts": 1000000},
}
REDACTABLE_EVENT = {
    "content": {"body": "Here is the message content"},
    "event_id": "$0:domain",
    "origin": "domain",
    "origin_server_ts": 1000000,
    "type": "m.room.message",
    "room_id": "!r:domain",
    "sender": "@u:domain",
    "signatures": {},
    "unsigned": {"age_ts": 1000000},
}


@pytest.mark.parametrize(
    ("pdu", "sha256", "signature"),
    [
        (
            MINIMAL_EVENT,
            "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos",
            "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg",
        ),
        (
            REDACTABLE_EVENT,
            "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g",
            "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA",
        ),
    ],
)
def test_spec_event_vectors(pdu: JsonObject, sha256: str, signature: str) -> None:
    """The specification's signed events come out as it says, hash and signature."""
    version = ROOM_VERSIONS["1"]
    hashed = {**pdu, "hashes": {"sha256": content_hash(pdu, version)}}
    signed = sign_event(hashed, version, "domain", KEY)
    expected = {**pdu, "hashes": {"sha256": sha256}, "signatures": {"domain": {"ed25519:1": signature}}}
    assert signed == expected


@given(objects)
def test_equals_the_reference(obj: JsonObject) -> None:
    """Signatures equal those of the reference implementation, and each accepts the other's."""
    ours = sign_json(obj, "example.org", KEY)
    theirs = signedjson.sign.sign_json(deepcopy(obj), "example.org", REFERENCE_KEY)
    assert ours == theirs
    check_signed_json(theirs, "example.org", KEY.key_id, KEY.verify_key)
    signedjson.sign.verify_signed_json(ours, "example.org", signedjson.key.get_verify_key(REFERENCE_KEY))


@given(objects, objects)
def test_unsigned_and_other_signatures_stay(obj: JsonObject, unsigned: JsonObject) -> None:
    """Signing adds a signature, changes nothing else, and covers neither unsigned nor other signatures."""
    other = SigningKey("other", b"\1" * 32)
    obj = {**obj, "unsigned": unsigned}
    before = deepcopy(obj)
    once = sign_json(obj, "a.example", KEY)
    twice = sign_json(sign_json(once, "a.example", other), "b.example", KEY)
    assert obj == before
    assert twice["unsigned"] == unsigned
    assert set(twice["signatures"]["a.example"]) == {KEY.key_id, other.key_id}
    check_signed_json(twice, "a.example", KEY.key_id, KEY.verify_key)
    check_signed_json(twice, "a.example", other.key_id, other.verify_key)
    check_signed_json({**twice, "unsigned": {}}, "b.example", KEY.key_id, KEY.verify_key)
    with pytest.raises(InvalidSignature):
        check_signed_json({**twice, "added": 1}, "a.example", KEY.key_id, KEY.verify_key)


SIGNED = sign_json({"a": 1}, "s", KEY)
SIGNATURE = SIGNED["signatures"]["s"]["ed25519:1"]


@pytest.mark.parametrize(
    "signatures",
    [
        None, 5, [], {}, {"s": None}, {"s": []}, {"s": {}}, {"s": {"ed25519:1": None}}, {"s": {"ed25519:1": ""}},
        {"s": {"ed25519:1": "!"}}, {"s": {"ed25519:1": "AAAA"}}, {"s": {"ed25519:1": SIGNATURE + "AAAA"}},
        {"s": {"ed25519:1": "A" * 86}}, {"s": {"ed25519:2": SIGNATURE}}, {"t": {"ed25519:1": SIGNATURE}},
        {"s": {"ed25519:1": "é" * 86}},
    ],
)  # fmt: skip
def test_bad_signatures(signatures: Any) -> None:
    """Whatever stands where a signature should, only a valid one passes."""
    with pytest.raises(InvalidSignature):
        check_signed_json({"a": 1, "signatures": signatures}, "s", "ed25519:1", KEY.verify_key)


@given(json_values | st.fixed_dictionaries({"s": json_values | st.dictionaries(st.just("ed25519:1"), json_values)}))
def test_any_signatures_raise_only_invalid_signature(signatures: Any) -> None:
    """No value of `signatures` makes the check raise anything else."""
    with contextlib.suppress(InvalidSignature):
        check_signed_json({"signatures": signatures}, "s", "ed25519:1", KEY.verify_key)


def test_padding_and_other_algorithms() -> None:
    """Padded signatures verify; algorithms other than ed25519 do not count; what can't be encoded isn't signed."""
    padded = {**SIGNED, "signatures": {"s": {"ed25519:1": SIGNATURE + "==", "rsa:1": SIGNATURE}}}
    check_signed_json(padded, "s", "ed25519:1", KEY.verify_key)
    with pytest.raises(InvalidSignature):
        check_signed_json(padded, "s", "rsa:1", KEY.verify_key)
    with pytest.raises(InvalidSignature):
        check_signed_json({**SIGNED, "b": float("nan")}, "s", "ed25519:1", KEY.verify_key)


def test_old_events_in_requests() -> None:
    """A request that carries an event with floats can be signed."""
    signed = sign_json({"content": {"pdus": [{"content": {"x": 0.5}}]}}, "s", KEY)
    check_signed_json(signed, "s", KEY.key_id, KEY.verify_key)


@pytest.mark.parametrize("version", ALL)
def test_event_signature_survives_redaction(version: str) -> None:
    """A signature covers the redacted event: it holds for the full and the redacted copy, and binds what is kept."""
    event = event_for(version)
    check_event_signature(event, "domain", KEY.key_id, KEY.verify_key)
    redacted = Event(redact(event.json, event.room_version), event.room_version, event.event_id)
    check_event_signature(redacted, "domain", KEY.key_id, KEY.verify_key)
    forged = Event({**event.json, "sender": "@b:domain"}, event.room_version, event.event_id)
    with pytest.raises(InvalidSignature):
        check_event_signature(forged, "domain", KEY.key_id, KEY.verify_key)
    with pytest.raises(InvalidSignature):
        check_event_signature(event, "elsewhere", KEY.key_id, KEY.verify_key)
    with pytest.raises(InvalidSignature):
        check_event_signature(event, "domain", KEY.key_id, generate_signing_key().verify_key)


def test_events_without_canonical_form() -> None:
    """An event that can't be encoded is neither signed nor found signed."""
    pdu = {**event_for("11").json, "depth": 0.5}
    with pytest.raises(InvalidEvent):
        sign_event(pdu, ROOM_VERSIONS["11"], "domain", KEY)
    with pytest.raises(InvalidSignature):
        check_event_signature(Event(pdu, ROOM_VERSIONS["11"], "$e"), "domain", KEY.key_id, KEY.verify_key)


@pytest.mark.parametrize("version", ALL)
def test_required_signers(version: str) -> None:
    """The sender's server signs; in room versions 1 and 2 also that of the event id, if it is another."""
    own = event_for(version, event_id="$e:domain")
    assert required_signers(own) == {"domain"}
    other = event_for(version, event_id="$e:other:80")
    assert required_signers(other) == ({"domain", "other:80"} if version in ("1", "2") else {"domain"})


@pytest.mark.parametrize("version", ALL)
def test_third_party_invites_need_no_sender(version: str) -> None:
    """The sender's server needn't sign an invite that redeems a third-party invite, but any other member event."""
    member = {"type": "m.room.member", "state_key": "@b:other", "event_id": "$e:other"}
    extra = {"other"} if version in ("1", "2") else set()
    invite = {"signed": {"mxid": "@b:other", "token": "t"}}
    event = event_for(version, **member, content={"membership": "invite", "third_party_invite": invite})
    assert required_signers(event) == extra
    for content in (
        {"membership": "join", "third_party_invite": invite},
        {"membership": "invite"},
        {"membership": "invite", "third_party_invite": {}},
        {"membership": "invite", "third_party_invite": None},
        {"membership": [], "third_party_invite": invite},
    ):
        assert required_signers(event_for(version, **member, content=content)) == {"domain"} | extra
    message = event_for(version, event_id="$e:other", content={"membership": "invite", "third_party_invite": invite})
    assert required_signers(message) == {"domain"} | extra


@pytest.mark.parametrize("version", ALL)
def test_authorising_server_signs(version: str) -> None:
    """From room version 8 on the server of join_authorised_via_users_server signs; it must be one."""
    member = {"type": "m.room.member", "state_key": "@a:domain"}
    key = "join_authorised_via_users_server"
    event = event_for(version, **member, content={"membership": "join", key: "@b:other"}, event_id="$e:domain")
    assert required_signers(event) == ({"domain", "other"} if int(version) >= 8 else {"domain"})
    message = event_for(version, content={key: "@b:other"}, event_id="$e:domain")
    assert required_signers(message) == {"domain"}
    if int(version) >= 8:
        not_users: list[Any] = [None, "", "@b", 5, {}]
        for value in not_users:
            with pytest.raises(InvalidSignature):
                required_signers(event_for(version, **member, content={"membership": "join", key: value}))


def test_keys_round_trip() -> None:
    """A generated key is read back from its line, and nobody sees its secret by accident."""
    key = generate_signing_key()
    line = format_signing_key(key)
    again = parse_signing_key(line)
    assert (again.key_id, again.seed_base64, again.verify_key_base64) == (
        key.key_id,
        key.seed_base64,
        key.verify_key_base64,
    )
    assert line == f"ed25519 {key.version} {key.seed_base64}\n"
    assert key.seed_base64 not in repr(key)
    assert generate_signing_key().key_id != key.key_id
    assert again.verify_key == parse_verify_key(key.verify_key_base64) == parse_verify_key(key.verify_key_base64 + "=")
    reference = signedjson.key.read_signing_keys([line])[0]
    assert signedjson.key.encode_verify_key_base64(signedjson.key.get_verify_key(reference)) == key.verify_key_base64


@pytest.mark.parametrize(
    "text",
    [
        "", "ed25519", "ed25519 1", "rsa 1 " + SEED, "ed25519 a:b " + SEED, "ed25519 1 AAAA", "ed25519 1 ???",
        f"ed25519 1 {SEED} x",
    ],
)  # fmt: skip
def test_bad_signing_keys(text: str) -> None:
    """A malformed key line is refused without repeating the secret."""
    with pytest.raises(ValueError, match=r".*") as caught:
        parse_signing_key(text)
    assert SEED not in str(caught.value)


@pytest.mark.parametrize("text", ["", "AAAA", "?", "é", SEED + "AAAA"])
def test_bad_verify_keys(text: str) -> None:
    """A malformed public key is an InvalidSignature."""
    with pytest.raises(InvalidSignature):
        parse_verify_key(text)
