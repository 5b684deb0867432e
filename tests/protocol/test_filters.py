"""Filters.  # spec: client-server-api/#filtering"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.errors import BadJson, InvalidParam, MatrixError
from homeserver.protocol.filters import (
    DEFAULT_FILTER,
    MAX_LIMIT,
    MAX_LIST_LENGTH,
    EventFilter,
    apply_event_fields,
    field_tree,
    parse_filter,
    parse_room_event_filter,
    split_path,
)

EVENT: dict[str, Any] = {"type": "m.room.message", "sender": "@alice:example.org", "contains_url": False}
FIELDS = [
    "event_fields",
    "event_format",
    "presence",
    "account_data",
    "room",
    "rooms",
    "not_rooms",
    "include_leave",
    "ephemeral",
    "state",
    "timeline",
    "limit",
    "types",
    "not_types",
    "senders",
    "not_senders",
    "contains_url",
    "lazy_load_members",
    "include_redundant_members",
    "unread_thread_notifications",
    "related_by_rel_types",
    "related_by_senders",
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["!r", "@u", "client"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), inner),
    max_leaves=25,
)


def test_the_filter_of_the_specification_is_read_whole() -> None:
    """Each field of the specification's example ends up where it belongs."""
    parsed = parse_filter(
        {
            "room": {
                "rooms": ["!a:example.com"],
                "not_rooms": ["!b:example.com"],
                "include_leave": True,
                "state": {"types": ["m.room.*"], "not_rooms": ["!726s6s6q:example.com"], "lazy_load_members": True},
                "timeline": {"limit": 20, "types": ["m.room.message"], "not_senders": ["@spam:example.com"]},
                "ephemeral": {"types": ["m.receipt", "m.typing"]},
                "account_data": {"not_types": ["m.tag"]},
            },
            "presence": {"types": ["m.presence"], "not_senders": ["@alice:example.com"]},
            "account_data": {"limit": 5},
            "event_format": "federation",
            "event_fields": ["type", "content", "sender"],
        }
    )
    assert parsed.rooms == ("!a:example.com",)
    assert parsed.not_rooms == ("!b:example.com",)
    assert parsed.include_leave
    assert parsed.state == EventFilter(
        types=("m.room.*",), not_rooms=("!726s6s6q:example.com",), lazy_load_members=True
    )
    assert parsed.timeline == EventFilter(limit=20, types=("m.room.message",), not_senders=("@spam:example.com",))
    assert parsed.ephemeral == EventFilter(types=("m.receipt", "m.typing"))
    assert parsed.room_account_data == EventFilter(not_types=("m.tag",))
    assert parsed.presence == EventFilter(types=("m.presence",), not_senders=("@alice:example.com",))
    assert parsed.account_data == EventFilter(limit=5)
    assert parsed.event_format == "federation"
    assert parsed.event_fields == {"type": None, "content": None, "sender": None}


def test_an_empty_filter_is_the_default_one() -> None:
    """Everything is optional, and unknown fields mean nothing."""
    assert parse_filter({}) == DEFAULT_FILTER == parse_filter({"org.example.new": 1, "room": {"timeline": {}}})


@pytest.mark.parametrize(
    ("json", "error", "name"),
    [
        ([], BadJson, "filter"),
        (None, BadJson, "filter"),
        ({"room": []}, BadJson, "room"),
        ({"room": {"timeline": 1}}, BadJson, "room.timeline"),
        ({"room": {"timeline": {"limit": "10"}}}, BadJson, "room.timeline.limit"),
        ({"room": {"timeline": {"limit": True}}}, BadJson, "room.timeline.limit"),
        ({"room": {"timeline": {"limit": 1.5}}}, BadJson, "room.timeline.limit"),
        ({"room": {"timeline": {"limit": -1}}}, InvalidParam, "room.timeline.limit"),
        ({"room": {"state": {"types": "m.room.member"}}}, BadJson, "room.state.types"),
        ({"room": {"state": {"types": [1]}}}, BadJson, "room.state.types"),
        ({"room": {"state": {"types": None}}}, BadJson, "room.state.types"),
        ({"room": {"state": {"types": ["x" * 256]}}}, InvalidParam, "room.state.types"),
        ({"room": {"state": {"types": ["x"] * (MAX_LIST_LENGTH + 1)}}}, InvalidParam, "room.state.types"),
        ({"room": {"state": {"types": ["\0"]}}}, InvalidParam, "room.state.types"),
        ({"room": {"state": {"lazy_load_members": "yes"}}}, BadJson, "room.state.lazy_load_members"),
        ({"room": {"state": {"contains_url": 1}}}, BadJson, "room.state.contains_url"),
        ({"room": {"rooms": ["#alias:example.org"]}}, InvalidParam, "room.rooms"),
        ({"room": {"include_leave": 0}}, BadJson, "room.include_leave"),
        ({"presence": {"senders": ["alice"]}}, InvalidParam, "presence.senders"),
        ({"event_format": "xml"}, InvalidParam, "event_format"),
        ({"event_format": []}, InvalidParam, "event_format"),
        ({"event_fields": "content"}, BadJson, "event_fields"),
    ],
)
def test_a_refused_filter_is_told_which_field_is_wrong(json: Any, error: type[MatrixError], name: str) -> None:
    """A field of a wrong type or value is a clear error that names it."""
    with pytest.raises(error, match=rf"^{re.escape(name)} "):
        parse_filter(json)


