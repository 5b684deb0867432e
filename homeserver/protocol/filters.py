"""Filters of the client-server API: the JSON that a client sends, checked once and compiled to answer quickly.

A `Filter` is a value: the same JSON gives an equal one. Lists stay readable as tuples, so that storage can build SQL of
them; `matches` answers for an event in hand. Every list and string is bounded, because filters are stored and applied
to every event that a client is served.

# spec: client-server-api/#filtering  client-server-api/#post_matrixclientv3useruseridfilter
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from homeserver.protocol.errors import BadJson, InvalidParam
from homeserver.protocol.events import JsonObject
from homeserver.protocol.globs import GlobSet

DEFAULT_LIMIT = 10
MAX_LIMIT = 1000
MAX_LIST_LENGTH = 1000
MAX_STRING_LENGTH = 255

FieldTree: TypeAlias = dict[str, "FieldTree | None"]
"""Which properties to keep: a name leads to the tree of what to keep below it, or to None for all of it."""


class _Listed:
    """A list of what is included (None: everything) and one of what is not, for look-ups."""

    __slots__ = ("_excluded", "_included")

    def __init__(self, included: Iterable[str] | None, excluded: Iterable[str]) -> None:
        self._included = None if included is None else frozenset(included)
        self._excluded = frozenset(excluded)

    def has(self, value: str) -> bool:
        return value not in self._excluded and (self._included is None or value in self._included)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events to give, and how many. A list that is None takes everything; an empty one nothing.

    `limit` lies between 0 and MAX_LIMIT. The `…_like` properties are patterns for SQL's LIKE with `\\` as its escape.
    """

    limit: int = DEFAULT_LIMIT
    types: tuple[str, ...] | None = None
    not_types: tuple[str, ...] = ()
    senders: tuple[str, ...] | None = None
    not_senders: tuple[str, ...] = ()
    rooms: tuple[str, ...] | None = None
    not_rooms: tuple[str, ...] = ()
    contains_url: bool | None = None
    lazy_load_members: bool = False
    include_redundant_members: bool = False
    unread_thread_notifications: bool = False
    related_by_rel_types: tuple[str, ...] | None = None
    related_by_senders: tuple[str, ...] | None = None
    _types: GlobSet | None = field(init=False, repr=False, compare=False)
    _not_types: GlobSet = field(init=False, repr=False, compare=False)
    _senders: _Listed = field(init=False, repr=False, compare=False)
    _rooms: _Listed = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Filters give a meaning to `*` alone: a `?` in an event type is a question mark.
        types = None if self.types is None else GlobSet(self.types, wildcards="*")
        object.__setattr__(self, "_types", types)
        object.__setattr__(self, "_not_types", GlobSet(self.not_types, wildcards="*"))
        object.__setattr__(self, "_senders", _Listed(self.senders, self.not_senders))
        object.__setattr__(self, "_rooms", _Listed(self.rooms, self.not_rooms))

    def matches(self, *, type: str, sender: str, contains_url: bool, room_id: str | None = None) -> bool:
        """Whether an event of that type, sender and room passes.

        `contains_url` says whether its content has the key `url`. Without `room_id` the lists of rooms are not asked.
        The related_by lists need other events than the one in hand and are left to the caller.
        """
        if not self._senders.has(sender):
            return False
        if self._not_types.matches(type) or (self._types is not None and not self._types.matches(type)):
            return False
        if self.contains_url is not None and self.contains_url != contains_url:
            return False
        return room_id is None or self.includes_room(room_id)

    def includes_room(self, room_id: str) -> bool:
        """Whether events of that room can pass."""
        return self._rooms.has(room_id)

    @property
    def types_like(self) -> tuple[str, ...] | None:
        return None if self.types is None else tuple(map(_like, self.types))

    @property
    def not_types_like(self) -> tuple[str, ...]:
        return tuple(map(_like, self.not_types))


@dataclass(frozen=True, slots=True)
class Filter:
    """A whole filter. `event_fields` is None for all fields; `event_format` is "client" or "federation"."""

    event_fields: FieldTree | None = None
    event_format: str = "client"
    presence: EventFilter = EventFilter()
    account_data: EventFilter = EventFilter()
    rooms: tuple[str, ...] | None = None
    not_rooms: tuple[str, ...] = ()
    include_leave: bool = False
    ephemeral: EventFilter = EventFilter()
    state: EventFilter = EventFilter()
    timeline: EventFilter = EventFilter()
    room_account_data: EventFilter = EventFilter()
    _rooms: _Listed = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rooms", _Listed(self.rooms, self.not_rooms))

    def includes_room(self, room_id: str) -> bool:
        """Whether the room takes part at all; asked before the filters of its sections."""
        return self._rooms.has(room_id)


DEFAULT_FILTER = Filter()


def parse_filter(json: Any) -> Filter:
    """The filter that a client sent: to `/user/{userId}/filter`, or as the `filter` parameter of /sync.

    :raises BadJson: if a field has the wrong type; the message names it, e.g. `room.timeline.limit`
    :raises InvalidParam: if a field of the right type holds something that it can't
    # spec: client-server-api/#post_matrixclientv3useruseridfilter
    """
    top = _object(json, "filter")
    room = _object(top.get("room", {}), "room")
    event_format = top.get("event_format", "client")
    if event_format not in ("client", "federation"):
        raise InvalidParam("event_format must be 'client' or 'federation'")
    paths = _strings(top, "event_fields", "event_fields")
    return Filter(
        event_fields=None if paths is None else field_tree(paths),
        event_format=event_format,
        presence=_event_filter(top, "presence", "presence"),
        account_data=_event_filter(top, "account_data", "account_data"),
        rooms=_ids(room, "rooms", "room.rooms", "!"),
        not_rooms=_ids(room, "not_rooms", "room.not_rooms", "!") or (),
        include_leave=_flag(room, "include_leave", "room.include_leave"),
        ephemeral=_event_filter(room, "ephemeral", "room.ephemeral"),
        state=_event_filter(room, "state", "room.state"),
        timeline=_event_filter(room, "timeline", "room.timeline"),
        room_account_data=_event_filter(room, "account_data", "room.account_data"),
    )


