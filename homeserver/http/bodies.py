"""JSON bodies and typed access to their keys.

The accessors refuse what is missing or of another type as the specification says, and strings with a NUL character:
PostgreSQL's text can't hold one, and no field that is read this way has a use for it. What is kept as bytes (the
content of events, account data) is not read this way and may have them.
"""

from __future__ import annotations

from typing import Any, Literal, overload

from homeserver.protocol.canonical_json import MAX_SAFE_INTEGER, decode_json
from homeserver.protocol.errors import BadJson, InvalidParam, MissingParam
from homeserver.protocol.events import JsonObject


def decode_object(raw: bytes) -> JsonObject:
    """The JSON object in a request body.

    :raises NotJson: if it is not JSON in UTF-8, or nested very deeply
    :raises BadJson: if it is no object
    """
    value = decode_json(raw)
    if not isinstance(value, dict):
        raise BadJson("The body is not a JSON object")
    return value


def _value(body: JsonObject, key: str, required: bool) -> Any:
    value = body.get(key)
    # null counts as not given: clients that serialise optional fields send it.
    if value is None and required:
        raise MissingParam(f"{key} is missing")
    return value


@overload
def string(body: JsonObject, key: str, *, required: Literal[True], max_length: int = ...) -> str: ...
@overload
def string(body: JsonObject, key: str, *, required: bool = ..., max_length: int = ...) -> str | None: ...
def string(body: JsonObject, key: str, *, required: bool = False, max_length: int = 65536) -> str | None:
    """`body[key]`, a string of at most `max_length` characters without NUL; None if it is not there.

    :raises MissingParam: if it is required and not there
    :raises BadJson: if it is no string
    :raises InvalidParam: if it is too long or has a NUL character in it
    """
    value = _value(body, key, required)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadJson(f"{key} must be a string")
    return checked_text(key, value, max_length)


def checked_text(name: str, value: str, max_length: int = 65536) -> str:
    """`value`, for a column of type text. Raises InvalidParam if it is too long or has a NUL character in it."""
    if "\0" in value:
        raise InvalidParam(f"{name} has a NUL character in it")
    if len(value) > max_length:
        raise InvalidParam(f"{name} is longer than {max_length} characters")
    return value


@overload
def integer(body: JsonObject, key: str, *, required: Literal[True], minimum: int = ..., maximum: int = ...) -> int: ...
@overload
def integer(
    body: JsonObject, key: str, *, required: bool = ..., minimum: int = ..., maximum: int = ...
) -> int | None: ...
def integer(
    body: JsonObject,
    key: str,
    *,
    required: bool = False,
    minimum: int = -MAX_SAFE_INTEGER,
    maximum: int = MAX_SAFE_INTEGER,
) -> int | None:
    """`body[key]`, an integer from `minimum` to `maximum`; None if it is not there.

    :raises MissingParam: if it is required and not there
    :raises BadJson: if it is no integer
    :raises InvalidParam: if it is out of range
    """
    value = _value(body, key, required)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadJson(f"{key} must be an integer")
    if not minimum <= value <= maximum:
        raise InvalidParam(f"{key} must be from {minimum} to {maximum}")
    return value


@overload
def boolean(body: JsonObject, key: str, *, required: Literal[True]) -> bool: ...
@overload
def boolean(body: JsonObject, key: str, *, required: bool = ..., default: bool) -> bool: ...
@overload
def boolean(body: JsonObject, key: str, *, required: bool = ..., default: None = ...) -> bool | None: ...
def boolean(body: JsonObject, key: str, *, required: bool = False, default: bool | None = None) -> bool | None:
    """`body[key]`, true or false; `default` if it is not there. Raises MissingParam, BadJson."""
    value = _value(body, key, required)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadJson(f"{key} must be true or false")
    return value


@overload
def json_object(body: JsonObject, key: str, *, required: Literal[True]) -> JsonObject: ...
@overload
def json_object(body: JsonObject, key: str, *, required: bool = ...) -> JsonObject | None: ...
def json_object(body: JsonObject, key: str, *, required: bool = False) -> JsonObject | None:
    """`body[key]`, an object; None if it is not there. Raises MissingParam, BadJson."""
    value = _value(body, key, required)
    if value is not None and not isinstance(value, dict):
        raise BadJson(f"{key} must be an object")
    return value


@overload
def array(body: JsonObject, key: str, *, required: Literal[True], max_items: int = ...) -> list[Any]: ...
@overload
def array(body: JsonObject, key: str, *, required: bool = ..., max_items: int = ...) -> list[Any] | None: ...
def array(body: JsonObject, key: str, *, required: bool = False, max_items: int = 10_000) -> list[Any] | None:
    """`body[key]`, an array of at most `max_items`; None if it is not there.

    :raises MissingParam: if it is required and not there
    :raises BadJson: if it is no array
    :raises InvalidParam: if it is too long
    """
    value = _value(body, key, required)
    if value is None:
        return None
    if not isinstance(value, list):
        raise BadJson(f"{key} must be an array")
    if len(value) > max_items:
        raise InvalidParam(f"{key} has more than {max_items} items")
    return value


@overload
def array_of_strings(
    body: JsonObject, key: str, *, required: Literal[True], max_items: int = ..., max_length: int = ...
) -> list[str]: ...
@overload
def array_of_strings(
    body: JsonObject, key: str, *, required: bool = ..., max_items: int = ..., max_length: int = ...
) -> list[str] | None: ...
def array_of_strings(
    body: JsonObject, key: str, *, required: bool = False, max_items: int = 10_000, max_length: int = 65536
) -> list[str] | None:
    """`body[key]`, an array of strings as `string` takes them; None if it is not there."""
    value = array(body, key, required=required, max_items=max_items)
    if value is None:
        return None
    if not all(isinstance(item, str) for item in value):
        raise BadJson(f"{key} must be an array of strings")
    return [checked_text(key, item, max_length) for item in value]


def array_of_objects(body: JsonObject, key: str, *, max_items: int = 10_000) -> list[JsonObject]:
    """`body[key]`, an array of objects; empty if it is not there. Raises BadJson, InvalidParam."""
    value = array(body, key, max_items=max_items) or []
    if not all(isinstance(item, dict) for item in value):
        raise BadJson(f"{key} must be an array of objects")
    return value
