"""Whose OpenID token that is. Asked by services that are no Matrix servers, so the request is not signed.

# spec: server-server-api/#openid
"""

from __future__ import annotations

import time

from homeserver.http import ApiRequest
from homeserver.protocol.errors import Unauthorized
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage.access_tokens import hash_token
from homeserver.storage.openid_tokens import find_openid_user


async def get_userinfo(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1openiduserinfo"""
    token = request.query.string("access_token")
    if not token:
        raise Unauthorized("access_token is missing", errcode="M_MISSING_TOKEN")
    async with services.pool.acquire() as conn:
        user_id = await find_openid_user(conn, hash_token(token), int(time.time() * 1000))
    if user_id is None:
        raise Unauthorized("Access token unknown or expired")
    return {"sub": user_id}
