"""Networks that application services bridge to: there is none that this server knows anything of.

# spec: client-server-api/#third-party-networks
"""

from __future__ import annotations

from homeserver.http import ApiRequest, Auth, Response, Route, client_routes, json_response
from homeserver.protocol.errors import NotFound
from homeserver.protocol.events import JsonObject
from homeserver.services import Services


async def get_protocols(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3thirdpartyprotocols"""
    return {}


async def get_protocol(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3thirdpartyprotocolprotocol"""
    raise NotFound("This server does not know that protocol")


async def get_nothing(services: Services, request: ApiRequest) -> Response:
    """# spec: client-server-api/#get_matrixclientv3thirdpartylocation"""
    return json_response([])


ROUTES: list[Route] = [
    *client_routes("GET", "/thirdparty/protocols", get_protocols, Auth.GUEST),
    *client_routes("GET", "/thirdparty/protocol/{protocol}", get_protocol, Auth.GUEST),
    *client_routes("GET", "/thirdparty/location", get_nothing, Auth.GUEST),
    *client_routes("GET", "/thirdparty/location/{protocol}", get_nothing, Auth.GUEST),
    *client_routes("GET", "/thirdparty/user", get_nothing, Auth.GUEST),
    *client_routes("GET", "/thirdparty/user/{protocol}", get_nothing, Auth.GUEST),
]
