"""Tags of rooms, kept as the m.tag account data of each room.  # spec: client-server-api/#room-tagging"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from homeserver.client_api.account_data import room_nid_of
from homeserver.client_api.own_user import check_own_user
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.protocol.canonical_json import decode_json, encode_json
from homeserver.protocol.errors import BadJson, InvalidParam, TooLarge
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage.account_data import find_account_data, lock_account_data, put_account_data

_TYPE = "m.tag"
_MAX_NAME = 255  # spec: client-server-api/#room-tagging
_MAX_BYTES = 65536


async def get_tags(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3useruseridroomsroomidtags"""
    check_own_user(request)
    room_nid = await room_nid_of(services, request)
    async with services.pool.acquire() as conn:
        content = await find_account_data(conn, request.requester.user_nid, _TYPE, room_nid=room_nid)
    return {"tags": _tags(content)}


async def put_tag(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3useruseridroomsroomidtagstag"""
    check_own_user(request)
    tag, info = request.params["tag"], await request.json(allow_empty=True)
    if len(tag.encode()) > _MAX_NAME:
        raise InvalidParam(f"The name of a tag has at most {_MAX_NAME} bytes")
    order = info.get("order")
    if order is not None and (isinstance(order, bool) or not isinstance(order, int | float)):
        raise BadJson("order must be a number")
    if order is not None and not 0 <= order <= 1:
        raise InvalidParam("order must be from 0 to 1")

    def add(tags: JsonObject) -> bool:
        tags[tag] = info
        return True

    await _change(services, request, add)
    return {}


async def delete_tag(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#delete_matrixclientv3useruseridroomsroomidtagstag"""
    check_own_user(request)
    tag = request.params["tag"]
    await _change(services, request, lambda tags: tags.pop(tag, None) is not None)
    return {}


async def _change(services: Services, request: ApiRequest, change: Callable[[JsonObject], bool]) -> None:
    """Changes the tags of the room. `change` says whether it did."""
    room_nid, user_nid = await room_nid_of(services, request), request.requester.user_nid
    async with services.stream.write() as write:
        # Two devices may each add a tag at the same time, and neither must be lost.
        await lock_account_data(write.conn, user_nid)
        raw = await find_account_data(write.conn, user_nid, _TYPE, room_nid=room_nid)
        content: JsonObject = decode_json(raw) if raw is not None else {}
        tags = _tags(raw)
        if not change(tags):
            return
        encoded = encode_json({**content, "tags": tags})
        if len(encoded) > _MAX_BYTES:
            raise TooLarge(f"The tags of a room may have at most {_MAX_BYTES} bytes")
        await put_account_data(write.conn, user_nid, _TYPE, encoded, await write.next_position(), room_nid=room_nid)
        write.changed(users=[user_nid])


def _tags(content: bytes | None) -> JsonObject:
    # Clients can set m.tag themselves too, to anything.
    value: Any = decode_json(content) if content is not None else {}
    tags = value.get("tags") if isinstance(value, dict) else None
    return tags if isinstance(tags, dict) else {}


_TAGS = "/user/{userId}/rooms/{roomId}/tags"

ROUTES: list[Route] = [
    *client_routes("GET", _TAGS, get_tags, Auth.USER),
    *client_routes("PUT", _TAGS + "/{tag}", put_tag, Auth.USER),
    *client_routes("DELETE", _TAGS + "/{tag}", delete_tag, Auth.USER),
]
