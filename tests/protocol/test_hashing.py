"""Content hashes, reference hashes, event ids.  # spec: server-server-api/#signing-events"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import canonicaljson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.canonical_json import MAX_SAFE_INTEGER, JsonObject
from homeserver.protocol.errors import InvalidEvent
from homeserver.protocol.hashing import (
    check_content_hash,
    content_hash,
    decode_base64,
    encode_base64,
    encode_urlsafe_base64,
    event_id_of,
    reference_hash,
)
from homeserver.protocol.redaction import redact
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=8), json_values, max_size=4)
pdus = st.builds(
    lambda fixed, content, extra: {**extra, **fixed, "content": content},
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["m.room.message", "m.room.member", "m.room.create", "m.room.power_levels"]),
            "sender": st.just("@alice:example.org"),
            "depth": st.integers(0, 1000),
            "origin_server_ts": st.integers(0, MAX_SAFE_INTEGER),
            "prev_events": st.just([]),
            "auth_events": st.just([]),
        }
    ),
    objects,
    objects,
)
versions = st.sampled_from(list(ROOM_VERSIONS.values()))
hash_versions = st.sampled_from([version for number, version in ROOM_VERSIONS.items() if int(number) >= 3])


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"", ""), (b"f", "Zg"), (b"fo", "Zm8"), (b"foo", "Zm9v"), (b"foob", "Zm9vYg"), (b"fooba", "Zm9vYmE")],
)
def test_base64_examples(data: bytes, text: str) -> None:
    """The specification's examples of unpadded Base64, read with and without padding."""
    assert encode_base64(data) == text
    assert decode_base64(text) == data
    assert decode_base64(text + "=" * (-len(text) % 4)) == data


@given(st.binary())
def test_base64_round_trip(data: bytes) -> None:
    """Both alphabets are read back, padded or not."""
    assert decode_base64(encode_base64(data)) == data
    assert decode_base64(encode_urlsafe_base64(data)) == data
    assert decode_base64(base64.b64encode(data).decode()) == data
    assert encode_urlsafe_base64(data) == base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.mark.parametrize("text", ["a", "a b", "Zg\n", "é", "Z=g", "====a", "Zm9vYg.."])
def test_not_base64(text: str) -> None:
    """Anything else is refused rather than skipped over."""
    with pytest.raises(ValueError, match=r".*"):
        decode_base64(text)


@given(pdus, versions, objects, objects)
def test_content_hash(pdu: JsonObject, version: RoomVersion, unsigned: JsonObject, signatures: JsonObject) -> None:
    """The content hash covers everything but unsigned, signatures and hashes."""
    expected = {key: value for key, value in pdu.items() if key not in ("unsigned", "signatures", "hashes")}
    digest = hashlib.sha256(canonicaljson.encode_canonical_json(expected)).digest()
    claimed = content_hash(pdu, version)
    assert claimed == base64.b64encode(digest).decode().rstrip("=")
    received = {**pdu, "unsigned": unsigned, "signatures": signatures, "hashes": {"sha256": claimed}}
    assert check_content_hash(received, version)
    assert check_content_hash({**received, "hashes": {"sha256": claimed + "="}}, version)
    assert not check_content_hash({**received, "depth": pdu["depth"] + 1}, version)


@given(pdus, json_values | st.fixed_dictionaries({"sha256": json_values}))
def test_false_content_hash(pdu: JsonObject, hashes: Any) -> None:
    """No value of `hashes` but the right one is taken, and none raises."""
    assert not check_content_hash({**pdu, "hashes": hashes}, ROOM_VERSIONS["11"])


@given(pdus, versions)
def test_reference_hash(pdu: JsonObject, version: RoomVersion) -> None:
    """The reference hash covers the redacted event without its signatures."""
    covered = redact(pdu, version)
    covered.pop("signatures", None)
    assert reference_hash(pdu, version) == hashlib.sha256(canonicaljson.encode_canonical_json(covered)).digest()


@given(pdus, hash_versions, objects, objects)
def test_event_id_is_invariant(pdu: JsonObject, version: RoomVersion, unsigned: JsonObject, signatures: Any) -> None:
    """From room version 3 on redaction, signatures and unsigned leave the event id as it is."""
    event_id = event_id_of(pdu, version)
    assert event_id_of(redact(pdu, version), version) == event_id
    assert event_id_of({**pdu, "signatures": signatures, "unsigned": unsigned}, version) == event_id
    assert event_id_of({**pdu, "hashes": {"sha256": "other"}}, version) != event_id
    assert len(event_id) == 44
    assert event_id[0] == "$"


def test_event_id_alphabets() -> None:
    """Room versions 1 and 2 carry the id, 3 uses standard Base64, 4 on the URL-safe one."""
    pdu = {"type": "m.room.message", "event_id": "$1:example.org", "content": {}}
    assert event_id_of(pdu, ROOM_VERSIONS["1"]) == event_id_of(pdu, ROOM_VERSIONS["2"]) == "$1:example.org"
    # Chosen so that the hash has both characters that differ.
    depth = next(depth for depth in range(1000) if {"+", "/"} <= set(event_id_of({"depth": depth}, ROOM_VERSIONS["3"])))
    standard = event_id_of({"depth": depth}, ROOM_VERSIONS["3"])
    for number in range(4, 13):
        urlsafe = event_id_of({"depth": depth}, ROOM_VERSIONS[str(number)])
        assert urlsafe == standard.replace("+", "-").replace("/", "_")


def test_floats() -> None:
    """An event with floats can be hashed in rooms up to version 5, and not after."""
    pdu = {"type": "m.room.message", "content": {"x": 0.5}}
    digest = hashlib.sha256(b'{"content":{"x":0.5},"type":"m.room.message"}').digest()
    assert content_hash(pdu, ROOM_VERSIONS["5"]) == encode_base64(digest)
    with pytest.raises(InvalidEvent):
        content_hash(pdu, ROOM_VERSIONS["6"])
