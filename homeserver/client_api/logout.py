"""Logging out: the device goes with the session.

# spec: client-server-api/#post_matrixclientv3logout
"""

from __future__ import annotations

from homeserver.accounts.sessions import end_sessions
from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.protocol.errors import BadRequest
from homeserver.protocol.events import JsonObject
from homeserver.services import Services


async def post_logout(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3logout"""
    requester = request.requester
    if requester.device_id is None:
        raise BadRequest("An application service has no session to end here", errcode="M_UNKNOWN")
    async with services.stream.write() as write:
        await end_sessions(write, requester.user_nid, [requester.device_id])
    request.sessions_changed(requester.user_nid)
    return {}


async def post_logout_all(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3logoutall"""
    async with services.stream.write() as write:
        await end_sessions(write, request.requester.user_nid)
    request.sessions_changed(request.requester.user_nid)
    return {}


ROUTES = [
    *client_routes("POST", "/logout", post_logout, Auth.GUEST),
    *client_routes("POST", "/logout/all", post_logout_all, Auth.GUEST),
]
