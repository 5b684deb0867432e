"""What a user may see of a room, from two histories: the user's own membership and the room's history visibility.

Both are read whole (they are short, whatever the size of the room) and give the stretches of the timeline that the
user may see, so that reads ask for nothing else. Where the DAG forks this follows the order in which events came here.

# spec: client-server-api/#room-history-visibility
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from homeserver.protocol.errors import Forbidden
from homeserver.protocol.history_visibility import (
    INVITED,
    SHARED,
    WORLD_READABLE,
    may_see,
    may_see_change,
    visibility_of,
)
from homeserver.storage.events import ORD_SHIFT
from homeserver.storage.names import Names, Room
from homeserver.storage.room_state import FOREVER
from homeserver.storage.stream import Connection

LAST_ORD = 2**63 - 1
_BEGINNING = -(2**42)  # below every position; history before the first one that was seen here has ords below 0 too


class Span(NamedTuple):
    """A value that held from `from_pos` until before `to_pos`. `told`: it came with the event told at `from_pos`."""

    from_pos: int
    to_pos: int
    value: str
    told: bool
    event_nid: int


@dataclass(slots=True)
class Sight:
    """What one user may see of one room."""

    membership: Sequence[Span]
    visibility: Sequence[Span]
    known_from: int | None  # the position from which this server knows the room's state; None: it doesn't
    invited_from: int | None = None  # where the invitation stands in the history before that, if it was fetched
    _ranges: list[tuple[int, int]] | None = field(default=None, init=False)

    def membership_at(self, pos: int) -> str:
        """The user's membership just after that position."""
        return _value_at(self.membership, pos, "leave")

    def membership_at_ord(self, ord: int) -> str:
        """The user's membership at an event, with what the event itself does to it."""
        if self.invited_from is not None and self.invited_from <= ord and self.is_before_known(ord):
            return "invite"
        return self.membership_at(ord >> ORD_SHIFT)

    def is_before_known(self, ord: int) -> bool:
        """Whether a place is in the history that was fetched from other servers."""
        return ord >> ORD_SHIFT < (self.known_from or 0)

    def visibility_at(self, pos: int) -> str:
        """The room's history visibility just after that position."""
        # Of what was before this server came, it knows the visibility that it found then.
        return _value_at(self.visibility, max(pos, self.known_from or 0), SHARED)

    @property
    def joins(self) -> list[tuple[int, int]]:
        """From when until when the user was joined, without a break each."""
        intervals: list[tuple[int, int]] = []
        for span in self.membership:
            if span.value != "join":
                continue
            if intervals and intervals[-1][1] == span.from_pos:
                intervals[-1] = (intervals[-1][0], span.to_pos)
            else:
                intervals.append((span.from_pos, span.to_pos))
        return intervals

    def last_join(self, until: int) -> tuple[int, int] | None:
        """The last of `joins` that began by position `until`."""
        return max((join for join in self.joins if join[0] <= until), default=None)

    def known_until(self, pos: int) -> int | None:
        """Up to where someone who was told all until `pos` knows the state from being joined; None if never joined."""
        stay = self.last_join(pos)
        return None if stay is None else min(stay[1], pos)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The stretches of the timeline that the user may see: (first ord, last ord), in order."""
        if self._ranges is None:
            self._ranges = self._visible_ranges()
        return self._ranges

    def sees(self, ord: int) -> bool:
        """Whether the user may see the event at that place."""
        return any(low <= ord <= high for low, high in self.ranges)

    def _visible_ranges(self) -> list[tuple[int, int]]:
        points = {_BEGINNING}
        for span in (*self.membership, *self.visibility):
            points.update((span.from_pos, span.to_pos))
        told = {span.from_pos for span in (*self.membership, *self.visibility) if span.told}
        edges = sorted(points - {FOREVER})
        last_join = max((span.from_pos for span in self.membership if span.value == "join"), default=_BEGINNING)
        ranges: list[tuple[int, int]] = []
        if self.invited_from is not None and self.visibility_at(_BEGINNING) == INVITED:
            ranges.append((self.invited_from, ((self.known_from or 0) << ORD_SHIFT) - 1))
        for start, end in zip(edges, [*edges[1:], FOREVER], strict=True):
            high = LAST_ORD if end == FOREVER else (end << ORD_SHIFT) - 1
            after = (self.visibility_at(start), self.membership_at(start))
            if may_see(visibility_at=after[0], membership_at=after[1], joined_after=last_join >= end):
                _extend(ranges, start << ORD_SHIFT, high)
            elif start in told and self._sees_change(start, after, joined_after=last_join > start):
                _extend(ranges, start << ORD_SHIFT, start << ORD_SHIFT)
        return ranges

    def _sees_change(self, pos: int, after: tuple[str, str], *, joined_after: bool) -> bool:
        before = (self.visibility_at(pos - 1), self.membership_at(pos - 1))
        return may_see_change(
            visibility=(before[0], after[0]), membership=(before[1], after[1]), joined_after=joined_after
        )


def _value_at(spans: Sequence[Span], pos: int, default: str) -> str:
    for span in reversed(spans):
        if span.from_pos <= pos:
            return span.value if pos < span.to_pos else default
    return default


def _extend(ranges: list[tuple[int, int]], low: int, high: int) -> None:
    if ranges and ranges[-1][1] == low - 1:
        ranges[-1] = (ranges[-1][0], high)
    else:
        ranges.append((low, high))


async def sights(conn: Connection, names: Names, user_id: str, room_nids: Collection[int]) -> dict[int, Sight]:
    """What the user may see of each of these rooms."""
    if not room_nids:
        return {}
    own = ("m.room.member", user_id)
    keys = await names.state_key_nids([own, ("m.room.history_visibility", ""), ("m.room.create", "")])
    rows = await conn.fetch(
        "SELECT s.room_nid, s.state_key_nid, s.from_pos, s.to_pos, e.event_nid, e.json, e.ord, e.live "
        "FROM room_state s JOIN events e ON e.event_nid = s.event_nid "
        "WHERE s.room_nid = ANY($1) AND s.state_key_nid = ANY($2) ORDER BY s.from_pos",
        list(room_nids),
        list(keys.values()),
    )
    membership: dict[int, list[Span]] = {room_nid: [] for room_nid in room_nids}
    visibility: dict[int, list[Span]] = {room_nid: [] for room_nid in room_nids}
    known_from: dict[int, int] = {}
    cited: dict[int, list[str]] = {}
    for row in rows:
        room_nid, from_pos = row["room_nid"], row["from_pos"]
        if row["state_key_nid"] == keys["m.room.create", ""]:
            known_from.setdefault(room_nid, from_pos)
            continue
        told = bool(row["live"]) and row["ord"] == from_pos << ORD_SHIFT
        json: Any = orjson.loads(row["json"])
        content = json["content"]
        if row["state_key_nid"] == keys[own]:
            value, spans = content.get("membership", "leave"), membership[room_nid]
            if value == "join":
                cited.setdefault(room_nid, _event_ids(json["auth_events"]))
        else:
            value, spans = visibility_of(content), visibility[room_nid]
        spans.append(Span(from_pos, row["to_pos"], value, told, row["event_nid"]))
    seen = {nid: Sight(membership[nid], visibility[nid], known_from.get(nid)) for nid in room_nids}
    # Only there it matters who was invited when, before this server came.
    asked = {nid: cited[nid] for nid, sight in seen.items() if nid in cited and sight.visibility_at(0) == INVITED}
    for nid, ord in (await _invitations_in_history(conn, asked, keys[own]) if asked else {}).items():
        if seen[nid].is_before_known(ord):
            seen[nid].invited_from = ord
    return seen


def _event_ids(auth_events: Sequence[Any]) -> list[str]:
    # The first room versions cite events with their hashes.
    return [cited if isinstance(cited, str) else cited[0] for cited in auth_events]


async def _invitations_in_history(
    conn: Connection, cited: Mapping[int, Sequence[str]], member_key: int
) -> dict[int, int]:
    """room_nid -> the ord of the invitation that the user's first known join there cites, if it is here."""
    rows = await conn.fetch(
        "SELECT e.room_nid, e.ord FROM unnest($1::bigint[], $2::text[]) AS w (room_nid, event_id) "
        "JOIN events e ON e.event_id = w.event_id AND e.room_nid = w.room_nid "
        "WHERE e.state_key_nid = $3 AND e.ord IS NOT NULL AND e.status = 0 "
        "AND convert_from(e.json, 'UTF8')::json -> 'content' ->> 'membership' = 'invite'",
        [nid for nid, ids in cited.items() for _ in ids],
        [event_id for ids in cited.values() for event_id in ids],
        member_key,
    )
    return {row["room_nid"]: row["ord"] for row in rows}


