"""Canonical JSON and the bounds of what is decoded.  # spec: appendices/#canonical-json"""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import canonicaljson
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.canonical_json import (
    MAX_DECODED_DEPTH,
    MAX_ENCODED_DEPTH,
    MAX_SAFE_INTEGER,
    decode_json,
    encode_canonical_json,
    encode_json,
)
from homeserver.protocol.errors import InvalidEvent, NotJson

scalars = (
    st.none() | st.booleans() | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER) | st.text(st.characters(codec="utf-8"))
)
canonical_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=5)
    ),
    max_leaves=20,
)
tolerated_values = st.recursive(
    scalars | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=5)
    ),
    max_leaves=20,
)

SPEC_EXAMPLES = [
    ("{}", "{}"),
    ('{"one": 1, "two": "Two"}', '{"one":1,"two":"Two"}'),
    ('{"b": "2", "a": "1"}', '{"a":"1","b":"2"}'),
    ('{"b":"2","a":"1"}', '{"a":"1","b":"2"}'),
    (
        """{"auth": {"success": true, "mxid": "@john.doe:example.com", "profile": {"display_name": "John Doe",
        "three_pids": [{"medium": "email", "address": "john.doe@example.org"},
                       {"medium": "msisdn", "address": "123456789"}]}}}""",
        '{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":'
        '[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},'
        '"success":true}}',
    ),
    ('{"a": "日本語"}', '{"a":"日本語"}'),
    ('{"本": 2, "日": 1}', '{"日":1,"本":2}'),
    (r'{"a": "\u65E5"}', '{"a":"日"}'),
    ('{"a": null}', '{"a":null}'),
    ('{"a": -0, "b": 10000000000}', '{"a":0,"b":10000000000}'),
]


def nested(levels: int) -> Any:
    """A list `levels` deep."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(("text", "canonical"), SPEC_EXAMPLES)
def test_spec_examples(text: str, canonical: str) -> None:
    """The specification's examples come out as it says."""
    assert encode_canonical_json(decode_json(text)) == canonical.encode()


@given(canonical_values)
def test_equals_the_reference(value: Any) -> None:
    """Every canonical value has the very bytes of the reference implementation, strict or not."""
    expected = canonicaljson.encode_canonical_json(value)
    assert encode_canonical_json(value) == expected
    assert encode_canonical_json(value, strict=False) == expected


@given(tolerated_values)
def test_tolerant_form_equals_the_reference(value: Any) -> None:
    """Floats and long integers, as rooms of versions 1 to 5 have them, are written as the reference code does."""
    expected = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    assert encode_canonical_json(value, strict=False) == expected
    assert encode_canonical_json(decode_json(expected), strict=False) == expected


@given(canonical_values)
def test_round_trip(value: Any) -> None:
    """What was encoded, canonically or not, decodes to the same value."""
    assert decode_json(encode_canonical_json(value)) == value
    assert decode_json(encode_json(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        1.0, 1e10, math.nan, math.inf, {"a": [{"b": 0.5}]}, MAX_SAFE_INTEGER + 1, -MAX_SAFE_INTEGER - 1, 2**64,
        [2**53], {1: 2}, {"a": {None: 1}}, "\ud800", {"\udfff": 1}, b"bytes", {"a": {1, 2}}, object(),
    ],
)  # fmt: skip
def test_strict_refuses(value: Any) -> None:
    """Whatever Canonical JSON can't express is refused, at any depth."""
    with pytest.raises(InvalidEvent):
        encode_canonical_json(value)


@pytest.mark.parametrize("value", [math.nan, [math.inf], {1: 0.5}, {"a": {1: 2}}, "\ud800", [0.5, "\ud800"], b"x"])
def test_tolerant_refuses_what_is_not_json(value: Any) -> None:
    """Tolerance ends where JSON does."""
    with pytest.raises(InvalidEvent):
        encode_canonical_json(value, strict=False)


@pytest.mark.parametrize("integer", [MAX_SAFE_INTEGER, -MAX_SAFE_INTEGER])
def test_largest_integers(integer: int) -> None:
    """The range of integers includes its ends."""
    assert encode_canonical_json([integer]) == b"[%d]" % integer


@pytest.mark.parametrize("strict", [True, False])
def test_encoding_depth(strict: bool) -> None:
    """Nesting is bounded on encoding too: no recursion error, however deep, with floats or without."""
    assert encode_canonical_json(nested(MAX_ENCODED_DEPTH), strict=strict) == b"[" * 240 + b"]" * 240
    with pytest.raises(InvalidEvent):
        encode_canonical_json(nested(MAX_ENCODED_DEPTH + 1), strict=strict)
    with pytest.raises(InvalidEvent):
        encode_canonical_json([0.5, nested(5000)], strict=strict)


def test_decoding_depth() -> None:
    """Text is decoded down to the cap, wherever its brackets stand, and not a level further."""
    cap = MAX_DECODED_DEPTH
    assert decode_json("[" * cap + "]" * cap) == nested(cap)
    for levels in (cap + 1, 1000, 100_000):
        with pytest.raises(NotJson):
            decode_json("[" * levels + "]" * levels)
        with pytest.raises(NotJson):
            decode_json('{"a":' * levels + "1" + "}" * levels)
    assert len(decode_json("[" + "[]," * 1000 + "[]]")) == 1001
    assert decode_json('"' + "[{" * 1000 + '"') == "[{" * 1000


@pytest.mark.parametrize(
    "text",
    [
        b"", b"nul", b"NaN", b"[Infinity]", b"-Infinity", b"1e400", b"{'a':1}", b"[1,]", b"\xff", b'"\xed\xa0\x80"',
        rb'"\ud800"', "\ud800", b"\xef\xbb\xbf{}", b"[" + b"9" * 5000 + b",NaN]", b"9" * 5000, b'{"a":1}{',
    ],
)  # fmt: skip
def test_not_json(text: bytes | str) -> None:
    """Anything but JSON is refused with M_NOT_JSON."""
    with pytest.raises(NotJson) as caught:
        decode_json(text)
    assert caught.value.errcode == "M_NOT_JSON"


@given(st.binary() | st.text(st.characters(exclude_categories=())))
def test_decoding_raises_nothing_else(data: bytes | str) -> None:
    """No input makes the decoder raise anything but NotJson."""
    with contextlib.suppress(NotJson):
        decode_json(data)


@pytest.mark.parametrize("integer", [2**63, 2**64, -(2**63) - 1, 10**40])
def test_long_integers_stay_exact(integer: int) -> None:
    """Integers beyond 64 bits come in and go out exactly, as hashes of old rooms need it."""
    assert decode_json(f'{{"a":[{integer}]}}') == {"a": [integer]}
    assert encode_json([integer]) == b"[%d]" % integer
    assert encode_json([integer, orjson.Fragment(b'{"a":"x"}')]) == b'[%d,{"a":"x"}]' % integer
