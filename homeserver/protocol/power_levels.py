"""Who may do what: the power levels of a room, read from its m.room.power_levels event.

A `PowerLevels` is a view of the event's content, not a copy: it costs the same for a room of ten and of ten thousand
listed users, and a level is interpreted when it is asked for. It never raises: content that the authorization rules of
its room version would refuse (or that old room versions let through) reads as if the property were not there.

# spec: client-server-api/#mroompower_levels
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from homeserver.protocol.events import Event
from homeserver.protocol.room_versions import RoomVersion

#: The properties of the content that are one level each, with what holds when they are missing.
# spec: client-server-api/#mroompower_levels
DEFAULTS: Final[Mapping[str, int]] = {
    "users_default": 0,
    "events_default": 0,
    "state_default": 50,
    "ban": 50,
    "redact": 50,
    "kick": 50,
    "invite": 0,
}
_NOTIFICATION_DEFAULT: Final = 50
_CREATOR_WITHOUT_EVENT: Final = 100
# The largest double has 309 digits; a "level" beyond it is noise, and Python refuses to read really long ones.
_MAX_DIGITS: Final = 309
_NOTHING: Final[Mapping[str, Any]] = {}


def parse_level(room_version: RoomVersion, value: object) -> int | None:
    """The level that `value` stands for in that room version, None if it stands for none.

    Integers always count. Room versions 1 to 9 also read strings, 1 to 5 also floats (their JSON may hold them).
    """
    if type(value) is int:  # `bool` is an int to Python, and is not one in JSON
        return value if room_version.strict_canonical_json or value.bit_length() <= 1024 else None
    if room_version.integer_power_levels:
        return None  # spec: rooms/v10#values-in-mroompower_levels-events-must-be-integers
    if isinstance(value, str):
        return _parse_string(value)
    # spec: rooms/v1#mroompower_levels-events-accept-values-as-floats
    if isinstance(value, float) and not room_version.strict_canonical_json and math.isfinite(value):
        return int(value)
    return None


def _parse_string(value: str) -> int | None:
    # spec: rooms/v1#mroompower_levels-events-accept-values-as-strings
    text = value.strip()
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        return None
    digits = digits.lstrip("0") or "0"
    if len(digits) > _MAX_DIGITS:
        return None
    return -int(digits) if text[0] == "-" else int(digits)


def creators(room_version: RoomVersion, create: Event) -> frozenset[str]:
    """The user ids of the room's creators, as its m.room.create event names them.

    One user up to room version 11 (none if an old create event names nobody), with `additional_creators` from 12 on.
    # spec: rooms/v12#authorization-rules
    """
    if room_version.privileged_creators:
        additional = create.content.get("additional_creators")
        others = [user for user in additional if isinstance(user, str)] if isinstance(additional, list) else []
        return frozenset((create.sender, *others))
    if room_version.implicit_creator:
        return frozenset((create.sender,))  # spec: rooms/v11#remove-the-creator-property-of-mroomcreate-events
    creator = create.content.get("creator")
    return frozenset((creator,)) if isinstance(creator, str) else frozenset()


class PowerLevels:
    """The levels that hold in a room. Immutable: share it, cache it by the ids of the two events it was read from.

    `invite`, `kick`, `ban`, `redact` and `users_default` are the levels of those names, defaults filled in.
    """

    __slots__ = (
        "_creators",
        "_events",
        "_events_default",
        "_notifications",
        "_room_version",
        "_state_default",
        "_users",
        "ban",
        "invite",
        "kick",
        "redact",
        "users_default",
    )

    def __init__(
        self, room_version: RoomVersion, content: Mapping[str, Any], fixed_levels: Mapping[str, int | float]
    ) -> None:
        """Use `of`. `fixed_levels` are users whose level no entry of `content` changes."""
        self._room_version = room_version
        self._creators = fixed_levels
        self._users = _object(content, "users")
        self._events = _object(content, "events")
        self._notifications = _object(content, "notifications")
        self.users_default = self._level(content, "users_default", DEFAULTS["users_default"])
        self._events_default = self._level(content, "events_default", DEFAULTS["events_default"])
        self._state_default = self._level(content, "state_default", DEFAULTS["state_default"])
        self.ban = self._level(content, "ban", DEFAULTS["ban"])
        self.redact = self._level(content, "redact", DEFAULTS["redact"])
        self.kick = self._level(content, "kick", DEFAULTS["kick"])
        self.invite = self._level(content, "invite", DEFAULTS["invite"])

    @classmethod
    def of(cls, room_version: RoomVersion, create: Event | None, power_levels: Event | None) -> PowerLevels:
        """The levels under these two state events.

        `power_levels` is None while the room has none: then its creator has 100 and everyone else 0. `create` is None
        only where it could not be found (state resolution over holes); then nobody is a creator.
        # spec: client-server-api/#mroompower_levels
        """
        fixed: Mapping[str, int | float] = _NOTHING
        if create is not None and room_version.privileged_creators:
            # spec: rooms/v12#authorization-rules
            fixed = dict.fromkeys(creators(room_version, create), math.inf)
        elif create is not None and power_levels is None:
            fixed = dict.fromkeys(creators(room_version, create), _CREATOR_WITHOUT_EVENT)
        return cls(room_version, _NOTHING if power_levels is None else power_levels.content, fixed)

    def user(self, user_id: str) -> int | float:
        """The user's power level: an integer, or `math.inf` for a creator of a room of version 12 on."""
        fixed = self._creators.get(user_id)
        return self._level(self._users, user_id, self.users_default) if fixed is None else fixed

    def required(self, event_type: str, is_state: bool) -> int:
        """The level required to send events of that type, as state events or not.

        # spec: server-server-api/#definitions
        """
        return self._level(self._events, event_type, self._state_default if is_state else self._events_default)

    def notification(self, key: str) -> int:
        """The level required to notify with `key`, e.g. "room" for @room.

        # spec: client-server-api/#mroompower_levels
        """
        return self._level(self._notifications, key, _NOTIFICATION_DEFAULT)

    def _level(self, levels: Mapping[str, Any], key: str, default: int) -> int:
        value = levels.get(key)
        if value is None:
            return default
        level = parse_level(self._room_version, value)
        return default if level is None else level


def _object(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    return value if isinstance(value, dict) else _NOTHING
