"""Writing in an order that readers can follow: transactions that draw positions, and the position safe to read up to.

Positions come from one sequence. Of two transactions the one with the smaller position may commit later, so a reader
may only be given positions below which nothing is still open: otherwise a sync token would step over a row that appears
afterwards. Before a transaction draws, it is entered here with a bound, the highest position that is committed; what it
draws is above that, even after a crash of the database, which may forget what was drawn but not what was committed. The
safe position is the smallest bound among the open ones.

This keeps its books in the memory of one process, so one process writes to a database at a time: `open_stream` takes an
advisory lock that says so, held for as long as the process lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import asyncpg
import asyncpg.transaction

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Transaction: TypeAlias = asyncpg.transaction.Transaction
Publish: TypeAlias = Callable[[Collection[int], Collection[int]], None]

_SETTLE_PAUSE = 0.1  # seconds
_CONNECTION_LOST = (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)
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
            self.bound = self.stream.committed
            self.stream.open.add(self)

    def has_drawn(self, position: int) -> None:
        self.last = max(self.last, position)

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
        self.open: set[Write] = set()
        self._publish = publish
        self.committed = position
        self._unpublished: list[Write] = []
        self._spare_nids: list[int] = []
        self._settling: set[asyncio.Task[None]] = set()

    @property
    def position(self) -> int:
        """Everything up to here is committed, or never will be: a token may say it."""
        bounds = [write.bound for write in self.open if write.bound is not None]
        return min(self.committed, *bounds) if bounds else self.committed

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Write]:
        """A transaction. When it has committed, and everything below it too, those whom it `changed` are woken."""
        async with self.pool.acquire() as conn:
            write = Write(conn, self)
            backend = conn.get_server_pid()
            transaction = conn.transaction()
            await transaction.start()
            try:
                yield write
            except BaseException:
                try:
                    await transaction.rollback()
                finally:
                    self._finish(write, committed=False)
                raise
            await self._commit(write, transaction, backend)

    async def _commit(self, write: Write, transaction: Transaction, backend: int) -> None:
        try:
            await transaction.commit()
        except BaseException as error:
            if isinstance(error, asyncpg.PostgresError) and not isinstance(error, _CONNECTION_LOST):
                self._finish(write, committed=False)
            else:
                # The connection broke on the way: it may be committed, or will be in a moment. Until that is known,
                # nobody may read past it.
                task = asyncio.create_task(self._settle(write, backend))
                self._settling.add(task)
                task.add_done_callback(self._settling.discard)
            raise
        for callback in write.callbacks:
            callback()
        self._finish(write, committed=True)

    async def _settle(self, write: Write, backend: int) -> None:
        """Waits until the process in the database that had a transaction has ended it, one way or the other."""
        while True:
            try:
                if not await self.pool.fetchval(
                    "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND xact_start IS NOT NULL "
                    "AND pid <> pg_backend_pid())",
                    backend,
                ):
                    break
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                if self.pool.is_closing():
                    break
            await asyncio.sleep(_SETTLE_PAUSE)
        # If it failed after all, there is nothing there to be read.
        self._finish(write, committed=True)

    def _finish(self, write: Write, *, committed: bool) -> None:
        self.open.discard(write)
        write.callbacks.clear()  # they know the write: a cycle, which would wait for its collector
        if not committed:
            # If the database crashed, what was drawn in this transaction may be given out again.
            self._spare_nids.clear()
        if committed and write.bound is None:
            self._publish(write.rooms, write.users)
        elif committed:
            self.committed = max(self.committed, write.last)
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
