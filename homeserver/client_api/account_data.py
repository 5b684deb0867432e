"""What clients keep here for their user: account data, global and by room.

# spec: client-server-api/#client-config
"""

from __future__ import annotations

from homeserver.client_api.own_user import check_own_user
from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.protocol.canonical_json import decode_json, encode_json
from homeserver.protocol.errors import InvalidParam, MatrixError, NotFound, TooLarge
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import is_room_id
from homeserver.protocol.push_rule_edits import ruleset_json
from homeserver.services import Services
from homeserver.storage.account_data import DELETED, GLOBAL, find_account_data, put_account_data
from homeserver.storage.push_rules import find_push_rules
from homeserver.storage.stream import Connection

_MAX_BYTES = 1024 * 1024
_MAX_TYPE = 255
_SERVERS_OWN = ("m.fully_read", "m.push_rules")


async def put_global(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3useruseridaccount_datatype"""
    check_own_user(request)
    await _put(services, request, GLOBAL)
    return {}


async def put_for_room(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3useruseridroomsroomidaccount_datatype"""
    check_own_user(request)
    await _put(services, request, await room_nid_of(services, request))
    return {}


async def get_global(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3useruseridaccount_datatype"""
    check_own_user(request)
    if request.params["type"] == "m.push_rules":
        async with services.pool.acquire() as conn:
            rules = await find_push_rules(conn, request.requester.user_nid)
        return {"global": ruleset_json(rules, request.requester.user_id)}
    return await _get(services, request, GLOBAL)


async def get_for_room(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3useruseridroomsroomidaccount_datatype"""
    check_own_user(request)
    return await _get(services, request, await room_nid_of(services, request))


async def delete_global(services: Services, request: ApiRequest) -> JsonObject:
    """DELETE …/account_data/{type} (MSC3391): whether there was any does not matter."""
    check_own_user(request)
    await _write(services, request, GLOBAL, DELETED)
    return {}


async def delete_for_room(services: Services, request: ApiRequest) -> JsonObject:
    """DELETE …/rooms/{roomId}/account_data/{type} (MSC3391)"""
    check_own_user(request)
    await _write(services, request, await room_nid_of(services, request), DELETED)
    return {}


async def _put(services: Services, request: ApiRequest, room_nid: int) -> None:
    await _write(services, request, room_nid, encode_json(await request.json()))


async def _write(services: Services, request: ApiRequest, room_nid: int, content: bytes) -> None:
    type = request.params["type"]
    if type in _SERVERS_OWN:
        raise MatrixError(f"{type} can't be set this way", errcode="M_BAD_JSON", status=405)
    if len(type) > _MAX_TYPE:
        raise InvalidParam(f"The type is longer than {_MAX_TYPE} characters")
    if len(content) > _MAX_BYTES:
        raise TooLarge(f"Account data may have at most {_MAX_BYTES} bytes")
    user_nid = request.requester.user_nid
    async with services.stream.write() as write:
        if content == DELETED and await _is_gone(write.conn, user_nid, type, room_nid):
            return
        await put_account_data(write.conn, user_nid, type, content, await write.next_position(), room_nid=room_nid)
        write.changed(users=[user_nid])


async def _get(services: Services, request: ApiRequest, room_nid: int) -> JsonObject:
    async with services.pool.acquire() as conn:
        content = await find_account_data(conn, request.requester.user_nid, request.params["type"], room_nid=room_nid)
    if content is None or content == DELETED:
        raise NotFound("There is no such account data")
    found: JsonObject = decode_json(content)
    return found


async def _is_gone(conn: Connection, user_nid: int, type: str, room_nid: int) -> bool:
    return await find_account_data(conn, user_nid, type, room_nid=room_nid) in (None, DELETED)


async def room_nid_of(services: Services, request: ApiRequest) -> int:
    """The number of the path's room. Raises InvalidParam, NotFound."""
    room_id = request.params["roomId"]
    if not is_room_id(room_id):
        raise InvalidParam("This is not a room id")
    return (await services.timeline.room(room_id)).nid


_UNSTABLE = ("org.matrix.msc3391",)

ROUTES = [
    *client_routes("DELETE", "/user/{userId}/account_data/{type}", delete_global, Auth.USER, unstable=_UNSTABLE),
    *client_routes(
        "DELETE", "/user/{userId}/rooms/{roomId}/account_data/{type}", delete_for_room, Auth.USER, unstable=_UNSTABLE
    ),
    *client_routes("PUT", "/user/{userId}/account_data/{type}", put_global, Auth.USER),
    *client_routes("GET", "/user/{userId}/account_data/{type}", get_global, Auth.USER),
    *client_routes("PUT", "/user/{userId}/rooms/{roomId}/account_data/{type}", put_for_room, Auth.USER),
    *client_routes("GET", "/user/{userId}/rooms/{roomId}/account_data/{type}", get_for_room, Auth.USER),
]
