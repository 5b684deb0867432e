"""Typing notifications.

# spec: client-server-api/#typing-notifications
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from homeserver.client_api.own_user import check_own_user
from homeserver.client_api.room_access import joined_room_of
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.http.bodies import boolean, integer
from homeserver.protocol.events import JsonObject

if TYPE_CHECKING:
    from homeserver.services import Services

_DEFAULT_MS = 30_000


async def put_typing(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3roomsroomidtypinguserid"""
    check_own_user(request)
    body = await request.json()
    typing = boolean(body, "typing", required=True)
    timeout_ms = integer(body, "timeout", minimum=0)
    room = await joined_room_of(services, request)
    services.presence.active(request.requester.user_nid)
    services.typing.set_local(
        room.nid,
        request.requester.user_id,
        typing=typing,
        timeout_ms=_DEFAULT_MS if timeout_ms is None else timeout_ms,
    )
    return {}


ROUTES: list[Route] = client_routes("PUT", "/rooms/{roomId}/typing/{userId}", put_typing, Auth.GUEST)
