"""Writing in an order that readers can follow: transactions that draw positions, and the position safe to read up to.

Positions come from one sequence. Of two transactions the one with the smaller position may commit later, so a reader
may only be given positions below which nothing is still open: otherwise a sync token would step over a row that appears
afterwards. Before a transaction draws, it is entered here with a bound, the highest position known to be drawn; what it
draws is above that. The safe position is the smallest bound among the open ones.

This keeps its books in the memory of one process, so one process writes to a database at a time: `open_stream` takes an
advisory lock that says so, held for as long as the process lives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Publish: TypeAlias = Callable[[Collection[int], Collection[int]], None]

_WRITER_LOCK = 0x7A1C_0001  # an arbitrary number that no other advisory lock of ours uses


class DatabaseInUse(Exception):
    """Another server process writes to this database."""


@dataclass(eq=False)
class Write:
    """One transaction that draws positions. `conn` is inside the transaction."""

    conn: Connection
    stream: Stream
    bound: int | None = None  # set while positions of this transaction may become visible
    last: int = 0
    rooms: set[int] = field(default_factory=set)
    users: set[int] = field(default_factory=set)
    callbacks: list[Callable[[], None]] = field(default_factory=list)

    def will_draw(self) -> None:
        """Must be called before a statement that draws positions by itself (`lock_room`)."""
        if self.bound is None:
            self.bound = self.stream.drawn
            self.stream.open.add(self)

    def has_drawn(self, position: int) -> None:
        self.last = max(self.last, position)
        self.stream.drawn = max(self.stream.drawn, position)

    async def next_position(self) -> int:
        """Draws one position. Draw late: until this transaction ends, readers wait for it."""
        self.will_draw()
        position: int = await self.conn.fetchval("SELECT nextval('positions')")
        self.has_drawn(position)
        return position

    def changed(self, *, rooms: Collection[int] = (), users: Collection[int] = ()) -> None:
        """Says who must look again once this is committed."""
        self.rooms.update(rooms)
        self.users.update(users)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Calls `callback` once this is committed; never if it isn't."""
        self.callbacks.append(callback)


class Stream:
    """The writes of this process and the position up to which everything is visible."""

    def __init__(self, pool: Pool, publish: Publish, position: int) -> None:
        self.pool = pool
        self.drawn = position
        self.open: set[Write] = set()
        self._publish = publish
        self._committed = position
        self._unpublished: list[Write] = []
        self._spare_nids: list[int] = []

    @property
    def position(self) -> int:
        """Everything up to here is committed, or never will be: a token may say it."""
        bounds = [write.bound for write in self.open if write.bound is not None]
        return min(self._committed, *bounds) if bounds else self._committed

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Write]:
        """A transaction. When it has committed, and everything below it too, those whom it `changed` are woken."""
        async with self.pool.acquire() as conn:
            write = Write(conn, self)
            committed = False
            try:
                async with conn.transaction():
                    yield write
                committed = True
                for callback in write.callbacks:
                    callback()
            finally:
                self._finish(write, committed)

    def _finish(self, write: Write, committed: bool) -> None:
        self.open.discard(write)
        if committed and write.bound is None:
            self._publish(write.rooms, write.users)
        elif committed:
            self._committed = max(self._committed, write.last)
            self._unpublished.append(write)
        safe = self.position
        ready = [w for w in self._unpublished if w.last <= safe]
        if ready:
            self._unpublished = [w for w in self._unpublished if w.last > safe]
            self._publish(set().union(*(w.rooms for w in ready)), set().union(*(w.users for w in ready)))

    async def new_nids(self, conn: Connection, count: int) -> list[int]:
        """Unused numbers for events outside the timeline and for snapshots; drawn in blocks, in no particular order."""
        if len(self._spare_nids) < count:
            rows = await conn.fetch("SELECT nextval('positions') AS nid FROM generate_series(1, $1)", count + 64)
            self._spare_nids.extend(row["nid"] for row in rows)
            # These are positions too, though no row is ever visible under them.
            self.drawn = max(self.drawn, rows[-1]["nid"])
        taken, self._spare_nids = self._spare_nids[:count], self._spare_nids[count:]
        return taken


async def lock_database(conn: Connection) -> None:
    """Claims the database for this process until `conn` is closed.

    :raises DatabaseInUse: if another process has it
    """
    if not await conn.fetchval("SELECT pg_try_advisory_lock($1)", _WRITER_LOCK):
        raise DatabaseInUse("Another talk-pai server is running on this database. Stop it first.")


async def open_stream(pool: Pool, publish: Publish) -> Stream:
    """The stream of a database that `lock_database` has claimed."""
    async with pool.acquire() as conn:
        # `last_value` of an unused sequence is 1, and so is the first position that it gives.
        position: int = await conn.fetchval("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM positions")
    return Stream(pool, publish, position)
