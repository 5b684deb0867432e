"""JSON in and out: Canonical JSON for whatever is hashed or signed, plain JSON for the rest.

orjson does the work, because a homeserver spends much of its time here; around it stand the checks that it lacks:
floats in Canonical JSON, nesting, and the integers beyond 64 bits that rooms of versions 1 to 5 may contain.

Nesting is bounded once, on the way in. orjson encodes at most 254 levels, so a value that came in with at most
`MAX_DECODED_DEPTH` can always be wrapped (into a request to sign, a sync response) and go out again.

# spec: appendices/#canonical-json
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

import orjson

from homeserver.protocol.errors import InvalidEvent, NotJson

JsonObject: TypeAlias = dict[str, Any]

MAX_SAFE_INTEGER = 2**53 - 1
MAX_DECODED_DEPTH = 200
MAX_ENCODED_DEPTH = 240
_ORJSON_MAX_DEPTH = 254

_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_PLAIN_SCALARS = frozenset({str, int, bool, type(None)})
_CONTAINERS = frozenset({dict, list, tuple})
# -9223372036854775809 is the shortest integer that doesn't fit into 64 bits; orjson would make a float of it.
_ANY_DIGIT_TO_0 = bytes.maketrans(b"123456789", b"0" * 9)
_BIG_INTEGER = b"0" * 19


def encode_canonical_json(value: Any, *, strict: bool = True) -> bytes:
    """The Canonical JSON of a value: shortest UTF-8 form, keys sorted by code point.

    `strict=False` is for room versions 1 to 5 and for signed requests, which may carry events of those: floats and any
    integers pass, written as the specification's reference code writes them.

    :raises InvalidEvent: if the value has no such form: floats or integers beyond ±(2^53-1) where strict, otherwise
        infinities; keys that aren't strings, lone surrogates, more than `MAX_ENCODED_DEPTH` levels

    # spec: appendices/#canonical-json  rooms/v6#canonical-json
    """
    try:
        # orjson refuses long integers, other keys than strings, and surrogates by itself.
        if _is_free_of_floats(value, 0):
            return orjson.dumps(value, option=_CANONICAL)
        if strict:
            raise InvalidEvent("Canonical JSON has no floats")
    except TypeError as error:  # orjson.JSONEncodeError
        if strict:
            raise InvalidEvent(f"Not canonical JSON: {error}") from None
    return _encode_tolerantly(value)


def _is_free_of_floats(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind in _CONTAINERS:
        if depth >= MAX_ENCODED_DEPTH:
            raise InvalidEvent(f"JSON of more than {MAX_ENCODED_DEPTH} levels")
        for item in value.values() if kind is dict else value:
            # Most values are scalars; deciding about them here saves a call for each.
            if type(item) not in _PLAIN_SCALARS and not _is_free_of_floats(item, depth + 1):
                return False
        return True
    if kind in _PLAIN_SCALARS:
        return True
    if kind is float:
        return False
    raise InvalidEvent(f"Not a JSON value: {kind.__name__}")


def _encode_tolerantly(value: Any) -> bytes:
    """The form of json.dumps, which is the specification's reference and differs from orjson's: 1e-07 and 1e-7."""
    _check_keys_and_depth(value, 0)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:  # also UnicodeEncodeError: lone surrogates
        raise InvalidEvent(f"Not canonical JSON: {error}") from None


def _check_keys_and_depth(value: Any, depth: int) -> None:
    if not isinstance(value, dict | list | tuple):
        return
    if depth >= MAX_ENCODED_DEPTH:
        raise InvalidEvent(f"JSON of more than {MAX_ENCODED_DEPTH} levels")
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        raise InvalidEvent("JSON objects have string keys")
    for item in value.values() if isinstance(value, dict) else value:
        _check_keys_and_depth(item, depth + 1)


def encode_json(value: Any) -> bytes:
    """The JSON of a value, for responses and storage: as fast as can be, keys in their order.

    :raises TypeError: for what isn't a JSON value
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        # Old rooms have integers beyond 64 bits.
        dumped = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_fragment_value)
        return dumped.encode()


def _fragment_value(value: Any) -> Any:
    """The value of JSON that a response was to take in as it is."""
    if isinstance(value, orjson.Fragment):
        return json.loads(orjson.dumps(value))
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def decode_json(data: bytes | str) -> Any:
    """The value that JSON text stands for. Of duplicate keys the last one counts.

    :raises NotJson: for anything but RFC 8259 JSON in UTF-8: NaN, infinities, lone surrogates, a byte order mark; and
        for more than `MAX_DECODED_DEPTH` levels
    """
    try:
        raw = data.encode() if isinstance(data, str) else data
        value = orjson.loads(raw)
        # Few texts have more brackets than levels are allowed; only those need a look at how they nest.
        if raw.count(b"{") + raw.count(b"[") > MAX_DECODED_DEPTH:
            _check_decoded_depth(value)
        if _BIG_INTEGER in raw.translate(_ANY_DIGIT_TO_0):
            value = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # also UnicodeEncodeError and orjson.JSONDecodeError
        raise NotJson(f"Not valid JSON: {error}") from None
    return value


def _check_decoded_depth(value: Any) -> None:
    """Lets orjson's own limit measure: as C it is far faster than a walk."""
    wrapped = value
    for _ in range(_ORJSON_MAX_DEPTH - MAX_DECODED_DEPTH):
        wrapped = [wrapped]
    try:
        orjson.dumps(wrapped)
    except TypeError:
        raise ValueError(f"more than {MAX_DECODED_DEPTH} levels") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
