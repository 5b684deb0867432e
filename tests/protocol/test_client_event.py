"""The client format of events.  # spec: client-server-api/#room-event-format"""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.protocol.client_event import client_event, stripped_state_event
from homeserver.protocol.events import Event
from homeserver.protocol.room_versions import ROOM_VERSIONS


def make_event(version: str = "11", **fields: Any) -> Event:
    json = {
        "type": "m.room.message",
        "room_id": "!room:example.org",
        "sender": "@alice:example.org",
        "content": {"body": "hello"},
        "depth": 3,
        "origin_server_ts": 1_700_000_000_000,
        "prev_events": ["$one"],
        "auth_events": ["$two"],
        "hashes": {"sha256": "…"},
        "signatures": {"example.org": {"ed25519:1": "…"}},
        "unsigned": {"age": 1, "redacted_because": {"forged": True}},
        **fields,
    }
    return Event(json, ROOM_VERSIONS[version], "$event")


def test_gives_clients_the_fields_of_the_client_format_alone() -> None:
    """Hashes, signatures, depth, references and the sender's own `unsigned` stay with the servers."""
    assert client_event(make_event()) == {
        "content": {"body": "hello"},
        "event_id": "$event",
        "origin_server_ts": 1_700_000_000_000,
        "room_id": "!room:example.org",
        "sender": "@alice:example.org",
        "type": "m.room.message",
    }


def test_room_id_is_left_out_where_the_response_implies_it() -> None:
    """/sync names the room once, around its events."""
    assert "room_id" not in client_event(make_event(), include_room_id=False)


def test_unsigned_is_what_this_server_says() -> None:
    """`unsigned` is given by the caller, and only if there is one."""
    assert client_event(make_event(), unsigned={"age": 5})["unsigned"] == {"age": 5}


def test_state_events_have_their_state_key_even_if_it_is_empty() -> None:
    """`state_key` is present if and only if the event is a state event."""
    assert client_event(make_event(type="m.room.name", state_key=""))["state_key"] == ""
    assert "state_key" not in client_event(make_event())


def test_a_create_event_of_version_12_gets_its_room_id() -> None:
    """The PDU of a version 12 create event has no room_id; clients still need one."""
    event = make_event("12", type="m.room.create", state_key="")
    bare = {key: value for key, value in event.json.items() if key != "room_id"}
    assert client_event(Event(bare, event.room_version, "$hash"))["room_id"] == "!hash"


@pytest.mark.parametrize("version", ROOM_VERSIONS)
def test_redactions_name_their_target_in_both_places(version: str) -> None:
    """`redacts` is at the top level for older clients and in the content for newer ones, in every room version."""
    in_content = ROOM_VERSIONS[version].redacts_in_content
    content = {"reason": "spam", **({"redacts": "$target"} if in_content else {})}
    top: dict[str, Any] = {} if in_content else {"redacts": "$target"}
    if version in ("1", "2"):
        top |= {"prev_events": [["$one", {}]], "auth_events": [["$two", {}]]}
    event = make_event(version, type="m.room.redaction", content=content, **top)
    shown = client_event(event)
    assert shown["redacts"] == "$target"
    assert shown["content"] == {"reason": "spam", "redacts": "$target"}
    assert event.content == content, "the stored event is left alone"


@pytest.mark.parametrize(
    ("version", "content", "top"),
    [
        ("10", {"redacts": "$forged"}, {"redacts": "$target"}),
        ("11", {"redacts": "$target"}, {"redacts": "$forged"}),
    ],
)
def test_only_the_place_that_the_room_version_signs_counts(version: str, content: Any, top: Any) -> None:
    """A sender can't show clients another target than the one that servers redact."""
    shown = client_event(make_event(version, type="m.room.redaction", content=content, **top))
    assert shown["redacts"] == shown["content"]["redacts"] == "$target"


def test_a_redaction_without_a_target_is_shown_without_one() -> None:
    """A redacted redaction of an old room version has lost its target; nothing is made up."""
    assert "redacts" not in client_event(make_event("10", type="m.room.redaction", content={}))


def test_stripped_state_has_four_fields() -> None:
    """Stripped state events can only have the sender, type, state_key and content."""
    event = make_event(type="m.room.name", state_key="", content={"name": "Tea"})
    assert stripped_state_event(event) == {
        "content": {"name": "Tea"},
        "sender": "@alice:example.org",
        "state_key": "",
        "type": "m.room.name",
    }
