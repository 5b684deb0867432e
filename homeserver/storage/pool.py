"""Connections to the database: the pool that the server's process shares, and the one that a command borrows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from homeserver import metrics
from homeserver.config import Config
from homeserver.storage.embedded import connect_or_start


async def create_pool(
    dsn: str,
    size: int,
    *,
    application_name: str = "talk-pai",
    statement_timeout_seconds: float = 120.0,
) -> asyncpg.Pool[asyncpg.Record]:
    """A pool of at most `size` connections, already connected. Raises what asyncpg raises.

    Whoever borrows a connection leaves it as it was: settings by SET LOCAL, advisory locks of the transaction only,
    LISTEN on a connection taken out of the pool for good. The pool relies on that: it rolls back what was left open but
    does not spend a round trip on resetting the session each time a connection comes back.
    """
    pool = await asyncpg.create_pool(
        dsn,
        min_size=min(size, 4),
        max_size=size,
        statement_cache_size=512,
        # Statements that are prepared once live as long as their connection; a connection is renewed now and then, so
        # that what PostgreSQL caches for it does not grow for ever.
        max_queries=500_000,
        max_inactive_connection_lifetime=600.0,
        reset=_leave_session,
        server_settings={
            "application_name": application_name,
            "jit": "off",
            # A statement is planned while the tables are small and keeps its plan as they grow: one that reads a whole
            # table would cost the more the longer the server runs. Every statement of ours has an index to go by.
            # See docs/decisions/0018.
            "enable_seqscan": "off",
            "TimeZone": "UTC",
            # A transaction that forgot itself would hold its locks, and the positions after its own, for ever.
            "idle_in_transaction_session_timeout": "60s",
            "statement_timeout": f"{statement_timeout_seconds * 1000:.0f}",
        },
    )
    metrics.watch_pool(pool)
    return pool


@asynccontextmanager
async def command_connection(config: Config, progress: Callable[[str], None]) -> AsyncIterator[asyncpg.Connection]:
    """A connection for a command, whether the server runs or not; an embedded database that is down is up meanwhile.

    Must be entered on the main thread. Raises EmbeddedError, and what asyncpg raises.
    """
    if config.database.url is not None:
        async with _connected(config.database.url.get_secret_value()) as conn:
            yield conn
        return
    async with (
        connect_or_start(config.data_dir, config.embedded.binaries, progress=progress) as address,
        _connected(address) as conn,
    ):
        yield conn


@asynccontextmanager
async def _connected(address: str) -> AsyncIterator[asyncpg.Connection]:
    conn = await asyncpg.connect(address, timeout=20, server_settings={"application_name": "talk-pai command"})
    try:
        yield conn
    finally:
        await conn.close()


async def _leave_session(_: Any) -> None:
    """Nothing: asyncpg itself has rolled back an open transaction before it asks."""
