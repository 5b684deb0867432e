"""Filters that clients store to name them by number later.

# spec: client-server-api/#filtering
"""

from __future__ import annotations

from homeserver.client_api.own_user import check_own_user
from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.protocol.canonical_json import decode_json, encode_json
from homeserver.protocol.errors import BadRequest, NotFound, TooLarge
from homeserver.protocol.events import JsonObject
from homeserver.protocol.filters import parse_filter
from homeserver.services import Services
from homeserver.storage.filters import find_filter, put_filter

_MAX_BYTES = 64 * 1024
_MAX_FILTERS = 1000  # of one account; the same filter again takes no new one
_MAX_ID_DIGITS = 18


async def post_filter(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3useruseridfilter"""
    check_own_user(request)
    body = await request.json()
    parse_filter(body)
    json = encode_json(body)
    if len(json) > _MAX_BYTES:
        raise TooLarge(f"A filter may have at most {_MAX_BYTES} bytes")
    async with services.pool.acquire() as conn, conn.transaction():
        filter_id = await put_filter(conn, request.requester.user_nid, json, at_most=_MAX_FILTERS)
    if filter_id is None:
        raise BadRequest(f"An account may have at most {_MAX_FILTERS} filters")
    return {"filter_id": str(filter_id)}


async def get_filter(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3useruseridfilterfilterid"""
    check_own_user(request)
    number = request.params["filterId"]
    json = None
    if number.isascii() and number.isdigit() and len(number) <= _MAX_ID_DIGITS:
        async with services.pool.acquire() as conn:
            json = await find_filter(conn, request.requester.user_nid, int(number))
    if json is None:
        raise NotFound("You have no such filter")
    found: JsonObject = decode_json(json)
    return found


ROUTES = [
    *client_routes("POST", "/user/{userId}/filter", post_filter, Auth.GUEST),
    *client_routes("GET", "/user/{userId}/filter/{filterId}", get_filter, Auth.GUEST),
]
