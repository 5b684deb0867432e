"""A user's new name or picture, told to the rooms the user is in.

# spec: client-server-api/#events-on-change-of-profile-information
"""

from __future__ import annotations

import asyncio
import logging

from homeserver.protocol.errors import MatrixError
from homeserver.rooms.timeline import NewEvent, Timeline
from homeserver.storage.members import joined_rooms
from homeserver.storage.profiles import profile_of

logger = logging.getLogger(__name__)

_AT_ONCE = 8


async def update_member_events(timeline: Timeline, user_id: str) -> None:
    """Sends a member event with the user's profile as it is now to every room that the user is joined to.

    A room that refuses it keeps the old one; the others are not concerned.
    """
    user_nid = await timeline.names.user_nid(user_id)
    async with timeline.stream.pool.acquire() as conn:
        room_nids = await joined_rooms(conn, user_nid)
    slots = asyncio.Semaphore(_AT_ONCE)

    async def update(room_nid: int) -> None:
        async with slots:
            try:
                await _update_member_event(timeline, room_nid, user_id)
            except MatrixError as error:
                logger.info("Room %d did not take the new profile of %s: %s", room_nid, user_id, error)

    await asyncio.gather(*(update(room_nid) for room_nid in room_nids))


async def _update_member_event(timeline: Timeline, room_nid: int, user_id: str) -> None:
    room = (await timeline.names.rooms([room_nid]))[room_nid]
    async with timeline.locked(room, 1) as append:
        conn = append.write.conn
        current = await append.head.state_event(conn, timeline.names, "m.room.member", user_id)
        if current is None or current.membership != "join":
            return
        kept = {
            key: value
            for key, value in current.content.items()
            if key not in ("displayname", "avatar_url", "join_authorised_via_users_server")
        }
        content = kept | await profile_of(conn, user_id)
        await timeline.append_new(append, NewEvent("m.room.member", user_id, content, state_key=user_id))
