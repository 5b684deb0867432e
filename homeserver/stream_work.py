"""What the senders of what others must know have in common: each follows the stream, and works for many at once.

A sender reads what was committed since it last looked and enters who must be told; that somebody woke it up is only a
hint. While the database is away it waits, and finds everything when it is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

import asyncpg

logger = logging.getLogger(__name__)

DATABASE_GONE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)

_PAUSE_AFTER_ERROR = 5.0  # seconds, after an error of our own
_PACE = 0.02  # seconds from one look to the next: a busy server's events go out together …
_IDLE_PACE = 0.1  # … and one that has nobody to tell does not look all the time


async def follow_stream(
    name: str, wake: asyncio.Event, resume: Callable[[], Awaitable[None]], look: Callable[[], Awaitable[bool]]
) -> None:
    """Looks at what is new whenever `wake` is set, until cancelled.

    :param name: what follows, for the log
    :param resume: takes up what an earlier process left; called once, before the first look
    :param look: deals with what is new and says whether it concerned anyone
    """
    resumed = False
    while True:
        wake.clear()
        try:
            if not resumed:
                await resume()
                resumed = True
            found = await look()
        except DATABASE_GONE as error:
            logger.warning("The %s waits for the database: %s", name, error)
            await asyncio.sleep(_PAUSE_AFTER_ERROR)
        else:
            await asyncio.sleep(_PACE if found else _IDLE_PACE)
            await wake.wait()


async def cancel_work(tasks: Iterable[asyncio.Task[None] | None], timers: Iterable[asyncio.TimerHandle | None]) -> None:
    """Ends all of it; returns when the tasks are over."""
    for timer in timers:
        if timer is not None:
            timer.cancel()
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
