"""Backups of room keys.

# spec: client-server-api/#server-side-key-backups
"""

from __future__ import annotations

from typing import Any

from homeserver.devices import key_backup
from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.http.bodies import json_object, string
from homeserver.protocol.errors import InvalidParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.services import Services


async def post_version(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3room_keysversion"""
    body = await request.json()
    algorithm = string(body, "algorithm", required=True)
    auth_data = json_object(body, "auth_data", required=True)
    user_nid = request.requester.user_nid
    return {"version": await key_backup.create_version(services.pool, user_nid, algorithm, auth_data)}


async def get_version(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3room_keysversionversion"""
    return await key_backup.find_version(services.pool, request.requester.user_nid, request.params.get("version"))


async def put_version(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3room_keysversionversion"""
    body = await request.json()
    version = request.params["version"]
    algorithm = string(body, "algorithm", required=True)
    auth_data = json_object(body, "auth_data", required=True)
    if string(body, "version") not in (None, version):
        raise InvalidParam("The version of the body is not that of the path")
    await key_backup.update_version(services.pool, request.requester.user_nid, version, algorithm, auth_data)
    return {}


async def delete_version(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#delete_matrixclientv3room_keysversionversion"""
    await key_backup.delete_version(services.pool, request.requester.user_nid, request.params["version"])
    return {}


async def put_keys(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3room_keyskeys"""
    return await _store(services, request, json_object(await request.json(), "rooms", required=True))


async def put_room(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3room_keyskeysroomid"""
    return await _store(services, request, {request.params["roomId"]: await request.json()})


async def put_session(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3room_keyskeysroomidsessionid"""
    sessions = {request.params["sessionId"]: await request.json()}
    return await _store(services, request, {request.params["roomId"]: {"sessions": sessions}})


async def get_keys(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3room_keyskeys"""
    return {
        "rooms": {room_id: {"sessions": sessions} for room_id, sessions in (await _find(services, request)).items()}
    }


async def get_room(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3room_keyskeysroomid"""
    return {"sessions": (await _find(services, request)).get(request.params["roomId"], {})}


async def get_session(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3room_keyskeysroomidsessionid"""
    sessions = (await _find(services, request)).get(request.params["roomId"], {})
    if request.params["sessionId"] not in sessions:
        raise NotFound("Key not found.")
    return sessions[request.params["sessionId"]]


async def delete_keys(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#delete_matrixclientv3room_keyskeys"""
    version, params = _version(request), request.params
    return await key_backup.delete_keys(
        services.pool, request.requester.user_nid, version, params.get("roomId"), params.get("sessionId")
    )


async def _store(services: Services, request: ApiRequest, rooms: dict[str, Any]) -> JsonObject:
    return await key_backup.store_keys(services.pool, request.requester.user_nid, _version(request), rooms)


async def _find(services: Services, request: ApiRequest) -> dict[str, dict[str, JsonObject]]:
    version, params = _version(request), request.params
    return await key_backup.find_keys(
        services.pool, request.requester.user_nid, version, params.get("roomId"), params.get("sessionId")
    )


def _version(request: ApiRequest) -> str:
    return request.query.string("version", required=True)


_KEYS = "/room_keys/keys"
_ROOM = f"{_KEYS}/{{roomId}}"
_SESSION = f"{_ROOM}/{{sessionId}}"
_UNSTABLE = ("",)  # where the proposal had them

ROUTES = [
    *client_routes("POST", "/room_keys/version", post_version, Auth.USER, unstable=_UNSTABLE),
    *client_routes("GET", "/room_keys/version", get_version, Auth.USER, unstable=_UNSTABLE),
    *client_routes("GET", "/room_keys/version/{version}", get_version, Auth.USER, unstable=_UNSTABLE),
    *client_routes("PUT", "/room_keys/version/{version}", put_version, Auth.USER, unstable=_UNSTABLE),
    *client_routes("DELETE", "/room_keys/version/{version}", delete_version, Auth.USER, unstable=_UNSTABLE),
    *client_routes("PUT", _KEYS, put_keys, Auth.USER, unstable=_UNSTABLE),
    *client_routes("GET", _KEYS, get_keys, Auth.USER, unstable=_UNSTABLE),
    *client_routes("DELETE", _KEYS, delete_keys, Auth.USER, unstable=_UNSTABLE),
    *client_routes("PUT", _ROOM, put_room, Auth.USER, unstable=_UNSTABLE),
    *client_routes("GET", _ROOM, get_room, Auth.USER, unstable=_UNSTABLE),
    *client_routes("DELETE", _ROOM, delete_keys, Auth.USER, unstable=_UNSTABLE),
    *client_routes("PUT", _SESSION, put_session, Auth.USER, unstable=_UNSTABLE),
    *client_routes("GET", _SESSION, get_session, Auth.USER, unstable=_UNSTABLE),
    *client_routes("DELETE", _SESSION, delete_keys, Auth.USER, unstable=_UNSTABLE),
]
