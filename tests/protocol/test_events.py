"""The format of PDUs, version by version.  # spec: rooms/v1#event-format … rooms/v12#event-format"""

from __future__ import annotations

import contextlib
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.canonical_json import JsonObject, encode_canonical_json
from homeserver.protocol.errors import InvalidEvent
from homeserver.protocol.events import EventTooLarge, parse_event
from homeserver.protocol.hashing import event_id_of
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion

HASH = "a" * 43
ALL = list(ROOM_VERSIONS)
CHOSEN = ["1", "2"]
TOLERANT = ["1", "2", "3", "4", "5"]
STRICT = [number for number in ALL if number not in TOLERANT]


def pdu_for(version: str, **changes: Any) -> JsonObject:
    """A valid PDU of that room version, with changes; a change to None removes the key."""
    old = version in CHOSEN
    pdu: JsonObject = {
        "type": "m.room.message",
        "sender": "@alice:example.org",
        "room_id": "!" + HASH if version == "12" else "!room:example.org",
        "content": {"body": "Hello"},
        "depth": 5,
        "origin_server_ts": 1_700_000_000_000,
        "prev_events": [["$p:example.org", {"sha256": HASH}]] if old else ["$" + "p" * 43],
        "auth_events": [["$q:example.org", {"sha256": HASH}]] if old else ["$" + "q" * 43],
        "hashes": {"sha256": HASH},
        "signatures": {"example.org": {"ed25519:1": "x"}},
    }
    if old:
        pdu["event_id"] = "$e:example.org"
    pdu.update(changes)
    return {key: value for key, value in pdu.items() if value is not None}


def refuse(version: str, **changes: Any) -> None:
    """Asserts that the PDU with these changes is refused."""
    with pytest.raises(InvalidEvent):
        parse_event(pdu_for(version, **changes), ROOM_VERSIONS[version])


@pytest.mark.parametrize("version", ALL)
def test_valid_event(version: str) -> None:
    """A valid PDU becomes an event with all its fields."""
    pdu = pdu_for(version, state_key="")
    event = parse_event(pdu, ROOM_VERSIONS[version])
    assert event.json == pdu
    assert event.event_id == event_id_of(pdu, ROOM_VERSIONS[version])
    assert (event.type, event.sender, event.room_id) == ("m.room.message", "@alice:example.org", pdu["room_id"])
    assert (event.depth, event.origin_server_ts, event.content) == (5, 1_700_000_000_000, {"body": "Hello"})
    assert event.key == ("m.room.message", "")
    assert event.is_state
    assert event.prev_events == (("$p:example.org",) if version in CHOSEN else ("$" + "p" * 43,))
    assert event.auth_events == (("$q:example.org",) if version in CHOSEN else ("$" + "q" * 43,))


@pytest.mark.parametrize(("version", "key"), [(version, key) for version in ALL for key in pdu_for(version)])
def test_required_keys(version: str, key: str) -> None:
    """Every key of the format is required, with its type and no other."""
    refuse(version, **{key: None})
    for value in ("x", True, 1.5, ["x"], {"x": "x"}):
        if type(value) is not type(pdu_for(version)[key]):
            refuse(version, **{key: value})
    with pytest.raises(InvalidEvent):
        parse_event({**pdu_for(version), key: None}, ROOM_VERSIONS[version])


@pytest.mark.parametrize("version", ALL)
def test_what_others_say_is_dropped(version: str) -> None:
    """`unsigned` never comes in, nor from room version 3 on does an event_id; the caller's object stays whole."""
    pdu = pdu_for(version, unsigned={"age": 5, "f": 0.5}, event_id="$claimed:example.org")
    before = deepcopy(pdu)
    event = parse_event(pdu, ROOM_VERSIONS[version])
    assert pdu == before
    assert "unsigned" not in event.json
    assert ("event_id" in event.json) is (version in CHOSEN)
    assert (event.event_id == "$claimed:example.org") is (version in CHOSEN)


