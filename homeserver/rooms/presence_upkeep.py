"""What presence has of the database: it wakes those who share rooms with a user, and survives restarts.

Both happen in the background, for many users at once, so that nobody who syncs or sends waits for it.
"""

from __future__ import annotations

import asyncio
import logging

import asyncpg

from homeserver.changes import Changes
from homeserver.rooms.presence import Presence, UserPresence
from homeserver.storage.presence import load_presence, rooms_of_users, write_presence
from homeserver.storage.stream import Pool

log = logging.getLogger(__name__)

_WRITE_EVERY = 60.0  # seconds
_MOST_RESTORED = 50_000
_DATABASE_GONE = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


class PresenceUpkeep:
    """The background work of one server's presence."""

    def __init__(self, presence: Presence, pool: Pool, changes: Changes, server_name: str) -> None:
        self._presence = presence
        self._pool = pool
        self._changes = changes
        self._server_name = server_name
        self._to_tell: set[int] = set()
        self._woken = asyncio.Event()
        presence.on_change(self._on_change)

    def _on_change(self, user: UserPresence) -> None:
        self._to_tell.add(user.user_nid)
        self._woken.set()

    async def restore(self) -> None:
        """Takes over what was written before this server started."""
        if not self._presence.enabled:
            return
        async with self._pool.acquire() as conn:
            rows = await load_presence(conn, _MOST_RESTORED)
        self._presence.restore(
            [
                UserPresence(
                    row.user_nid,
                    row.user_id,
                    local=row.server == self._server_name,
                    presence=row.presence,
                    status_msg=row.status_msg,
                    last_active=row.last_active_ts,
                )
                for row in rows
            ]
        )

    async def run(self) -> None:
        """Wakes whoever should see a change, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                await self.tell()
            except _DATABASE_GONE as error:
                log.warning("Nobody could be told of changes of presence: %s", error)

    async def tell(self) -> None:
        """Wakes those who share rooms with users whose presence has changed."""
        users, self._to_tell = self._to_tell, set()
        if users:
            async with self._pool.acquire() as conn:
                rooms = await rooms_of_users(conn, users)
            self._changes.publish(rooms=rooms, users=users)

    async def write_now_and_then(self) -> None:
        """Writes what has changed, until cancelled."""
        while True:
            await asyncio.sleep(_WRITE_EVERY)
            try:
                await self.write()
            except _DATABASE_GONE as error:
                log.warning("Presence could not be written: %s", error)

    async def write(self) -> None:
        """Writes what has changed."""
        users = self._presence.take_unwritten()
        if users:
            rows = [(user.user_nid, user.presence, user.status_msg, user.last_active) for user in users]
            async with self._pool.acquire() as conn:
                await write_presence(conn, sorted(rows, key=lambda row: row[0]))
