"""The rule on m.room.power_levels: nobody gives, or takes from others, more than they have.

# spec: rooms/v9#authorization-rules 9  rooms/v10#authorization-rules 9  rooms/v12#authorization-rules 10
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from homeserver.protocol.auth_rules.refusal import Rule, power_levels_clause, refusal
from homeserver.protocol.errors import AuthRuleError
from homeserver.protocol.events import Event
from homeserver.protocol.identifiers import is_user_id
from homeserver.protocol.power_levels import DEFAULTS, creators, parse_level
from homeserver.protocol.room_versions import RoomVersion

_NOTHING: Final[Mapping[str, Any]] = {}


def check_power_levels(event: Event, previous: Event | None, create: Event, level: int | float) -> None:
    """Judges an m.room.power_levels event.

    :param previous: the room's m.room.power_levels event, None if it has none
    :param level: the sender's power level under `previous`
    :raises AuthRuleError:
    """
    version = event.room_version
    _check_format(version, event.content)
    # spec: rooms/v12#authorization-rules 10.4
    if version.privileged_creators and not creators(version, create).isdisjoint(event.content.get("users", _NOTHING)):
        raise _refused(version, "users lists a creator of the room", 4)
    # spec: rooms/v12#authorization-rules 10.5
    if previous is None:
        return
    _check_single_levels(version, previous.content, event.content, level)
    _check_required_levels(version, previous.content, event.content, level)
    _check_users(event, previous.content, level)


def _check_format(version: RoomVersion, content: Mapping[str, Any]) -> None:
    if version.integer_power_levels:
        # spec: rooms/v12#authorization-rules 10.1
        for key in DEFAULTS:
            if key in content and type(content[key]) is not int:
                raise _refused(version, f"{key} is not an integer", 1)
        # spec: rooms/v12#authorization-rules 10.2
        for key in ("events", "notifications"):
            if key in content and not _all_integers(content[key]):
                raise _refused(version, f"{key} is not an object of integers", 2)
    elif not version.strict_canonical_json:
        _check_floats(version, content)
    # spec: rooms/v12#authorization-rules 10.3
    users = content.get("users", _NOTHING)
    if not isinstance(users, Mapping):
        raise _refused(version, "users is not an object", 3)
    for user_id, value in users.items():
        if parse_level(version, value) is None:
            raise _refused(version, f"The level of {user_id} is not an integer", 3)
        if not is_user_id(user_id):
            raise _refused(version, f"{user_id} is not a user id", 3)


def _all_integers(value: object) -> bool:
    return isinstance(value, dict) and all(type(level) is int for level in value.values())


def _check_floats(version: RoomVersion, content: Mapping[str, Any]) -> None:
    # spec: rooms/v1#mroompower_levels-events-accept-values-as-floats
    values = [content.get(key) for key in DEFAULTS]
    for key in ("users", "events", "notifications"):
        nested = content.get(key)
        values.extend(nested.values() if isinstance(nested, dict) else ())
    for value in values:
        too_large = type(value) is int and parse_level(version, value) is None
        if too_large or (isinstance(value, float) and not math.isfinite(value)):
            raise _refused(version, "A level is outside the range of a double", 3)


def _check_single_levels(
    version: RoomVersion, old: Mapping[str, Any], new: Mapping[str, Any], level: int | float
) -> None:
    # spec: rooms/v12#authorization-rules 10.6
    # A property that is missing has no value to compare: the default that would hold instead protects nobody.
    for key, before, after in _alterations(version, old, new, list(DEFAULTS)):
        if before is not None and before > level:
            raise _refused(version, f"{key} is above the sender's level", 6, 1)
        if after is not None and after > level:
            raise _refused(version, f"{key} would be above the sender's level", 6, 2)


def _check_required_levels(
    version: RoomVersion, old: Mapping[str, Any], new: Mapping[str, Any], level: int | float
) -> None:
    # spec: rooms/v6#authorization-rules 9.4, 9.5
    properties = ("events", "notifications") if version.limits_notifications_levels else ("events",)
    for name in properties:
        for key, before, after in _nested_alterations(version, old, new, name):
            # spec: rooms/v12#authorization-rules 10.7
            if before is not None and before > level:
                raise _refused(version, f"The level of {key} in {name} is above the sender's", 7, 1)
            # spec: rooms/v12#authorization-rules 10.8
            if after is not None and after > level:
                raise _refused(version, f"The level of {key} in {name} would be above the sender's", 8, 1)


def _check_users(event: Event, old: Mapping[str, Any], level: int | float) -> None:
    version = event.room_version
    for user_id, before, after in _nested_alterations(version, old, event.content, "users"):
        # spec: rooms/v12#authorization-rules 10.9
        if before is not None and user_id != event.sender and before >= level:
            raise _refused(version, f"{user_id} has as much power as the sender", 9, 1)
        # spec: rooms/v12#authorization-rules 10.10
        if after is not None and after > level:
            raise _refused(version, f"{user_id} would have more power than the sender", 10, 1)


def _nested_alterations(
    version: RoomVersion, old: Mapping[str, Any], new: Mapping[str, Any], name: str
) -> Iterator[tuple[str, int | None, int | None]]:
    before, after = old.get(name), new.get(name)
    before = before if isinstance(before, dict) else _NOTHING
    after = after if isinstance(after, dict) else _NOTHING
    # Sorted, so that of several offending entries the error always names the same one.
    return _alterations(version, before, after, sorted(before.keys() | after.keys()))


def _alterations(
    version: RoomVersion, old: Mapping[str, Any], new: Mapping[str, Any], keys: list[str]
) -> Iterator[tuple[str, int | None, int | None]]:
    """(key, level before, level after) of each key whose level changed; None where there is no level."""
    for key in keys:
        before, after = parse_level(version, old.get(key)), parse_level(version, new.get(key))
        if before != after:
            yield key, before, after


def _refused(version: RoomVersion, message: str, clause: int, *more: int) -> AuthRuleError:
    return refusal(version, Rule.POWER_LEVELS, message, power_levels_clause(version, clause), *more)
