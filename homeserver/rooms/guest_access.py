"""Guests: in a room as long as it lets them.

Nobody but a guest's own server knows that the user is one, so that each server sees to its own guests: they enter only
where m.room.guest_access says `can_join`, and when it no longer does, they leave.

# spec: client-server-api/#guest-access
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncpg

from homeserver.protocol.errors import Forbidden, MatrixError, Unavailable
from homeserver.remote import Remote
from homeserver.rooms.timeline import Timeline
from homeserver.storage.guests import guests_in, is_guest, rooms_without_guest_access
from homeserver.storage.names import Room

if TYPE_CHECKING:
    from homeserver.rooms.membership import Membership

logger = logging.getLogger(__name__)

_TYPE = "m.room.guest_access"
_DATABASE_GONE = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
_RETRY_SECONDS = 30.0


async def is_one(timeline: Timeline, user_id: str) -> bool:
    """Whether this user of ours is a guest."""
    async with timeline.stream.pool.acquire() as conn:
        return await is_guest(conn, user_id)


async def lets_guests_in(timeline: Timeline, room: Room) -> bool:
    """Whether a room that this server is in takes guests."""
    async with timeline.stream.pool.acquire() as conn:
        head = await timeline.head(conn, room)
        event = await head.state_event(conn, timeline.names, _TYPE)
    return event is not None and event.content.get("guest_access") == "can_join"


async def lets_guests_in_elsewhere(remote: Remote, room_id: str, servers: Sequence[str]) -> bool:
    """Whether a room that this server is not in takes guests, as the first server says that says anything."""
    for server in servers:
        try:
            answer = await remote.hierarchy(server, room_id, suggested_only=True)
        except (Unavailable, Forbidden) as error:
            logger.info("%s does not say whether guests may join %s: %s", server, room_id, error)
            continue
        room = answer.get("room")
        return isinstance(room, dict) and room.get("guest_can_join") is True
    return False


def no_guests() -> Forbidden:
    """What a guest is told who may not come in."""
    return Forbidden("Guests can't join this room", errcode="M_GUEST_ACCESS_FORBIDDEN")


class GuestAccess:
    """Lets guests leave rooms that no longer take them: those of `closed`, and at the start all there are."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._timeline = membership.timeline
        self._closed: set[Room] = set()
        self._woken = asyncio.Event()
        self._timeline.on_guests_shut_out(self.closed)

    def closed(self, room: Room) -> None:
        """Guests are no longer welcome in that room."""
        self._closed.add(room)
        self._woken.set()

    async def run(self) -> None:
        """The background work, until cancelled."""
        await self._find_closed()
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._closed:
                room = self._closed.pop()
                try:
                    await self.put_out(room)
                except _DATABASE_GONE as error:
                    logger.warning("Guests could not be put out of %s: %s", room.room_id, error)
                    self._closed.add(room)
                    await asyncio.sleep(_RETRY_SECONDS)

    async def _find_closed(self) -> None:
        """What a server that stopped in between did not get to."""
        async with self._timeline.stream.pool.acquire() as conn:
            nids = await rooms_without_guest_access(conn)
        for room in (await self._timeline.names.rooms(nids)).values():
            self.closed(room)

    async def put_out(self, room: Room) -> None:
        """Lets every guest of ours leave the room, unless it takes guests after all."""
        if await lets_guests_in(self._timeline, room):
            return
        async with self._timeline.stream.pool.acquire() as conn:
            guests = await guests_in(conn, room.nid)
        for user_id in guests:
            try:
                await self._membership.leave(room, user_id)
            except MatrixError as error:  # gone already, or nobody is there who could take the leave
                logger.info("%s could not be put out of %s: %s", user_id, room.room_id, error)
