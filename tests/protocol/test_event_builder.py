"""Events made here are what other servers demand.  # spec: server-server-api/#signing-events"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.canonical_json import MAX_SAFE_INTEGER, JsonObject, encode_canonical_json
from homeserver.protocol.errors import InvalidEvent
from homeserver.protocol.event_builder import build_event, build_template, complete_template
from homeserver.protocol.events import Event, EventTooLarge, parse_event
from homeserver.protocol.hashing import check_content_hash, event_id_of
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.protocol.signing import SigningKey, check_event_signature

KEY = SigningKey("a_test", b"\7" * 32)
SERVER = "example.org"
ALL = list(ROOM_VERSIONS)
CHOSEN = ["1", "2"]
HASHES = {"$p:example.org": "p" * 43, "$q:example.org": "q" * 43}


def arguments(version: str, **changes: Any) -> dict[str, Any]:
    """Arguments of `build_template` for an ordinary message."""
    return {
        "room_version": ROOM_VERSIONS[version],
        "room_id": "!" + "a" * 43 if version == "12" else "!room:example.org",
        "type": "m.room.message",
        "sender": "@alice:example.org",
        "content": {"body": "Hello"},
        "prev_events": ["$p:example.org"] if version in CHOSEN else ["$" + "p" * 43],
        "auth_events": ["$q:example.org"] if version in CHOSEN else ["$" + "q" * 43],
        "depth": 7,
        "origin_server_ts": 1_700_000_000_000,
        "reference_hashes": HASHES if version in CHOSEN else None,
        **changes,
    }


def build(version: str, **changes: Any) -> Event:
    """An ordinary message event."""
    return build_event(**arguments(version, **changes), server_name=SERVER, signing_key=KEY)


def check_acceptable(event: Event) -> None:
    """Asserts that another server takes the event as it is."""
    received = parse_event({**event.json, "unsigned": {"age": 1}}, event.room_version)
    assert received.event_id == event.event_id == event_id_of(event.json, event.room_version)
    assert received.json == event.json
    check_event_signature(received, SERVER, KEY.key_id, KEY.verify_key)
    assert check_content_hash(received.json, received.room_version)


@pytest.mark.parametrize("version", ALL)
def test_built_events_are_accepted(version: str) -> None:
    """What is built for each room version passes all that a receiving server checks, and says what was asked."""
    event = build(version, state_key="")
    check_acceptable(event)
    expected = arguments(version)
    for name in ("room_id", "type", "sender", "content", "depth", "origin_server_ts"):
        assert getattr(event, name) == expected[name]
    assert event.state_key == ""
    assert event.prev_events == tuple(expected["prev_events"])
    assert event.auth_events == tuple(expected["auth_events"])
    assert "state_key" not in build(version).json
    assert "unsigned" not in event.json


@pytest.mark.parametrize("version", CHOSEN)
def test_chosen_event_ids(version: str) -> None:
    """Room versions 1 and 2: a fresh id on this server, references with their hashes, none without."""
    event = build(version)
    assert event.event_id == event.json["event_id"]
    assert event.event_id.endswith(":" + SERVER)
    assert build(version).event_id != event.event_id
    assert event.json["prev_events"] == [["$p:example.org", {"sha256": "p" * 43}]]
    with pytest.raises(KeyError):
        build(version, prev_events=["$unknown:example.org"])


@pytest.mark.parametrize("version", ALL[2:])
def test_computed_event_ids(version: str) -> None:
    """From room version 3 on the same event has the same id, and the PDU none."""
    event = build(version)
    assert "event_id" not in event.json
    assert build(version).event_id == event.event_id
    assert build(version, depth=8).event_id != event.event_id


@pytest.mark.parametrize("version", ALL)
def test_redacts(version: str) -> None:
    """`redacts` stands at the top up to room version 10 and in content from 11 on; the caller's content stays."""
    content = {"reason": "spam"}
    event = build(version, type="m.room.redaction", content=content, redacts="$x")
    check_acceptable(event)
    assert event.redacts == "$x"
    assert content == {"reason": "spam"}
    assert ("redacts" in event.json) is (int(version) <= 10)
    assert ("redacts" in event.content) is (int(version) >= 11)


@pytest.mark.parametrize("version", ALL)
def test_depth_is_capped(version: str) -> None:
    """Depth stops at the largest that the room version allows."""
    largest = 2**63 - 1 if int(version) <= 5 else MAX_SAFE_INTEGER
    event = build(version, depth=2**70)
    assert event.depth == largest
    check_acceptable(event)


