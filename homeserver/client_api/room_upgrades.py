"""Replacing rooms.  # spec: client-server-api/#room-upgrades"""

from __future__ import annotations

from homeserver.client_api.rooms import room_of, user_id_in
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.http.bodies import array_of_strings, string
from homeserver.protocol.events import JsonObject
from homeserver.protocol.room_versions import room_version
from homeserver.rooms.upgrade import upgrade_room
from homeserver.services import Services

_MOST_CREATORS = 100


async def post_upgrade(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3roomsroomidupgrade"""
    body = await request.json()
    version = room_version(string(body, "new_version", required=True))
    creators = array_of_strings(body, "additional_creators", max_items=_MOST_CREATORS) or []
    if version.privileged_creators:
        creators = [user_id_in(user_id) for user_id in creators]
    room = await room_of(services, request)
    new = await upgrade_room(services.membership, room, request.requester.user_id, version, creators)
    return {"replacement_room": new.room_id}


ROUTES: list[Route] = client_routes("POST", "/rooms/{roomId}/upgrade", post_upgrade, Auth.USER, limit="create_room")
