"""What tests of the admin API share: an administrator, and a look into the audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import orjson
import pytest

from tests.support.api import Api

Audited = Callable[[], Awaitable[list[tuple[str, str, dict[str, Any]]]]]


@pytest.fixture
async def sql(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to the server's database."""
    conn = await asyncpg.connect(database)
    yield conn
    await conn.close()


@pytest.fixture
async def admin(api: Api, sql: asyncpg.Connection[asyncpg.Record]) -> Api:
    """An administrator, named boss."""
    made = await api.register("boss")
    await sql.execute(
        "UPDATE accounts SET admin = true WHERE user_nid = (SELECT user_nid FROM users WHERE user_id = $1)",
        made.user_id,
    )
    return await api.login(made.user_id)


@pytest.fixture
def audited(sql: asyncpg.Connection[asyncpg.Record]) -> Audited:
    """A function that gives (action, target, details) of every row of the audit log, the oldest first."""

    async def read() -> list[tuple[str, str, dict[str, Any]]]:
        rows = await sql.fetch("SELECT action, target, details FROM audit_log ORDER BY audit_id")
        return [(row["action"], row["target"], orjson.loads(row["details"])) for row in rows]

    return read
