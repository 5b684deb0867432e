"""The rooms of a space.  # spec: client-server-api/#discovering-rooms-within-spaces"""

from __future__ import annotations

from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.protocol.errors import Forbidden
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import is_room_id
from homeserver.rooms.space_hierarchy import DEEPEST, MOST_ROOMS, HierarchyRequest
from homeserver.services import Services

_DEFAULT_ROOMS = 50


async def get_hierarchy(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv1roomsroomidhierarchy"""
    query, room_id = request.query, request.params["roomId"]
    wanted = HierarchyRequest(
        room_id=room_id,
        suggested_only=query.boolean("suggested_only"),
        max_depth=min(query.integer("max_depth", default=DEEPEST, minimum=0), DEEPEST),
        limit=min(query.integer("limit", default=_DEFAULT_ROOMS, minimum=1), MOST_ROOMS),
        token=query.string("from"),
    )
    if not is_room_id(room_id):
        raise Forbidden("You are not allowed to view this room")
    return await services.spaces.page(request.requester.user_nid, wanted)


ROUTES: list[Route] = client_routes(
    "GET", "/rooms/{roomId}/hierarchy", get_hierarchy, Auth.GUEST, versions=("v1",), unstable=("org.matrix.msc2946",)
)