def test_create_event_of_v12() -> None:
    """In room version 12 the create event has no room id, and only it."""
    create = {"type": "m.room.create", "state_key": "", "prev_events": [], "auth_events": []}
    event = build("12", **create, room_id=None)
    check_acceptable(event)
    assert "room_id" not in event.json
    assert event.room_id == "!" + event.event_id[1:]
    with pytest.raises(InvalidEvent):
        build("12", **create)
    with pytest.raises(InvalidEvent):
        build("12", room_id=None)
    with pytest.raises(InvalidEvent):
        build("11", **create, room_id=None)


@pytest.mark.parametrize("version", ALL)
def test_size_is_that_of_the_signed_event(version: str) -> None:
    """An event may fill 65,536 bytes with its hashes and signatures, to the byte."""
    missing = 65536 - len(encode_canonical_json(build(version, content={"body": ""}).json))
    event = build(version, content={"body": "x" * missing})
    assert len(encode_canonical_json(event.json)) == 65536
    check_acceptable(event)
    with pytest.raises(EventTooLarge):
        build(version, content={"body": "x" * (missing + 1)})


@pytest.mark.parametrize(
    "changes",
    [
        {"content": {"x": 0.5}}, {"content": {"x": 2**53}}, {"content": {"x": "\ud800"}}, {"content": {1: 2}},
        {"content": []}, {"type": "x" * 256}, {"state_key": "é" * 128}, {"sender": "alice"}, {"room_id": "room"},
        {"type": "m.room.member", "state_key": "alice"}, {"prev_events": ["$x"] * 21}, {"auth_events": ["$x"] * 11},
        {"depth": -1}, {"depth": 0.5}, {"origin_server_ts": 2**53},
    ],
)  # fmt: skip
def test_unacceptable_events_are_not_built(changes: dict[str, Any]) -> None:
    """What other servers would refuse is refused here, before it is signed."""
    with pytest.raises(InvalidEvent):
        build("11", **changes)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(ALL),
    st.sampled_from(["m.room.message", "m.room.power_levels", "m.room.redaction", "é"]),
    st.dictionaries(st.text(max_size=5), json_values, max_size=4),
    st.none() | st.text(max_size=20),
)
def test_any_content(version: str, event_type: str, content: JsonObject, state_key: str | None) -> None:
    """Events of any content are built such that other servers accept them."""
    check_acceptable(build(version, type=event_type, content=content, state_key=state_key))


@pytest.mark.parametrize("version", ALL)
def test_templates_round_trip(version: str) -> None:
    """A template of one server, completed by another, is an event of the latter that all accept."""
    member = {"type": "m.room.member", "state_key": "@alice:example.org", "content": {"membership": "join"}}
    template = build_template(**arguments(version, **member))
    assert not {"hashes", "signatures", "event_id", "unsigned"} & set(template)
    before = deepcopy(template)
    event = complete_template(template, ROOM_VERSIONS[version], SERVER, KEY)
    assert template == before
    check_acceptable(event)
    assert event.membership == "join"
    if version not in CHOSEN:
        assert event.json == build(version, **member).json


@pytest.mark.parametrize("version", ALL)
def test_templates_bring_nothing_along(version: str) -> None:
    """Hashes, signatures, ids and unknown keys of a foreign template are not taken over."""
    foreign = {
        "event_id": "$chosen:elsewhere", "hashes": {"sha256": "x"}, "signatures": {"elsewhere": {"ed25519:1": "x"}},
        "unsigned": {"age": 1}, "origin": "elsewhere", "membership": "ban", "surprise": 0.5,
    }  # fmt: skip
    template = {**build_template(**arguments(version)), **foreign}
    event = complete_template(template, ROOM_VERSIONS[version], SERVER, KEY)
    check_acceptable(event)
    assert set(event.json["signatures"]) == {SERVER}
    assert not {"unsigned", "origin", "membership", "surprise"} & set(event.json)
    assert event.event_id != "$chosen:elsewhere"


@given(
    st.sampled_from(ALL),
    st.dictionaries(st.sampled_from(sorted(build_template(**arguments("11", state_key="")))), json_values, max_size=3),
    json_values,
)
def test_hostile_templates(version: str, changes: JsonObject, anything: Any) -> None:
    """A template from another server becomes an acceptable event or InvalidEvent, whatever it holds."""
    for template in ({**build_template(**arguments(version)), **changes}, anything):
        try:
            event = complete_template(template, ROOM_VERSIONS[version], SERVER, KEY)
        except InvalidEvent:
            continue
        check_acceptable(event)
