"""The rooms that a user is in.

# spec: client-server-api/#get_matrixclientv3joined_rooms
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.protocol.events import JsonObject
from homeserver.storage.members import joined_rooms

if TYPE_CHECKING:
    from homeserver.services import Services


async def get_joined_rooms(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3joined_rooms"""
    async with services.pool.acquire() as conn:
        room_nids = await joined_rooms(conn, request.requester.user_nid)
    rooms = await services.timeline.names.rooms(room_nids)
    return {"joined_rooms": [rooms[room_nid].room_id for room_nid in room_nids]}


ROUTES: list[Route] = client_routes("GET", "/joined_rooms", get_joined_rooms, Auth.GUEST)
