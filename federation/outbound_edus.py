"""What our users do that other servers are told in passing: who types, who has read what, who is online.

# spec: server-server-api/#edus
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import asyncpg

from federation.outbox import Outbox
from homeserver.protocol.events import JsonObject
from homeserver.rooms.presence import UserPresence
from homeserver.rooms.receipts import READ, Receipt
from homeserver.services import Services
from homeserver.storage.members import joined_servers
from homeserver.storage.presence import shared_servers
from homeserver.storage.stream import Connection

logger = logging.getLogger(__name__)

_MOST_WAITING = 1_000  # for the database; what comes on top is not told


class OutboundEdus:
    """Tells the servers of a room what happens in it, through the outbox."""

    def __init__(self, services: Services, outbox: Outbox) -> None:
        self._services = services
        self._outbox = outbox
        self._waiting: set[asyncio.Task[None]] = set()

    def listen(self) -> None:
        """From now on, tells."""
        self._services.typing.on_local_change(self._on_typing)
        self._services.receipts.on_local_receipt(self._on_receipt)
        self._services.presence.on_local_change(self._on_presence)

    async def close(self) -> None:
        """Ends what is under way; it is ephemeral."""
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    def _on_typing(self, room_nid: int, user_id: str, typing: bool) -> None:
        self._soon(lambda: self._tell_typing(room_nid, user_id, typing))

    def _on_receipt(self, receipt: Receipt) -> None:
        if receipt.receipt_type == READ:
            self._soon(lambda: self._tell_receipt(receipt))

    def _on_presence(self, user: UserPresence) -> None:
        self._soon(lambda: self._tell_presence(user))

    def _soon(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if len(self._waiting) < _MOST_WAITING:
            task = asyncio.create_task(work())
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _tell_typing(self, room_nid: int, user_id: str, typing: bool) -> None:
        """# spec: server-server-api/#typing-notifications"""
        room = (await self._services.timeline.names.rooms([room_nid]))[room_nid]
        content = {"room_id": room.room_id, "user_id": user_id, "typing": typing}
        await self._tell(room_nid, ("m.typing", room_nid, user_id), {"edu_type": "m.typing", "content": content})

    async def _tell_receipt(self, receipt: Receipt) -> None:
        """# spec: server-server-api/#receipts"""
        told = {receipt.user_id: {"event_ids": [receipt.event_id], "data": receipt.data()}}
        edu = {"edu_type": "m.receipt", "content": {receipt.room.room_id: {READ: told}}}
        await self._tell(receipt.room.nid, ("m.receipt", receipt.room.nid, receipt.user_id, receipt.thread_id), edu)

    async def _tell_presence(self, user: UserPresence) -> None:
        """# spec: server-server-api/#presence"""
        content = user.content(self._services.presence.clock())
        update = {"user_id": user.user_id, "last_active_ago": 0, **content}
        edu = {"edu_type": "m.presence", "content": {"push": [update]}}
        await self._tell_servers(("m.presence", user.user_nid), edu, lambda conn: shared_servers(conn, user.user_nid))

    async def _tell(self, room_nid: int, key: object, edu: JsonObject) -> None:
        await self._tell_servers(key, edu, lambda conn: joined_servers(conn, room_nid))

    async def _tell_servers(
        self, key: object, edu: JsonObject, which: Callable[[Connection], Awaitable[list[str]]]
    ) -> None:
        try:
            async with self._services.pool.acquire() as conn:
                servers = await which(conn)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            logger.info("Other servers are not told of what is ephemeral: %s", error)
            return
        for server in servers:
            self._outbox.queue_edu(server, key, edu)