@dataclass(frozen=True, slots=True)
class Access:
    """That a user may read a room: what of its timeline, and its state as of which position (None: now)."""

    sight: Sight
    state_pos: int | None
    joined: bool


async def access(conn: Connection, names: Names, room: Room, user_id: str) -> Access:
    """What the user may read of the room: all of the present as a member, up to leaving as a former one, or what
    everyone may.

    :raises Forbidden: if that is nothing
    # spec: client-server-api/#room-history-visibility
    """
    sight = (await sights(conn, names, user_id, [room.nid]))[room.nid]
    last_join = sight.last_join(FOREVER)
    if sight.known_from is not None:
        if last_join is not None and last_join[1] == FOREVER:
            return Access(sight, None, joined=True)
        if last_join is not None and not await _is_forgotten(conn, room.nid, user_id):
            return Access(sight, last_join[1], joined=False)
        if sight.visibility_at(FOREVER - 1) == WORLD_READABLE:
            return Access(sight, None, joined=False)
    raise Forbidden("You are not in that room")


async def _is_forgotten(conn: Connection, room_nid: int, user_id: str) -> bool:
    forgotten: bool | None = await conn.fetchval(
        "SELECT forgotten FROM room_members WHERE room_nid = $1 "
        "AND user_nid = (SELECT user_nid FROM users WHERE user_id = $2)",
        room_nid,
        user_id,
    )
    return bool(forgotten)
