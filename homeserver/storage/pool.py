"""The connections to the database that one process shares."""

from __future__ import annotations

from typing import Any

import asyncpg

from homeserver import metrics


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
            "TimeZone": "UTC",
            # A transaction that forgot itself would hold its locks, and the positions after its own, for ever.
            "idle_in_transaction_session_timeout": "60s",
            "statement_timeout": f"{statement_timeout_seconds * 1000:.0f}",
        },
    )
    metrics.watch_pool(pool)
    return pool


async def _leave_session(_: Any) -> None:
    """Nothing: asyncpg itself has rolled back an open transaction before it asks."""
