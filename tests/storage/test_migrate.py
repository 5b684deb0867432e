"""Migrations: in order, forward only, whole or not at all, and never on a database that they do not fit."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from homeserver.storage.embedded import connect_or_start
from homeserver.storage.migrate import (
    Migration,
    MigrationError,
    _normalised,
    current_schema,
    load_migrations,
    migrate,
    pending,
)
from homeserver.storage.pool import create_pool

ROOT = Path(__file__).parents[2]

FIRST = Migration(1, "first", "CREATE TABLE one (n integer); INSERT INTO one VALUES (1);")
SECOND = Migration(2, "second", "ALTER TABLE one ADD COLUMN m integer;")


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """A data directory with an empty database, made once."""
    with tempfile.TemporaryDirectory(prefix="tp-") as name:
        yield Path(name)


@pytest.fixture
async def dsn(data_dir: Path) -> AsyncIterator[str]:
    """A database whose schema is empty."""
    async with connect_or_start(data_dir) as address:
        conn = await asyncpg.connect(address)
        await conn.execute("DROP OWNED BY CURRENT_USER; CREATE SCHEMA IF NOT EXISTS public")
        await conn.close()
        yield address


@pytest.fixture
async def conn(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def test_migrations_run_once_and_in_order(conn: asyncpg.Connection) -> None:
    """What is missing is applied and recorded; what is applied is not run again."""
    assert await migrate(conn, [FIRST]) == ["0001_first"]
    assert await migrate(conn, [FIRST, SECOND]) == ["0002_second"]
    assert await migrate(conn, [FIRST, SECOND]) == []
    assert await conn.fetchval("SELECT count(m) + sum(n) FROM one") == 1
    assert [row["number"] for row in await conn.fetch("SELECT * FROM schema_migrations ORDER BY number")] == [1, 2]


async def test_a_failing_migration_leaves_nothing(conn: asyncpg.Connection) -> None:
    """A migration and the row that records it are one transaction; the ones before it stay."""
    broken = Migration(2, "broken", "CREATE TABLE two (n integer); SELECT nonsense;")
    with pytest.raises(MigrationError, match=r'schema/0002_broken\.sql failed, .*column "nonsense" does not exist'):
        await migrate(conn, [FIRST, broken])
    assert await conn.fetchval("SELECT to_regclass('two')") is None
    assert await migrate(conn, [FIRST, SECOND]) == ["0002_second"]


async def test_a_changed_file_is_refused(conn: asyncpg.Connection) -> None:
    """A file that was edited after it ran is an error that names it."""
    await migrate(conn, [FIRST])
    edited = Migration(1, "first", FIRST.sql + " -- a word")
    with pytest.raises(MigrationError, match=r"schema/0001_first\.sql is not what ran on this database"):
        await migrate(conn, [edited, SECOND])
    assert await conn.fetchval("SELECT count(*) FROM schema_migrations") == 1


async def test_a_newer_database_is_refused(conn: asyncpg.Connection) -> None:
    """Older code does not touch a database that newer code has changed."""
    await migrate(conn, [FIRST, SECOND])
    with pytest.raises(
        MigrationError, match=r"made by a newer Talk pAI \(it has 0002_second, this one knows up to 0001\)"
    ):
        await migrate(conn, [FIRST])


async def test_a_gap_is_refused(conn: asyncpg.Connection) -> None:
    """A database that lacks an earlier migration than its last one is damaged, not behind."""
    await migrate(conn, [FIRST, SECOND])
    await conn.execute("DELETE FROM schema_migrations WHERE number = 1")
    with pytest.raises(MigrationError, match="has 0002 but lacks 0001_first"):
        await migrate(conn, [FIRST, SECOND])


async def test_servers_that_start_together_migrate_once(dsn: str) -> None:
    """The lock lets one of them work and the others find it done."""
    connections = [await asyncpg.connect(dsn) for _ in range(4)]
    done = await asyncio.gather(*(migrate(one, [FIRST, SECOND]) for one in connections))
    assert sorted(map(len, done)) == [0, 0, 0, 2]
    for one in connections:
        await one.close()


async def test_pending_changes_nothing(conn: asyncpg.Connection) -> None:
    """`pending` says what `migrate` would do, also on an empty database."""
    everything = [one.label for one in load_migrations()]
    assert await pending(conn) == everything
    assert await conn.fetchval("SELECT to_regclass('schema_migrations')") is None
    assert await migrate(conn) == everything
    assert await pending(conn) == []


async def test_current_sql_is_what_the_migrations_make() -> None:
    """schema/current.sql equals empty → latest (`python -m homeserver.storage.migrate > schema/current.sql`)."""
    assert (ROOT / "schema" / "current.sql").read_text(encoding="utf-8") == await current_schema()


def test_the_dump_is_normalised() -> None:
    """What differs between two dumps of one schema does not get into current.sql."""
    dump = "--\n-- Dumped by pg_dump 18.6\n\n\\restrict x7\nSET a = b;\n\n\n\nCREATE TABLE t (\n    n integer\n);\n\n\n"
    assert _normalised(dump) == "CREATE TABLE t (\n    n integer\n);\n"


async def test_the_pool_gives_back_clean_connections(dsn: str) -> None:
    """A connection that comes back in a transaction is rolled back; its session settings are the pool's."""
    pool = await create_pool(dsn, 2)
    async with pool.acquire() as one:
        assert await one.fetchval("SHOW jit") == "off"
        assert await one.fetchval("SHOW idle_in_transaction_session_timeout") == "1min"
        await one.execute("BEGIN; CREATE TABLE never (n integer)")
    async with pool.acquire() as one:
        assert await one.fetchval("SELECT to_regclass('never')") is None
        assert not one.is_in_transaction()
    await pool.close()