@pytest.mark.parametrize("version", ALL)
def test_optional_keys(version: str) -> None:
    """state_key is a string where it is; redacts is one up to room version 10, and nobody's business after."""
    not_strings: list[Any] = [5, [], {}, True]
    for value in not_strings:
        refuse(version, state_key=value)
    with pytest.raises(InvalidEvent):
        parse_event({**pdu_for(version), "state_key": None}, ROOM_VERSIONS[version])
    if int(version) <= 10:
        refuse(version, redacts=5)
    else:
        parse_event(pdu_for(version, redacts=5), ROOM_VERSIONS[version])
    parse_event(pdu_for(version, redacts="$x", prev_state=[], anything={"a": [1]}), ROOM_VERSIONS[version])


@pytest.mark.parametrize("version", ALL)
def test_depth_and_integers(version: str) -> None:
    """Up to room version 5 integers may have 63 bits and floats pass; from 6 on they are canonical."""
    room_version = ROOM_VERSIONS[version]
    largest = 2**63 - 1 if version in TOLERANT else 2**53 - 1
    assert parse_event(pdu_for(version, depth=largest), room_version).depth == largest
    assert parse_event(pdu_for(version, depth=0), room_version).depth == 0
    refuse(version, depth=largest + 1)
    refuse(version, depth=-1)
    refuse(version, origin_server_ts=2**63)
    for value in (0.5, 2**53, -(2**53), 2**70):
        if version in TOLERANT:
            parse_event(pdu_for(version, content={"a": [value]}), room_version)
        else:
            refuse(version, content={"a": [value]})
    refuse(version, content={"a": float("nan")})
    refuse(version, content={"a": "\ud800"})


@pytest.mark.parametrize("version", ALL)
def test_reference_limits(version: str) -> None:
    """At most 20 prev_events and 10 auth_events."""
    one: Any = ["$p:example.org", {"sha256": HASH}] if version in CHOSEN else "$" + "p" * 43
    parse_event(pdu_for(version, prev_events=[one] * 20, auth_events=[one] * 10), ROOM_VERSIONS[version])
    refuse(version, prev_events=[one] * 21)
    refuse(version, auth_events=[one] * 11)


@pytest.mark.parametrize("version", ALL)
def test_reference_forms(version: str) -> None:
    """Events are cited with a hash in room versions 1 and 2, by id alone later, never the other way."""
    wrong: list[Any] = [5, None, [], {}, ["$p:a"], ["$p:a", "x"], ["$p:a", {}, {}], "p", ""]
    wrong.append("$p" if version in CHOSEN else ["$p:example.org", {"sha256": HASH}])
    for reference in wrong:
        refuse(version, prev_events=[reference])
        refuse(version, auth_events=[reference])
    refuse(version, prev_events=["$" + "p" * 255])


@pytest.mark.parametrize("version", ALL)
def test_key_sizes_are_bytes(version: str) -> None:
    """type, state_key, sender, room_id and event_id have at most 255 bytes, not characters."""
    room_version = ROOM_VERSIONS[version]
    parse_event(pdu_for(version, type="é" * 127 + "x", state_key="é" * 127 + "x"), room_version)
    too_long: JsonObject = {"type": "é" * 128, "state_key": "é" * 128, "sender": "@" + "é" * 127 + ":b"}
    if version != "12":
        too_long["room_id"] = "!" + "é" * 127 + ":b"
    if version in CHOSEN:
        too_long["event_id"] = "$" + "é" * 127 + ":b"
    for key, value in too_long.items():
        with pytest.raises(EventTooLarge):
            parse_event(pdu_for(version, **{key: value}), room_version)


@pytest.mark.parametrize("version", ALL)
def test_event_size(version: str) -> None:
    """65,536 bytes of Canonical JSON with signatures and without unsigned are allowed, one more is not."""
    room_version = ROOM_VERSIONS[version]
    missing = 65536 - len(encode_canonical_json(pdu_for(version, content={"body": ""})))
    event = parse_event(pdu_for(version, content={"body": "x" * missing}, unsigned={"x": "x" * 100}), room_version)
    assert len(encode_canonical_json(event.json)) == 65536
    with pytest.raises(EventTooLarge):
        parse_event(pdu_for(version, content={"body": "x" * (missing + 1)}), room_version)