def parse_room_event_filter(json: Any) -> EventFilter:
    """A RoomEventFilter on its own: the `filter` parameter of /messages and /context, or the one inside a search.

    :raises BadJson, InvalidParam: as `parse_filter` does
    # spec: client-server-api/#get_matrixclientv3roomsroomidmessages
    """
    return _event_filter({"filter": json}, "filter", "filter")


def field_tree(paths: Iterable[str]) -> FieldTree:
    """The properties that dot-separated paths name.

    # spec: appendices/#dot-separated-property-paths
    """
    tree: FieldTree = {}
    for path in paths:
        names = split_path(path)
        at = tree
        for name in names[:-1]:
            below = at.setdefault(name, {})
            if below is None:  # a shorter path has asked for all of it
                break
            at = below
        else:
            at[names[-1]] = None
    return tree


def split_path(path: str) -> list[str]:
    r"""The property names in a dot-separated path, `\.` and `\\` standing for a dot and a backslash of a name.

    # spec: appendices/#dot-separated-property-paths
    """
    if "\\" not in path:
        return path.split(".")
    names: list[str] = []
    name: list[str] = []
    position = 0
    while position < len(path):
        char = path[position]
        if char == "\\" and path[position + 1 : position + 2] in (".", "\\"):
            position += 1
            name.append(path[position])
        elif char == ".":
            names.append("".join(name))
            name = []
        else:  # other escape sequences are left as they are
            name.append(char)
        position += 1
    names.append("".join(name))
    return names


def apply_event_fields(event_json: JsonObject, fields: FieldTree | None) -> JsonObject:
    """The event with only those properties of it that `fields` names (`Filter.event_fields`); all if it is None.

    The given object is left alone; what is kept whole is shared with it.
    """
    if fields is None:
        return event_json
    kept: JsonObject = {}
    for name, below in fields.items():
        if name not in event_json:
            continue
        value = event_json[name]
        if below is None:
            kept[name] = value
        elif isinstance(value, dict) and (part := apply_event_fields(value, below)):
            kept[name] = part
    return kept


def _event_filter(parent: JsonObject, key: str, path: str) -> EventFilter:
    if key not in parent:
        return EventFilter()
    json = _object(parent[key], path)

    def read(name: str, reader: Callable[..., Any], *more: str) -> Any:
        return reader(json, name, f"{path}.{name}", *more)

    return EventFilter(
        limit=read("limit", _limit),
        types=read("types", _strings),
        not_types=read("not_types", _strings) or (),
        senders=read("senders", _ids, "@"),
        not_senders=read("not_senders", _ids, "@") or (),
        rooms=read("rooms", _ids, "!"),
        not_rooms=read("not_rooms", _ids, "!") or (),
        contains_url=read("contains_url", _flag) if "contains_url" in json else None,
        lazy_load_members=read("lazy_load_members", _flag),
        include_redundant_members=read("include_redundant_members", _flag),
        unread_thread_notifications=read("unread_thread_notifications", _flag),
        related_by_rel_types=read("related_by_rel_types", _strings),
        related_by_senders=read("related_by_senders", _ids, "@"),
    )


def _object(value: Any, path: str) -> JsonObject:
    if not isinstance(value, dict):
        raise BadJson(f"{path} must be an object")
    return value


def _flag(json: JsonObject, key: str, path: str) -> bool:
    value = json.get(key, False)
    if not isinstance(value, bool):
        raise BadJson(f"{path} must be a boolean")
    return value


def _limit(json: JsonObject, key: str, path: str) -> int:
    value = json.get(key, DEFAULT_LIMIT)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadJson(f"{path} must be an integer")
    # The specification asks for more than 0, but clients that want state alone ask for 0 events, and mean it.
    if value < 0:
        raise InvalidParam(f"{path} must not be negative")
    return min(value, MAX_LIMIT)


def _strings(json: JsonObject, key: str, path: str) -> tuple[str, ...] | None:
    value = json.get(key, _ABSENT)
    if value is _ABSENT:
        return None
    if not isinstance(value, list):
        raise BadJson(f"{path} must be a list of strings")
    if len(value) > MAX_LIST_LENGTH:
        raise InvalidParam(f"{path} must not have more than {MAX_LIST_LENGTH} entries")
    for item in value:
        if not isinstance(item, str):
            raise BadJson(f"{path} must be a list of strings")
        if len(item) > MAX_STRING_LENGTH:
            raise InvalidParam(f"{path} must not have entries of more than {MAX_STRING_LENGTH} characters")
        if "\0" in item:  # no stored string has it, and PostgreSQL refuses to compare with it
            raise InvalidParam(f"{path} must not have entries with a null character")
    return tuple(dict.fromkeys(value))


def _ids(json: JsonObject, key: str, path: str, sigil: str) -> tuple[str, ...] | None:
    values = _strings(json, key, path)
    if values is not None and not all(value.startswith(sigil) for value in values):
        raise InvalidParam(f"{path} must have only ids that start with {sigil!r}")
    return values


def _like(pattern: str) -> str:
    for char in "\\%_":
        pattern = pattern.replace(char, "\\" + char)
    while "**" in pattern:
        pattern = pattern.replace("**", "*")
    return pattern.replace("*", "%")


_ABSENT = object()
