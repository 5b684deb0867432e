"""Patterns of required state: parsing, matching, covering, and being stored."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.client_api.sliding_sync_request import parse_sliding_request
from homeserver.protocol.errors import MatrixError
from homeserver.sync.client_events import Reader
from homeserver.sync.sliding.required_state import RequiredState, required_state

READER = Reader("@me:here.example", 1, "DEVICE")
types = st.sampled_from(["m.room.member", "m.room.name", "x"])
names = st.sampled_from(["", "@me:here.example", "@you:here.example"])
keys = st.tuples(st.none() | types, st.none() | names)
required = st.builds(
    lambda include, exclude, lazy: required_state(include, frozenset(exclude), lazy=lazy),
    st.lists(keys, max_size=4),
    st.lists(keys, max_size=2),
    st.booleans(),
)


def parse(value: Any) -> RequiredState:
    body = {"lists": {"a": {"timeline_limit": 1, "required_state": value}}}
    return parse_sliding_request(READER, body, pos=None, timeout_ms=None).lists["a"].config.required


@given(st.lists(keys, max_size=4), st.lists(keys, max_size=2), types, names)
def test_what_is_included_and_not_excluded_matches(
    include: list[Any], exclude: list[Any], type: str, state_key: str
) -> None:
    """Matching is what the words say, however the patterns are kept."""

    def matches(patterns: list[Any]) -> bool:
        return any(one[0] in (None, type) and one[1] in (None, state_key) for one in patterns)

    wanted = matches(include) and not matches(exclude)
    assert required_state(include, frozenset(exclude)).matches((type, state_key)) is wanted


@given(required, required, types, names)
def test_covering_is_having_all_that_matches(one: RequiredState, other: RequiredState, type: str, name: str) -> None:
    """Where one covers the other, everything that the other matches, it matches; a union covers both."""
    if one.covers(other) and other.matches((type, name)):
        assert one.matches((type, name))
    union = one.union(other)
    assert union.covers(one)
    assert union.covers(other)
    assert union.matches((type, name)) is (one.matches((type, name)) or other.matches((type, name)))


@given(required)
def test_it_survives_being_stored(one: RequiredState) -> None:
    """What is read back is equal, and hashes equal."""
    again = RequiredState.from_json(orjson.loads(orjson.dumps(one.json())))
    assert again == one
    assert hash(again) == hash(one)


def test_the_older_form_means_the_same_as_the_newer() -> None:
    """`*`, `$ME` and `$LAZY` as absent fields, the user's id and `lazy_members`."""
    older = [["*", "*"], ["m.room.member", "$LAZY"], ["m.room.member", "$ME"], ["m.space.child", "*"]]
    newer = {
        "include": [{}, {"type": "m.room.member", "state_key": READER.user_id}, {"type": "m.space.child"}],
        "lazy_members": True,
    }
    assert parse(older) == parse(newer)
    assert parse(older).matches(("m.room.member", READER.user_id))
    assert not parse(older).matches(("m.room.member", "@you:here.example"))
    assert parse(None) == parse([]) == parse({}) == RequiredState()


@pytest.mark.parametrize(
    "value",
    ["x", 1, True, [1], [["a"]], [["a", 1]], [["a", "b", "c"]], {"include": {}}, {"include": ["a"]},
     {"lazy_members": 1}, {"exclude": [{"type": 1}]}, [["a\0", ""]], [["a", "b"]] * 501],
)  # fmt: skip
def test_what_is_neither_is_refused(value: Any) -> None:
    """Anything of another shape is an error that says so."""
    with pytest.raises(MatrixError) as error:
        parse(value)
    assert error.value.status == 400
