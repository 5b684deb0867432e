"""Tokens: `s<position>_<typing>` says how far a client has synced (with `_<position>` added if more messages to its
device wait than it was told), `t<ord>` names a place in a room's timeline, and
`p<version>_<position>_<typing>` a response of a sliding sync connection.

A place stands after the event whose ord it is, so reading backwards from it begins with that event and reading forwards
with the one above. A sync token of either kind is accepted wherever a place is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from homeserver.protocol.errors import InvalidParam
from homeserver.storage.events import ORD_SHIFT

_SYNC_TOKEN = re.compile(r"s([0-9]{1,12})_([0-9]{1,17})(?:_([0-9]{1,12}))?", re.ASCII)
_SLIDING_TOKEN = re.compile(r"p([0-9]{1,18})_([0-9]{1,12})_([0-9]{1,17})", re.ASCII)
_ORD_TOKEN = re.compile(r"t(-?[0-9]{1,19})", re.ASCII)
_MAX_BIGINT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class SyncToken:
    """`position`: everything up to there has been told. `typing`: the change of typing users that was told last.

    `to_device_until` is set if messages to the device have been told only up to there.
    """

    position: int
    typing: int
    to_device_until: int | None = None

    @property
    def to_device(self) -> int:
        """Up to where messages to the device have been told."""
        return self.position if self.to_device_until is None else min(self.to_device_until, self.position)

    def __str__(self) -> str:
        token = f"s{self.position}_{self.typing}"
        return token if self.to_device == self.position else f"{token}_{self.to_device}"


def parse_sync_token(token: str) -> SyncToken:
    """:raises InvalidParam: if it is none of ours"""
    match = _SYNC_TOKEN.fullmatch(token)
    if match is None:
        raise InvalidParam("That is not a token of this server")
    return SyncToken(int(match[1]), int(match[2]), None if match[3] is None else int(match[3]))


@dataclass(frozen=True, slots=True)
class SlidingToken:
    """The `pos` of sliding sync. `version` names the response; the others are as in `SyncToken`."""

    version: int
    position: int
    typing: int

    def __str__(self) -> str:
        return f"p{self.version}_{self.position}_{self.typing}"


def parse_sliding_token(token: str) -> SlidingToken | None:
    """None if it is none of ours."""
    match = _SLIDING_TOKEN.fullmatch(token)
    return None if match is None else SlidingToken(int(match[1]), int(match[2]), int(match[3]))


def place_token(ord: int) -> str:
    """The token of the place just after the event at `ord`."""
    return f"t{ord}"


def parse_place(token: str) -> int:
    """The ord that a token names: one of /messages, a `prev_batch` or a token of /sync.

    :raises InvalidParam: if it is none of ours
    """
    match = _ORD_TOKEN.fullmatch(token)
    if match is None:
        sliding = parse_sliding_token(token)
        return (sliding or parse_sync_token(token)).position << ORD_SHIFT
    ord = int(match[1])
    if abs(ord) > _MAX_BIGINT:
        raise InvalidParam("That is not a token of this server")
    return ord
