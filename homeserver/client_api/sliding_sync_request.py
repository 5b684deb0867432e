"""The body of a sliding sync request, checked.

Two dialects are understood: that of the proposal (simplified sliding sync, MSC4186), and the older one that clients
speak today, with `ranges` beside `range`, `is_invite` beside `is_invited`, `pos` and `timeout` in the query string, and
`required_state` as pairs of a type and a state key: `*` for anything, `$ME` for the user's own id and `$LAZY` for
members as they are needed. In the newer one it has what to include, what to exclude of that, and whether members are
lazy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from homeserver.http.bodies import (
    array,
    array_of_objects,
    array_of_strings,
    boolean,
    checked_text,
    integer,
    json_object,
    string,
)
from homeserver.protocol.canonical_json import MAX_SAFE_INTEGER
from homeserver.protocol.errors import BadJson, InvalidParam
from homeserver.protocol.events import JsonObject
from homeserver.sync.client_events import Reader
from homeserver.sync.sliding.request import ExtensionConfig, ListConfig, RoomConfig, RoomFilter, SlidingRequest
from homeserver.sync.sliding.required_state import Key, RequiredState, required_state

_MOST_LISTS = 100
_MOST_SUBSCRIPTIONS = 100
_MOST_RANGES = 20
_MOST_IN_FILTER = 500
_MOST_PATTERNS = 500  # of one list or subscription
_MOST_EXCLUDED = 50  # of those
# Of all lists and subscriptions together: patterns, those that don't name a key whole, and those that every piece of
# state has to be held against.
_MOST_TOGETHER = (2_000, 200, 50)
_LONGEST_TIMELINE = 100  # events; who asks for more gets that many

# spec: appendices/#opaque-identifiers
_OPAQUE = re.compile(r"[0-9A-Za-z._~-]{1,255}", re.ASCII)

_EXTENSION_NAMES: Mapping[str, str] = {
    "to_device": "to_device",
    "e2ee": "e2ee",
    "account_data": "account_data",
    "receipts": "receipts",
    "typing": "typing",
    "thread_subscriptions": "thread_subscriptions",
    "io.element.msc4308.thread_subscriptions": "thread_subscriptions",
}
"""What clients call extensions -> what they are."""


def parse_sliding_request(
    reader: Reader, body: JsonObject, *, pos: str | None, timeout_ms: int | None
) -> SlidingRequest:
    """The request with this body; `pos` and `timeout_ms` are those of the query string.

    :raises BadJson, InvalidParam, MissingParam: naming the field
    """
    if pos is None:
        pos = string(body, "pos", max_length=255)
    if timeout_ms is None:
        timeout_ms = integer(body, "timeout", minimum=0) or 0
    lists = _objects(body, "lists", _MOST_LISTS)
    for name in lists:
        if _OPAQUE.fullmatch(name) is None:
            raise InvalidParam("lists: a list's key must be an opaque identifier")
    subscriptions = _objects(body, "room_subscriptions", _MOST_SUBSCRIPTIONS)
    request = SlidingRequest(
        reader=reader,
        conn_id=string(body, "conn_id", max_length=255) or "",
        pos=pos or None,
        timeout=timeout_ms / 1000,
        lists={name: _parse_list(json, reader.user_id) for name, json in lists.items()},
        subscriptions={
            checked_text("room_subscriptions", room_id): _parse_config(json, reader.user_id)
            for room_id, json in subscriptions.items()
        },
        extensions=_parse_extensions(body),
    )
    _check_together(request)
    return request


def _check_together(request: SlidingRequest) -> None:
    configs = [*(each.config for each in request.lists.values()), *request.subscriptions.values()]
    distinct = {config.required for config in configs}
    for most, count in zip(
        _MOST_TOGETHER,
        (
            sum(len(required.patterns) for required in distinct),
            sum(len(required.broad) for required in distinct),
            sum(len(required.others) for required in distinct),
        ),
        strict=True,
    ):
        if count > most:
            raise InvalidParam(f"required_state is too long: {count} items of a kind of which there may be {most}")


def _objects(body: JsonObject, key: str, most: int) -> dict[str, JsonObject]:
    value = json_object(body, key) or {}
    if len(value) > most:
        raise InvalidParam(f"{key} has more than {most} entries")
    if not all(isinstance(each, dict) for each in value.values()):
        raise BadJson(f"{key} must have objects as values")
    return value


def _parse_config(json: JsonObject, user_id: str) -> RoomConfig:
    limit = integer(json, "timeline_limit", required=True, minimum=0)
    return RoomConfig(min(limit, _LONGEST_TIMELINE), _parse_required_state(json.get("required_state"), user_id))


def _parse_required_state(value: Any, user_id: str) -> RequiredState:
    """The `required_state` of a list or subscription, in either form; nothing if it is not there.

    :raises BadJson: if it is neither
    :raises InvalidParam: if there is too much of it
    """
    if value is None:
        return RequiredState()
    if isinstance(value, list):
        return _parse_pairs(value, user_id)
    if isinstance(value, dict):
        return _parse_request(value)
    raise BadJson("required_state must be an array or an object")


def _parse_pairs(pairs: list[Any], user_id: str) -> RequiredState:
    if len(pairs) > _MOST_PATTERNS:
        raise InvalidParam(f"required_state has more than {_MOST_PATTERNS} items")
    include: set[Key] = set()
    lazy = False
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise BadJson("required_state must have pairs of an event type and a state key")
        type, key = (checked_text("required_state", part) for part in pair)
        if (type, key) == ("m.room.member", "$LAZY"):
            lazy = True
            continue
        key = user_id if key == "$ME" else key
        include.add((None if type == "*" else type, None if key == "*" else key))
    return required_state(include, lazy=lazy)


def _parse_request(request: JsonObject) -> RequiredState:
    include, exclude = (
        {_parse_element(element) for element in array_of_objects(request, name, max_items=most)}
        for name, most in (("include", _MOST_PATTERNS), ("exclude", _MOST_EXCLUDED))
    )
    return required_state(include, exclude, lazy=boolean(request, "lazy_members", default=False))


def _parse_element(element: JsonObject) -> Key:
    return string(element, "type"), string(element, "state_key")


def _parse_list(json: JsonObject, user_id: str) -> ListConfig:
    ranges: tuple[tuple[int, int], ...] | None = None
    if json.get("range") is not None:
        ranges = (_parse_range(json["range"]),)
    elif json.get("ranges") is not None:
        ranges = tuple(_parse_range(each) for each in array(json, "ranges", required=True, max_items=_MOST_RANGES))
    return ListConfig(_parse_config(json, user_id), ranges, _parse_filter(json_object(json, "filters") or {}))


def _parse_range(value: Any) -> tuple[int, int]:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(isinstance(index, int) and not isinstance(index, bool) for index in value)
    ):
        raise BadJson("A range must be an array of two integers")
    first, last = value
    if not 0 <= first <= last <= MAX_SAFE_INTEGER:
        raise InvalidParam("A range must go from a smaller index to a larger one, none of them negative")
    return first, last


def _parse_filter(json: JsonObject) -> RoomFilter:
    is_invited = boolean(json, "is_invited")
    return RoomFilter(
        is_dm=boolean(json, "is_dm"),
        is_encrypted=boolean(json, "is_encrypted"),
        is_invited=boolean(json, "is_invite") if is_invited is None else is_invited,
        spaces=_strings(json, "spaces"),
        room_types=_types(json, "room_types"),
        not_room_types=_types(json, "not_room_types") or frozenset(),
        tags=_strings(json, "tags"),
        not_tags=_strings(json, "not_tags") or frozenset(),
    )


def _strings(json: JsonObject, key: str) -> frozenset[str] | None:
    value = array_of_strings(json, key, max_items=_MOST_IN_FILTER)
    return None if value is None else frozenset(value)


def _types(json: JsonObject, key: str) -> frozenset[str | None] | None:
    value = array(json, key, max_items=_MOST_IN_FILTER)
    if value is None:
        return None
    if not all(each is None or isinstance(each, str) for each in value):
        raise BadJson(f"{key} must be an array of strings and nulls")
    return frozenset(value)


def _parse_extensions(body: JsonObject) -> dict[str, ExtensionConfig]:
    found: dict[str, ExtensionConfig] = {}
    for name, json in (json_object(body, "extensions") or {}).items():
        if name not in _EXTENSION_NAMES or json is None:
            continue
        if not isinstance(json, dict):
            raise BadJson(f"extensions.{name} must be an object")
        if boolean(json, "enabled", default=False):
            found[_EXTENSION_NAMES[name]] = ExtensionConfig(
                name=name,
                limit=integer(json, "limit", minimum=1),
                since=string(json, "since", max_length=255),
                lists=_strings(json, "lists"),
                rooms=_strings(json, "rooms"),
            )
    return found
