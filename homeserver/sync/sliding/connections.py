"""What each connection of a client has been told: kept in the database, and in memory for those in use.

A connection has at most two positions that its client may name: the last one that it is known to have, and the last one
that was issued. Naming the older one says that the newer was lost, which is then forgotten; naming the newer one ends
the older. Everything else is M_UNKNOWN_POS, upon which clients start anew.

Two things are in memory alone, and losing them does no harm: which members were sent because the timeline needed them
(they are sent again), and which request of a connection is the newest (an older one that still waits gives up).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import asyncpg
import orjson

from homeserver.changes import Subscription
from homeserver.protocol.errors import BadRequest
from homeserver.storage.sliding_connections import (
    ConnectionKey,
    ConnectionRow,
    PositionRow,
    RoomRow,
    advance_connection,
    find_connection,
    start_connection,
)
from homeserver.storage.stream import Pool
from homeserver.sync.sliding.required_state import RequiredState
from homeserver.sync.tokens import SlidingToken, parse_sliding_token

_MOST_REMEMBERED = 200_000  # rooms of connections in memory, some 200 bytes each
_MOST_REQUIRED_STATES = 200  # different ones that a connection's rooms may refer to
_MOST_REQUIRED_BYTES = 512 * 1024


class UnknownPos(BadRequest):
    """A `pos` that this connection can't go on from: its client starts anew."""

    errcode = "M_UNKNOWN_POS"


@dataclass(frozen=True, slots=True)
class Told:
    """What the client has of a room.

    `sent_pos`: all until there. `first_ord`: the timeline from there on without a gap, the newest `limit` events at
    least (or all). `stripped`: only what one may know who is not in the room. `unread`: it was told of unread
    notifications. `receipts_pos`: receipts until there, None: none. `data_pos`: account data only until there, None:
    all. `members`: which member events it was sent for the timeline's sake (state_key_nid -> event_nid).
    """

    sent_pos: int
    first_ord: int
    limit: int
    required: RequiredState
    stripped: bool
    is_dm: bool
    unread: bool = False
    receipts_pos: int | None = None
    data_pos: int | None = None
    members: Mapping[int, int] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Position:
    """What the client has after a response: everything until `pos` of the rooms that it was told of."""

    version: int
    pos: int
    typing: int
    extensions: frozenset[str]
    rooms: Mapping[int, Told]

    @property
    def row(self) -> PositionRow:
        return PositionRow(self.version, self.pos, self.typing, tuple(self.extensions))


@dataclass(slots=True)
class Connection:
    """One connection. `changes` is what the response `issued` told of rooms, beyond `known`.

    `numbers` gives what rooms require the numbers under which the database has it.
    """

    nid: int
    known: Position | None
    issued: Position
    changes: Mapping[int, Told]
    numbers: dict[RequiredState, int]

    def at(self, version: int) -> Position | None:
        """The position of that name, if its client may still name it."""
        return next((each for each in (self.issued, self.known) if each is not None and each.version == version), None)


@dataclass(frozen=True, slots=True)
class Issue:
    """A response about to be given: up to where it tells, which extensions are on, and what it tells of rooms."""

    pos: int
    typing: int
    extensions: frozenset[str]
    changes: Mapping[int, Told]


@dataclass(eq=False, slots=True)
class Flight:
    """A request under way. `superseded` once its client has sent another one for the same connection."""

    subscription: Subscription
    superseded: bool = False

    def check(self) -> None:
        """:raises UnknownPos: if nobody waits for the answer any more"""
        if self.superseded:
            raise UnknownPos("Another request of this connection has come meanwhile")


