"""Work that outlives the request that asked for it: a row each, until it is done and for a while after.

Whoever works on a row has claimed it until a moment that it moves ahead as it goes. If the process dies, the moment
passes and the work is claimed again, here or elsewhere, with the progress that was noted last.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class Job:
    """`target` is a user id or a room id; `status` scheduled, active, complete or failed."""

    job_id: str
    kind: str
    target: str
    params: dict[str, Any]
    progress: dict[str, Any]
    status: str
    error: str | None
    created_ts: int
    finished_ts: int | None
    attempts: int


_COLUMNS = "job_id, kind, target, params, progress, status, error, created_ts, finished_ts, attempts"


def _job(row: asyncpg.Record) -> Job:
    values = dict(row)
    values["params"], values["progress"] = orjson.loads(values["params"]), orjson.loads(values["progress"])
    return Job(**values)


async def insert_job(conn: Connection, kind: str, target: str, params: dict[str, Any], now_ms: int) -> str:
    """Orders work, in the transaction of what it belongs to; its id."""
    job_id = secrets.token_urlsafe(16)
    await conn.execute(
        "INSERT INTO jobs (job_id, kind, target, params, created_ts) VALUES ($1, $2, $3, $4, $5)",
        job_id,
        kind,
        target,
        orjson.dumps(params).decode(),
        now_ms,
    )
    return job_id


async def claim_job(conn: Connection, now_ms: int, until_ms: int) -> Job | None:
    """Claims the oldest work that nobody has claimed past now."""
    row = await conn.fetchrow(
        f"UPDATE jobs SET claimed_until = $2, status = 'active', attempts = attempts + 1 WHERE job_id = ("  # noqa: S608
        "SELECT job_id FROM jobs WHERE finished_ts IS NULL AND claimed_until <= $1 "
        f"ORDER BY claimed_until, created_ts LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING {_COLUMNS}",
        now_ms,
        until_ms,
    )
    return _job(row) if row is not None else None


async def next_due(conn: Connection) -> int | None:
    """When the next work that is open can be claimed, in milliseconds; None if none is open."""
    found: int | None = await conn.fetchval("SELECT min(claimed_until) FROM jobs WHERE finished_ts IS NULL")
    return found


async def note_progress(conn: Connection, job_id: str, progress: dict[str, Any], until_ms: int) -> None:
    """Notes what has been done, and claims the work until a later moment."""
    await conn.execute(
        "UPDATE jobs SET progress = $2, claimed_until = $3 WHERE job_id = $1 AND finished_ts IS NULL",
        job_id,
        orjson.dumps(progress).decode(),
        until_ms,
    )


async def renew_claim(conn: Connection, job_id: str, until_ms: int) -> None:
    """Claims the work until a later moment."""
    await conn.execute("UPDATE jobs SET claimed_until = $2 WHERE job_id = $1 AND finished_ts IS NULL", job_id, until_ms)


async def put_off(conn: Connection, job_id: str, error: str, until_ms: int) -> None:
    """Notes that an attempt has failed, and when the next is due."""
    await conn.execute(
        "UPDATE jobs SET error = $2, claimed_until = $3, status = 'scheduled' WHERE job_id = $1",
        job_id,
        error,
        until_ms,
    )


async def finish_job(conn: Connection, job_id: str, progress: dict[str, Any], error: str | None, now_ms: int) -> None:
    """The work is done, or given up because of `error`."""
    await conn.execute(
        "UPDATE jobs SET status = $2, error = $3, progress = $4, finished_ts = $5 WHERE job_id = $1",
        job_id,
        "complete" if error is None else "failed",
        error,
        orjson.dumps(progress).decode(),
        now_ms,
    )


async def find_job(conn: Connection, job_id: str, kinds: Sequence[str]) -> Job | None:
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM jobs WHERE job_id = $1 AND kind = ANY($2)",  # noqa: S608
        job_id,
        list(kinds),
    )
    return _job(row) if row is not None else None


async def jobs_about(conn: Connection, target: str, kinds: Sequence[str], limit: int = 100) -> list[Job]:
    """The newest work on `target`, the newest first."""
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM jobs WHERE target = $1 AND kind = ANY($2) "  # noqa: S608
        "ORDER BY created_ts DESC LIMIT $3",
        target,
        list(kinds),
        limit,
    )
    return [_job(row) for row in rows]


async def forget_finished(conn: Connection, before_ms: int) -> None:
    await conn.execute("DELETE FROM jobs WHERE finished_ts < $1", before_ms)
