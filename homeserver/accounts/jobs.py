"""The loop that does the work whose rows are in `jobs`, and finishes after a restart what was cut short.

A kind of work is a function (tools, work) that can be run again from the progress it noted last. It may take hours: it
says `await work.note(…)` between its steps, each a transaction of its own. An error that may pass is tried again with a
growing pause; a refusal that won't is the end of it, and its text is kept with the row.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from homeserver.protocol.errors import MatrixError, Unavailable
from homeserver.rooms.membership import Membership
from homeserver.storage import jobs as rows
from homeserver.storage.jobs import Job
from homeserver.storage.stream import Pool

log = logging.getLogger(__name__)

_WORKERS = 3
_CLAIM_MS = 120_000
_RENEW_EVERY = 40.0  # seconds
_LONGEST_SLEEP = 10.0  # seconds: what a command orders in another process is seen by then
_MOST_ATTEMPTS = 12
_KEEP_MS = 7 * 24 * 3600_000
_FORGET_EVERY = 3600.0  # seconds
# What is raised when the database is stopped, restarted or unreachable.
_DATABASE_GONE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,
    asyncpg.InternalClientError,
)


class GiveUp(Exception):
    """This work can't be done, now or later; the text says why."""


class Work:
    """One job in progress."""

    def __init__(self, pool: Pool, job: Job) -> None:
        self._pool = pool
        self.job = job
        self.progress: dict[str, Any] = dict(job.progress)

    async def note(self, **progress: Any) -> None:
        """Notes how far it has come: what the next attempt would begin with, and what those who ask are shown."""
        self.progress.update(progress)
        async with self._pool.acquire() as conn:
            await rows.note_progress(conn, self.job.job_id, self.progress, _now_ms() + _CLAIM_MS)


@dataclass(frozen=True, slots=True)
class Tools:
    """What work is done with."""

    membership: Membership

    @property
    def pool(self) -> Pool:
        return self.membership.timeline.stream.pool


Handler = Callable[[Tools, Work], Awaitable[None]]


class Jobs:
    """The work of this process. `handlers` has a function for each kind."""

    def __init__(self, tools: Tools, handlers: Mapping[str, Handler]) -> None:
        self._tools = tools
        self._handlers = handlers
        self._wake = asyncio.Event()
        self._finished: dict[str, asyncio.Event] = {}

    def wake(self) -> None:
        """Says that work was ordered, after the commit."""
        self._wake.set()

    async def wait(self, job_id: str, seconds: float) -> None:
        """Waits until that work is done, but not longer than so many seconds. After the commit."""
        finished = self._finished.setdefault(job_id, asyncio.Event())
        self.wake()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await finished.wait()
        finally:
            self._finished.pop(job_id, None)

    async def run(self) -> None:
        """Does what there is to do, until cancelled."""
        await asyncio.gather(self._forget_now_and_then(), *(self._run_one() for _ in range(_WORKERS)))

    async def _run_one(self) -> None:
        while True:
            try:
                job = await self._claim()
                if job is not None:
                    await self._do(job)
                    continue
                self._wake.clear()
                sleep = await self._pause()
            except _DATABASE_GONE as error:
                log.warning("Background work has to wait: %s", error)
                sleep = _LONGEST_SLEEP
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(sleep):
                    await self._wake.wait()

    async def _claim(self) -> Job | None:
        now = _now_ms()
        async with self._tools.pool.acquire() as conn:
            return await rows.claim_job(conn, now, now + _CLAIM_MS)

    async def _pause(self) -> float:
        """How long nothing is due, in seconds."""
        async with self._tools.pool.acquire() as conn:
            due = await rows.next_due(conn)
        return _LONGEST_SLEEP if due is None else max(0.0, min(_LONGEST_SLEEP, (due - _now_ms()) / 1000))

    async def _do(self, job: Job) -> None:
        work = Work(self._tools.pool, job)
        handler = self._handlers.get(job.kind)
        error: str | None = None
        try:
            if handler is None:
                raise GiveUp(f"This version knows no work of the kind {job.kind}")
            async with self._claimed(job):
                await handler(self._tools, work)
        except _DATABASE_GONE:
            raise  # nobody could note anything now: the claim runs out, and it is tried again
        except (GiveUp, MatrixError) as failure:
            error = failure.message if isinstance(failure, MatrixError) else str(failure)
            if isinstance(failure, Unavailable) and job.attempts < _MOST_ATTEMPTS:
                await self._put_off(job, error)
                return
        except Exception:
            log.exception("%s of %s (job %s) failed", job.kind, job.target, job.job_id)
            error = "an internal error, see the server's log"
            if job.attempts < _MOST_ATTEMPTS:
                await self._put_off(job, error)
                return
        async with self._tools.pool.acquire() as conn:
            await rows.finish_job(conn, job.job_id, work.progress, error, _now_ms())
        if finished := self._finished.get(job.job_id):
            finished.set()

    @contextlib.asynccontextmanager
    async def _claimed(self, job: Job) -> AsyncIterator[None]:
        """Renews the claim meanwhile: another server may take its time to answer one step."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(_RENEW_EVERY)
                with contextlib.suppress(*_DATABASE_GONE):
                    async with self._tools.pool.acquire() as conn:
                        await rows.renew_claim(conn, job.job_id, _now_ms() + _CLAIM_MS)

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})

    async def _put_off(self, job: Job, error: str) -> None:
        pause = min(3600_000, 5_000 * 2**job.attempts)
        async with self._tools.pool.acquire() as conn:
            await rows.put_off(conn, job.job_id, error, _now_ms() + pause)

    async def _forget_now_and_then(self) -> None:
        while True:
            try:
                async with self._tools.pool.acquire() as conn:
                    await rows.forget_finished(conn, _now_ms() - _KEEP_MS)
            except _DATABASE_GONE as error:
                log.warning("Could not forget finished background work: %s", error)
            await asyncio.sleep(_FORGET_EVERY)


def _now_ms() -> int:
    return int(time.time() * 1000)
