"""Tokens: `s<position>_<typing>` says how far a client has synced, `t<ord>` names a place in a room's timeline.

A place stands after the event whose ord it is, so reading backwards from it begins with that event and reading forwards
with the one above. A sync token is accepted wherever a place is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from homeserver.protocol.errors import InvalidParam
from homeserver.storage.events import ORD_SHIFT

_SYNC_TOKEN = re.compile(r"s([0-9]{1,12})_([0-9]{1,17})", re.ASCII)
_ORD_TOKEN = re.compile(r"t(-?[0-9]{1,19})", re.ASCII)
_MAX_BIGINT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class SyncToken:
    """`position`: everything up to there has been told. `typing`: the change of typing users that was told last."""

    position: int
    typing: int

    def __str__(self) -> str:
        return f"s{self.position}_{self.typing}"


def parse_sync_token(token: str) -> SyncToken:
    """:raises InvalidParam: if it is none of ours"""
    match = _SYNC_TOKEN.fullmatch(token)
    if match is None:
        raise InvalidParam("That is not a token of this server")
    return SyncToken(int(match[1]), int(match[2]))


def place_token(ord: int) -> str:
    """The token of the place just after the event at `ord`."""
    return f"t{ord}"


def parse_place(token: str) -> int:
    """The ord that a token names: one of /messages, a `prev_batch` or a token of /sync.

    :raises InvalidParam: if it is none of ours
    """
    match = _ORD_TOKEN.fullmatch(token)
    if match is None:
        return parse_sync_token(token).position << ORD_SHIFT
    ord = int(match[1])
    if abs(ord) > _MAX_BIGINT:
        raise InvalidParam("That is not a token of this server")
    return ord
