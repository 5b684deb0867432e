"""Rooms that two users share.  # spec: client-server-api/#mutual-rooms"""

from __future__ import annotations

import re

from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.protocol.errors import InvalidParam
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import is_compliant_user_id
from homeserver.services import Services
from homeserver.storage.members import mutual_rooms

_MOST_ROOMS = 100
_TOKEN = re.compile(r"[0-9]{1,18}")


async def get_mutual_rooms(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv1mutual_rooms"""
    return await _page(services, request, "from", "next_batch")


async def get_mutual_rooms_unstable(services: Services, request: ApiRequest) -> JsonObject:
    """The same with the parameter names of the proposal, MSC2666."""
    return await _page(services, request, "batch_token", "next_batch_token")


async def _page(services: Services, request: ApiRequest, parameter: str, next_key: str) -> JsonObject:
    user_id = request.query.string("user_id", required=True)
    token = request.query.string(parameter, default="0")
    if not is_compliant_user_id(user_id) or user_id == request.requester.user_id:
        raise InvalidParam("user_id must be the id of another user")
    if not _TOKEN.fullmatch(token):
        raise InvalidParam(f"{parameter} is not a token of this list")
    async with services.pool.acquire() as conn:
        found = await mutual_rooms(conn, request.requester.user_nid, user_id)
    after = [(nid, room_id) for nid, room_id in found if nid > int(token)]
    page: JsonObject = {"joined": [room_id for _, room_id in after[:_MOST_ROOMS]], "count": len(found)}
    if len(after) > _MOST_ROOMS:
        page[next_key] = str(after[_MOST_ROOMS - 1][0])
    return page


ROUTES: list[Route] = [
    *client_routes("GET", "/mutual_rooms", get_mutual_rooms, Auth.USER, versions=("v1",)),
    *client_routes(
        "GET",
        "/user/mutual_rooms",
        get_mutual_rooms_unstable,
        Auth.USER,
        versions=(),
        unstable=("uk.half-shot.msc2666",),
    ),
]