@given(JSON)
def test_arbitrary_json_is_a_filter_or_a_clear_error(json: Any) -> None:
    """No JSON makes parsing fail in any other way than with a MatrixError."""
    with suppress(MatrixError):
        assert parse_filter(json).includes_room("!room") in (True, False)
    with suppress(MatrixError):
        assert parse_room_event_filter(json).matches(**EVENT) in (True, False)


def test_limits_are_capped() -> None:
    """A client gets at most MAX_LIMIT events however many it asks for, and may ask for none."""
    assert parse_room_event_filter({"limit": 10**30}).limit == MAX_LIMIT
    assert parse_room_event_filter({"limit": 0}).limit == 0
    assert parse_room_event_filter({}).limit == 10


@pytest.mark.parametrize(
    ("json", "passes"),
    [
        ({}, True),
        ({"types": ["m.room.message"]}, True),
        ({"types": ["m.room.*"]}, True),
        ({"types": ["*message"]}, True),
        ({"types": ["m.*.message"]}, True),
        ({"types": ["m.room.messag?"]}, False),
        ({"types": []}, False),
        ({"types": ["m.room.*"], "not_types": ["m.room.mess*"]}, False),
        ({"senders": ["@alice:example.org"]}, True),
        ({"senders": ["@bob:example.org"]}, False),
        ({"senders": ["@alice:example.org"], "not_senders": ["@alice:example.org"]}, False),
        ({"rooms": ["!room"]}, True),
        ({"rooms": ["!other"]}, False),
        ({"rooms": ["!room"], "not_rooms": ["!room"]}, False),
        ({"contains_url": True}, False),
        ({"contains_url": False}, True),
    ],
)
def test_an_event_passes_what_includes_it_and_does_not_exclude_it(json: Any, passes: bool) -> None:
    """Absent lists include everything, exclusions win over inclusions, and `*` is the wildcard of types."""
    assert parse_room_event_filter(json).matches(**EVENT, room_id="!room") is passes


def test_rooms_are_included_unless_excluded() -> None:
    """A room that is in both lists of the room filter is excluded."""
    parsed = parse_filter({"room": {"rooms": ["!a", "!b"], "not_rooms": ["!b"]}})
    assert [room for room in ("!a", "!b", "!c") if parsed.includes_room(room)] == ["!a"]


def test_types_become_like_patterns_for_storage() -> None:
    """LIKE's own wildcards in an event type are escaped, and `*` becomes `%`."""
    parsed = parse_room_event_filter({"types": ["m.room.*", r"a_b%c\d", "x**y"], "not_types": ["m.*"]})
    assert parsed.types_like == ("m.room.%", r"a\_b\%c\\d", "x%y")
    assert parsed.not_types_like == ("m.%",)
    assert parse_room_event_filter({}).types_like is None


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("content.body", ["content", "body"]),
        (r"content.m\.relates_to", ["content", "m.relates_to"]),
        (r"content.m\\foo", ["content", "m\\foo"]),
        (r"content.\x", ["content", "\\x"]),
        (r"content.m\\.foo", ["content", "m\\", "foo"]),
        ("", [""]),
        ("content\\", ["content\\"]),
    ],
)
def test_paths_are_split_at_dots_that_are_not_escaped(path: str, names: list[str]) -> None:
    """A backslash makes a dot or a backslash part of the name; other escapes stay as they are."""
    assert split_path(path) == names


@given(st.lists(st.text(alphabet="a.\\", max_size=4), min_size=1, max_size=4))
def test_escaped_names_come_back(names: list[str]) -> None:
    """Escaping every dot and backslash of a name and splitting the path gives the names back."""
    path = ".".join(name.replace("\\", "\\\\").replace(".", "\\.") for name in names)
    assert split_path(path) == names


def test_event_fields_keep_what_they_name_and_leave_the_event_alone() -> None:
    """Paths choose properties at any depth; a path to an object takes all of it, whatever longer paths say."""
    event = {"type": "t", "content": {"body": "b", "m.relates_to": {"rel_type": "r", "event_id": "$e"}}, "sender": "@s"}
    fields = field_tree(["type", r"content.m\.relates_to.rel_type", "content.absent", "nothing.here"])
    assert apply_event_fields(event, fields) == {"type": "t", "content": {"m.relates_to": {"rel_type": "r"}}}
    whole = {"content": event["content"]}
    assert apply_event_fields(event, field_tree(["content.body", "content"])) == whole
    assert apply_event_fields(event, field_tree(["content", "content.body"])) == whole
    assert apply_event_fields(event, None) == event
    assert apply_event_fields(event, field_tree([])) == {}
    assert set(event["content"]) == {"body", "m.relates_to"}
