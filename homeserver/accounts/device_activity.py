"""When and from where each device was last seen.

Noted in memory by every request and written in one statement now and then, because a write for each request would cost
more than most requests do. A crash loses a few minutes of it.
"""

from __future__ import annotations

import asyncio
import logging

import asyncpg

from homeserver.storage.devices import update_last_seen
from homeserver.storage.stream import Pool

log = logging.getLogger(__name__)

_WORTH_WRITING_MS = 3 * 60 * 1000  # a device that was seen this recently is not written again
_WRITE_EVERY = 20.0  # seconds


class DeviceActivity:
    """What is noted and not yet written."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._seen: dict[tuple[int, str], tuple[int, str]] = {}

    def seen(self, user_nid: int, device_id: str, last_seen_ts: int | None, now_ms: int, address: str) -> None:
        """Notes that a device makes a request. `last_seen_ts` is what the database has."""
        if last_seen_ts is None or now_ms - last_seen_ts > _WORTH_WRITING_MS:
            self._seen[user_nid, device_id] = (now_ms, address)

    async def run(self) -> None:
        """Writes what is noted, until cancelled."""
        while True:
            await asyncio.sleep(_WRITE_EVERY)
            await self.write()

    async def write(self) -> None:
        """Writes what is noted. If the database doesn't take it, it is lost."""
        if not self._seen:
            return
        seen, self._seen = self._seen, {}
        try:
            async with self._pool.acquire() as conn:
                await update_last_seen(conn, [(nid, device, ts, ip) for (nid, device), (ts, ip) in seen.items()])
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            log.warning("Could not write when devices were last seen: %s", error)
