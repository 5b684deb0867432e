"""Positions that never skip, whoever writes, in whatever order they end, and whoever dies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Collection

import asyncpg
import pytest

from homeserver.storage.pool import create_pool
from homeserver.storage.stream import DatabaseInUse, Pool, Stream, Write, lock_database, open_stream

USER = 1


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with await create_pool(database, 12) as pool:
        await pool.execute("INSERT INTO users (user_id, server) VALUES ('@a:here.example', 'here.example')")
        yield pool


@pytest.fixture
async def stream(pool: Pool) -> Stream:
    return await open_stream(pool, lambda rooms, users: None)


async def put(write: Write, name: str) -> int:
    """Writes a row that readers look for; its position."""
    pos = await write.next_position()
    await write.conn.execute(
        "INSERT INTO account_data (user_nid, type, content, pos) VALUES ($1, $2, '{}', $3)", USER, name, pos
    )
    return pos


class Reader:
    """Reads on from where it stopped, as a client with a token does."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.token = stream.position
        self.seen: list[str] = []

    async def read(self) -> list[str]:
        until = self.stream.position
        assert until >= self.token
        rows = await self.stream.pool.fetch(
            "SELECT type FROM account_data WHERE pos > $1 AND pos <= $2 ORDER BY pos", self.token, until
        )
        self.token = until
        self.seen += [row["type"] for row in rows]
        return [row["type"] for row in rows]


async def test_a_small_position_that_commits_late_is_not_stepped_over(stream: Stream) -> None:
    """What is above an open transaction waits for it, even if it is committed."""
    reader = Reader(stream)
    async with stream.write() as slow:
        await put(slow, "slow")
        async with stream.write() as fast:
            await put(fast, "fast")
        assert await reader.read() == []
    assert await reader.read() == ["slow", "fast"]


async def test_a_transaction_that_fails_leaves_no_trace(stream: Stream) -> None:
    """A writer that dies holds nobody up afterwards, and what it wrote never appears."""
    reader = Reader(stream)

    async def fail() -> None:
        async with stream.write() as write:
            await put(write, "failed")
            async with stream.write() as other:
                await put(other, "other")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await reader.read() == ["other"]


async def test_a_killed_connection_holds_nobody_up(stream: Stream, pool: Pool) -> None:
    """A writer whose connection PostgreSQL ends is as one that never was."""
    reader = Reader(stream)

    async def be_killed() -> None:
        async with stream.write() as write:
            await put(write, "killed")
            async with stream.write() as other:
                await put(other, "other")
            assert await reader.read() == []
            await pool.execute("SELECT pg_terminate_backend($1)", write.conn.get_server_pid())
            await write.conn.execute("SELECT 1")

    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
        await be_killed()
    assert await reader.read() == ["other"]
    assert not stream.open


async def test_a_commit_of_unknown_outcome_is_not_stepped_over(
    pool: Pool,
) -> None:
    """When the connection breaks at the commit, readers wait until the database has ended the transaction."""
    settled = asyncio.Event()
    stream = await open_stream(pool, lambda rooms, users: settled.set())
    reader = Reader(stream)
    async with pool.acquire() as watcher:
        await watcher.execute("SELECT pg_advisory_lock(1)")  # holds the commit up, by a deferred trigger
        await watcher.execute(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END'"
        )
        await watcher.execute(
            "CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON account_data DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW WHEN (NEW.type = 'unknown') EXECUTE FUNCTION wait()"
        )

        async def write_it() -> None:
            async with stream.write() as write:
                await put(write, "unknown")
                # What a network that breaks does: the server goes on, its answer never comes.
                asyncio.get_running_loop().call_later(0.1, write.conn.terminate)

        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
            await write_it()
        async with stream.write() as other:
            await put(other, "other")
        assert await reader.read() == []
        await watcher.execute("SELECT pg_advisory_unlock(1)")
    await asyncio.wait_for(settled.wait(), 10)
    await reader.read()
    stored = {row["type"] for row in await pool.fetch("SELECT type FROM account_data")}
    assert set(reader.seen) == stored
    assert "other" in stored


