"""Tokens with which users prove to other services who they are.  # spec: client-server-api/#openid"""

from __future__ import annotations

import secrets
import time

from homeserver.client_api.own_user import check_own_user
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage.access_tokens import hash_token
from homeserver.storage.openid_tokens import insert_openid_token

_LIFETIME = 3600  # seconds


async def post_request_token(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3useruseridopenidrequest_token"""
    check_own_user(request)
    await request.json(allow_empty=True)
    token = secrets.token_urlsafe(32)
    now_ms = int(time.time() * 1000)
    async with services.pool.acquire() as conn, conn.transaction():
        await insert_openid_token(
            conn,
            hash_token(token),
            request.requester.user_nid,
            now_ms=now_ms,
            expires_ts=now_ms + _LIFETIME * 1000,
        )
    return {
        "access_token": token,
        "token_type": "Bearer",
        "matrix_server_name": services.server_name,
        "expires_in": _LIFETIME,
    }


ROUTES: list[Route] = client_routes("POST", "/user/{userId}/openid/request_token", post_request_token, Auth.GUEST)