@pytest.mark.parametrize("version", ALL)
def test_members_are_users(version: str) -> None:
    """A member event's state_key is a user id; a missing one is for the authorization rules to refuse."""
    room_version = ROOM_VERSIONS[version]
    member = {"type": "m.room.member", "content": {"membership": "join"}}
    assert parse_event(pdu_for(version, **member, state_key="@é:b"), room_version).membership == "join"
    parse_event(pdu_for(version, **member), room_version)
    for state_key in ("", "alice", "@alice", "@alice:", "@a:b c", "#a:b"):
        refuse(version, **member, state_key=state_key)
    parse_event(pdu_for(version, state_key="alice"), room_version)


def test_v12_rooms_are_named_by_their_create_event() -> None:
    """In room version 12 the create event has no room id but makes it, others have a hash; nobody cites create."""
    version = ROOM_VERSIONS["12"]
    create = {"type": "m.room.create", "state_key": "", "prev_events": [], "auth_events": []}
    event = parse_event(pdu_for("12", **create, room_id=None), version)
    assert event.room_id == "!" + event.event_id[1:]
    refuse("12", **create)
    refuse("12", **create, room_id="!room:example.org")
    refuse("12", room_id=None)
    refuse("12", room_id="!room:example.org")
    refuse("12", auth_events=["$" + "q" * 43, "$" + HASH])
    for number in ALL[:-1]:
        refuse(number, room_id="!" + HASH)


@pytest.mark.parametrize("version", ALL)
def test_hashes_and_signatures(version: str) -> None:
    """hashes has a sha256 string; signatures is an object of objects of strings."""
    for hashes in ({}, {"sha256": 5}, {"md5": "x"}):
        refuse(version, hashes=hashes)
    not_signatures: list[Any] = ["b", {"b": 5}, None, []]
    for by_server in not_signatures:
        refuse(version, signatures={"example.org": by_server})
    parse_event(pdu_for(version, signatures={}, hashes={"sha256": "", "sha3": 5}), ROOM_VERSIONS[version])


@pytest.mark.parametrize("version", ["1", "12"])
def test_deep_events(version: str) -> None:
    """Nesting without end is a malformed event, not a crash."""
    content: JsonObject = {}
    for _ in range(5000):
        content = {"a": content}
    refuse(version, content=content)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=10)
    | st.sampled_from(["@a:b", "!a:b", "$a:b", "m.room.member", "m.room.create", "!" + HASH, 2**53, 2**63]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
any_keys = st.sampled_from([*sorted(pdu_for("1")), "state_key", "redacts", "unsigned", "membership"])


@given(
    st.sampled_from(ALL),
    st.dictionaries(any_keys, json_values, max_size=4),
    st.lists(any_keys, max_size=2),
    st.sampled_from(["m.room.message", "m.room.member", "m.room.create"]),
)
def test_mutated_events_raise_only_invalid_event(
    number: str, changes: JsonObject, removed: list[str], event_type: str
) -> None:
    """Whatever is done to a valid PDU, it is either an event or InvalidEvent."""
    pdu = {**pdu_for(number, type=event_type), **changes}
    for key in removed:
        pdu.pop(key, None)
    check_parses_or_refuses(pdu, ROOM_VERSIONS[number])


@given(st.sampled_from(ALL), json_values)
def test_any_json_raises_only_invalid_event(number: str, value: Any) -> None:
    """Any JSON value whatever is either an event or InvalidEvent."""
    check_parses_or_refuses(value, ROOM_VERSIONS[number])


def check_parses_or_refuses(value: Any, room_version: RoomVersion) -> None:
    """Asserts that parsing gives an event that reads the same again, or raises InvalidEvent."""
    with contextlib.suppress(InvalidEvent):
        event = parse_event(value, room_version)
        again = parse_event(event.json, room_version)
        assert (again.event_id, again.room_id) == (event.event_id, event.room_id)
        assert event.json == {key: value[key] for key in event.json}