async def test_those_who_wait_are_woken_when_they_can_read(pool: Pool) -> None:
    """A commit above an open transaction wakes nobody until that one has ended, then everyone at once."""
    woken: list[tuple[set[int], set[int]]] = []

    def publish(rooms: Collection[int], users: Collection[int]) -> None:
        woken.append((set(rooms), set(users)))

    stream = await open_stream(pool, publish)
    async with stream.write() as slow:
        await put(slow, "slow")
        slow.changed(rooms=[1])
        async with stream.write() as fast:
            await put(fast, "fast")
            fast.changed(rooms=[2], users=[3])
        assert woken == []
    assert woken == [({1, 2}, {3})]


async def test_what_draws_no_position_wakes_at_once(pool: Pool) -> None:
    """A transaction without positions is visible when it commits, whatever else is open."""
    woken: list[set[int]] = []
    stream = await open_stream(pool, lambda rooms, users: woken.append(set(users)))
    async with stream.write() as slow:
        await put(slow, "slow")
        async with stream.write() as other:
            other.changed(users=[7])
        assert woken == [{7}]


async def test_callbacks_run_only_after_a_commit(stream: Stream) -> None:
    """`after_commit` is called for what is committed, and for nothing else."""
    called: list[str] = []
    async with stream.write() as write:
        write.after_commit(lambda: called.append("good"))
        assert called == []

    async def fail() -> None:
        async with stream.write() as write:
            write.after_commit(lambda: called.append("bad"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert called == ["good"]


async def test_a_new_process_goes_on_above_what_was_drawn(stream: Stream, pool: Pool) -> None:
    """After a restart everything committed is below the position, and new positions are above it."""
    async with stream.write() as write:
        last = await put(write, "before")
    again = await open_stream(pool, lambda rooms, users: None)
    assert again.position >= last
    async with again.write() as write:
        assert await put(write, "after") > again.position


async def test_one_process_at_a_time(database: str) -> None:
    """The database can't be claimed twice; it is free again when the claimant's connection ends."""
    first, second = await asyncpg.connect(database), await asyncpg.connect(database)
    try:
        await lock_database(first)
        with pytest.raises(DatabaseInUse):
            await lock_database(second)
        await first.close()
        await lock_database(second)
    finally:
        await first.close()
        await second.close()


@pytest.mark.parametrize("seed", range(3))
async def test_concurrent_writers_and_readers(stream: Stream, pool: Pool, seed: int) -> None:
    """Of many writers that draw and commit in any order, some of which die, readers see each committed row once."""
    rand = random.Random(seed)
    committed: set[str] = set()
    readers = [Reader(stream) for _ in range(3)]
    done = asyncio.Event()

    async def write_some(writer: int) -> None:
        for number in range(15):
            fate = rand.random()
            name = f"{writer}.{number}"
            try:
                async with stream.write() as write:
                    await put(write, name)
                    for _ in range(rand.randrange(6)):
                        await asyncio.sleep(0)
                        await write.conn.execute("SELECT 1")
                    if fate < 0.1:
                        raise RuntimeError
                    if fate < 0.15:
                        await pool.execute("SELECT pg_terminate_backend($1)", write.conn.get_server_pid())
                        await write.conn.execute("SELECT 1")
                    await put(write, f"{name}+")
            except (RuntimeError, asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError):
                continue
            committed.update((name, f"{name}+"))

    async def read_on(reader: Reader) -> None:
        while not done.is_set():
            await reader.read()
            await asyncio.sleep(0)
        await reader.read()

    reading = [asyncio.create_task(read_on(reader)) for reader in readers]
    await asyncio.gather(*(write_some(writer) for writer in range(8)))
    done.set()
    await asyncio.gather(*reading)
    for reader in readers:
        assert len(reader.seen) == len(set(reader.seen))
        assert set(reader.seen) == committed
