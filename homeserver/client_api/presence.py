"""Who is online, for those who ask.  # spec: client-server-api/#presence"""

from __future__ import annotations

from homeserver.client_api.own_user import check_own_user
from homeserver.client_api.rooms import user_id_in
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.http.bodies import string
from homeserver.protocol.errors import BadJson, Forbidden, MissingParam
from homeserver.protocol.events import JsonObject
from homeserver.rooms.presence import OFFLINE, STATES
from homeserver.services import Services
from homeserver.storage.members import joined_rooms
from homeserver.storage.presence import members_among
from homeserver.storage.sync_reads import known_user_nids

_MAX_STATUS = 2048


async def put_status(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3presenceuseridstatus"""
    check_own_user(request)
    body = await request.json()
    state = string(body, "presence")
    if state is None:
        raise MissingParam("presence is missing")
    if state not in STATES:
        raise BadJson(f"presence must be one of {', '.join(STATES)}")
    status_msg = string(body, "status_msg", max_length=_MAX_STATUS)
    requester = request.requester
    services.presence.set_local(requester.user_nid, requester.user_id, requester.device_id, state, status_msg)
    return {}


async def get_status(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3presenceuseridstatus"""
    user_id = user_id_in(request.params["userId"])
    async with services.pool.acquire() as conn:
        nids = await known_user_nids(conn, [user_id])
        if user_id != request.requester.user_id:
            rooms = await joined_rooms(conn, request.requester.user_nid)
            # Whether there is such a user at all is none of the business of those who share no room with them.
            if not await members_among(conn, rooms, nids):
                raise Forbidden("You share no room with that user")
    user = services.presence.of(nids[0])
    return {"presence": OFFLINE} if user is None else user.content(services.presence.clock())


ROUTES: list[Route] = [
    *client_routes("PUT", "/presence/{userId}/status", put_status, Auth.USER),
    *client_routes("GET", "/presence/{userId}/status", get_status, Auth.GUEST),
]
