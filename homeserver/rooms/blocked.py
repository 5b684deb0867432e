"""Rooms that administrators keep out: nobody of this server joins, knocks or is invited there."""

from __future__ import annotations

from homeserver.protocol.errors import Forbidden
from homeserver.storage.blocked_rooms import blocker_of
from homeserver.storage.stream import Connection


async def check_not_blocked(conn: Connection, room_id: str) -> None:
    """:raises Forbidden: if the room is kept out"""
    if await blocker_of(conn, room_id) is not None:
        raise Forbidden("This room has been blocked on this server")
