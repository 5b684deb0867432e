"""What tests of every package share: databases, a running server, and the API as its clients call it.

One PostgreSQL runs for each test process, in a temporary directory, and does not wait for the disk. Every test that
asks for a database gets a new one, copied from a migrated template in some 20 ms.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from homeserver.main import Server, running_server
from homeserver.storage.embedded import EmbeddedPostgres
from homeserver.storage.migrate import migrate
from tests.support.api import Api, open_api
from tests.support.servers import server_config

_TEMPLATE = "talkpai"
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of a PostgreSQL, at its maintenance database, as a user who may do everything."""
    with tempfile.TemporaryDirectory(prefix="tp-", dir=_memory()) as directory:
        database = EmbeddedPostgres(Path(directory), max_connections=400)
        url = _at(asyncio.run(database.start()), "postgres")
        try:
            asyncio.run(_prepare(url))
            yield url
        finally:
            asyncio.run(database.stop())


def _memory() -> str | None:
    """A directory in memory with room enough, if there is one: databases are made there several times as fast."""
    shared = Path("/dev/shm")
    if os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 4 * 1024**3:
        return str(shared)
    return None


async def _prepare(url: str) -> None:
    conn = await asyncpg.connect(url)
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        await conn.execute(f"ALTER SYSTEM SET {setting} = off")
    await conn.execute("SELECT pg_reload_conf()")
    await conn.close()
    conn = await asyncpg.connect(_at(url, _TEMPLATE))
    await migrate(conn)
    await conn.close()


@pytest.fixture
async def make_database(postgres_url: str) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """A function that makes an empty, migrated database and returns its address. They are gone after the test."""
    async with databases(postgres_url) as make:
        yield make


@asynccontextmanager
async def databases(postgres_url: str) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """What `make_database` gives, for fixtures that live longer than a test; the databases are gone after the block."""
    made: list[str] = []
    admin = await asyncpg.connect(postgres_url)

    async def make() -> str:
        name = f"test_{next(_numbers)}"
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY file_copy")
        made.append(name)
        return _at(postgres_url, name)

    try:
        yield make
    finally:
        for name in made:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


@pytest.fixture
async def database(make_database: Callable[[], Awaitable[str]]) -> str:
    """The address of an empty, migrated database."""
    return await make_database()


@pytest.fixture
async def server(database: str, tmp_path: Path) -> AsyncIterator[Server]:
    """A running server of test.example with open registration."""
    async with running_server(server_config(database, tmp_path)) as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    """The API of `server`, called without a token."""
    async with open_api(server.url) as api:
        yield api


@pytest.fixture
async def alice(api: Api) -> Api:
    """The API of `server`, called by a user."""
    return await api.register("alice")


def _at(url: str, name: str) -> str:
    """The same server's database `name`, as its superuser: others may only connect to the one that is theirs."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc="postgres@", path=f"/{name}"))
