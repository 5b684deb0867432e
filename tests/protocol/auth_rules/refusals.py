"""Asking the authorization rules, as every test here does."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from homeserver.protocol.auth_rules import check_auth
from homeserver.protocol.errors import AuthRuleError
from homeserver.protocol.events import Event
from homeserver.protocol.room_versions import RoomVersion
from tests.protocol.rooms import Room

#: A rule's number, by the first room version that counts so; "" where the version allows the event.
Numbers = Mapping[int, str]


def expected(version: RoomVersion, numbers: Numbers) -> str:
    """The number that holds in that version."""
    return numbers[max(first for first in numbers if first <= int(version.identifier))]


def verdict(room: Room, event: Event) -> str:
    """The number of the rule that refuses the event on top of the room's state, "" if it is allowed."""
    try:
        check_auth(event, room.state, create=room.create)
    except AuthRuleError as error:
        return error.rule
    return ""


def assert_verdict(room: Room, event: Event, numbers: Numbers) -> None:
    """The rules say of the event what they should in the room's version."""
    assert verdict(room, event) == expected(room.version, numbers)


def assert_refused(error: pytest.ExceptionInfo[AuthRuleError], version: RoomVersion, numbers: Numbers) -> None:
    """It was that rule."""
    assert error.value.rule == expected(version, numbers)