class Connections:
    """The connections of all clients."""

    def __init__(self, pool: Pool, most_remembered: int = _MOST_REMEMBERED) -> None:
        self._pool = pool
        self._most = most_remembered
        self._known: OrderedDict[ConnectionKey, Connection] = OrderedDict()
        self._weight = 0
        self._flights: dict[ConnectionKey, Flight] = {}

    @contextmanager
    def in_flight(self, key: ConnectionKey, subscription: Subscription) -> Iterator[Flight]:
        """Says that a request of this connection is under way; an older one that still is, gives up."""
        flight = Flight(subscription)
        older = self._flights.get(key)
        if older is not None:
            older.superseded = True
            older.subscription.wake()
        self._flights[key] = flight
        try:
            yield flight
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]

    async def find(self, key: ConnectionKey, pos: str) -> tuple[Connection, Position]:
        """The connection and the position of it that `pos` names.

        :raises UnknownPos: if it names none
        """
        token = parse_sliding_token(pos)
        if token is not None:
            connection = self._known.get(key)
            position = connection.at(token.version) if connection is not None else None
            if position is None:
                connection = await self._load(key)
                position = connection.at(token.version) if connection is not None else None
            if connection is not None and position is not None:
                return connection, position
        raise UnknownPos("This connection is not known at that position (any more)")

    async def _load(self, key: ConnectionKey) -> Connection | None:
        async with self._pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            row = await find_connection(conn, key)
        if row is None:
            return None
        connection = _from_row(row)
        self._remember(key, connection)
        return connection

    async def start(self, key: ConnectionKey, issue: Issue) -> SlidingToken:
        """Begins a connection with its first response, in place of any of the same name; the response's token."""
        numbers = _numbered({}, {}, issue.changes)
        self._forget(key)
        try:
            async with self._pool.acquire() as conn, conn.transaction():
                nid, version = await start_connection(
                    conn,
                    key,
                    _now_ms(),
                    _required_json(numbers),
                    (issue.pos, issue.typing, issue.extensions),
                    _rows(issue.changes, numbers),
                )
        except asyncpg.ForeignKeyViolationError:
            raise UnknownPos("This device is gone") from None
        issued = Position(version, issue.pos, issue.typing, issue.extensions, issue.changes)
        self._remember(key, Connection(nid, None, issued, issue.changes, numbers))
        return SlidingToken(version, issue.pos, issue.typing)

    async def advance(self, key: ConnectionKey, connection: Connection, base: Position, issue: Issue) -> SlidingToken:
        """Goes on from `base` with another response; its token.

        :raises UnknownPos: if the connection has gone on meanwhile, or holds more than it may
        """
        numbers = _numbered(connection.numbers, base.rooms, issue.changes)
        acknowledged = connection.changes if base is connection.issued else {}
        self._forget(key)
        async with self._pool.acquire() as conn:
            version = await advance_connection(
                conn,
                connection.nid,
                base.row,
                _now_ms(),
                _required_json(numbers),
                (issue.pos, issue.typing, issue.extensions),
                _rows(issue.changes, numbers),
                _rows(acknowledged, numbers),
            )
        if version is None:
            raise UnknownPos("This connection has gone on meanwhile")
        rooms = {**base.rooms, **issue.changes} if issue.changes else base.rooms
        issued = Position(version, issue.pos, issue.typing, issue.extensions, rooms)
        self._remember(key, Connection(connection.nid, base, issued, issue.changes, numbers))
        return SlidingToken(version, issue.pos, issue.typing)

    def _remember(self, key: ConnectionKey, connection: Connection) -> None:
        self._forget(key)
        self._known[key] = connection
        self._weight += len(connection.issued.rooms) + 1
        while self._weight > self._most and len(self._known) > 1:
            _, oldest = self._known.popitem(last=False)
            self._weight -= len(oldest.issued.rooms) + 1

    def _forget(self, key: ConnectionKey) -> None:
        connection = self._known.pop(key, None)
        if connection is not None:
            self._weight -= len(connection.issued.rooms) + 1


def _now_ms() -> int:
    return int(time.time() * 1000)


def _numbered(
    numbers: dict[RequiredState, int], rooms: Mapping[int, Told], changes: Mapping[int, Told]
) -> dict[RequiredState, int]:
    """The numbers, and new ones for what has none; those that no room refers to go when they become many.

    :raises UnknownPos: if there are too many all the same
    """
    new = {told.required for told in changes.values()} - numbers.keys()
    if not new:
        return numbers
    following = max(numbers.values(), default=0) + 1
    numbers = numbers | {required: following + place for place, required in enumerate(new)}
    if len(numbers) > _MOST_REQUIRED_STATES:
        used = {told.required for told in (*rooms.values(), *changes.values())}
        numbers = {required: number for required, number in numbers.items() if required in used}
    if len(numbers) > _MOST_REQUIRED_STATES or len(_required_json(numbers)) > _MOST_REQUIRED_BYTES:
        raise UnknownPos("This connection has asked for too many different things")
    return numbers


def _required_json(numbers: Mapping[RequiredState, int]) -> bytes:
    return orjson.dumps({str(number): required.json() for required, number in numbers.items()})


def _rows(rooms: Mapping[int, Told], numbers: Mapping[RequiredState, int]) -> list[RoomRow]:
    return [
        RoomRow(
            room_nid,
            told.sent_pos,
            told.first_ord,
            told.limit,
            numbers[told.required],
            told.stripped,
            told.is_dm,
            told.unread,
            told.receipts_pos,
            told.data_pos,
        )
        for room_nid, told in rooms.items()
    ]


def _from_row(row: ConnectionRow) -> Connection:
    stored = orjson.loads(row.required_states)
    by_number = {int(number): RequiredState.from_json(json) for number, json in stored.items()}
    rooms, changes = (
        {each.room_nid: _told(each, by_number[each.required_state]) for each in rows}
        for rows in (row.rooms, row.issued_rooms)
    )
    known = None
    if row.known.version:
        known = Position(row.known.version, row.known.pos, row.known.typing, frozenset(row.known.extensions), rooms)
    issued = Position(
        row.issued.version,
        row.issued.pos,
        row.issued.typing,
        frozenset(row.issued.extensions),
        {**rooms, **changes},
    )
    numbers = {required: number for number, required in by_number.items()}
    return Connection(row.connection_nid, known, issued, changes, numbers)


def _told(row: RoomRow, required: RequiredState) -> Told:
    return Told(
        row.sent_pos,
        row.first_ord,
        row.timeline_limit,
        required,
        row.stripped,
        row.is_dm,
        row.unread,
        row.receipts_pos,
        row.data_pos,
    )
