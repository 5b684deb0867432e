"""A token with which somebody who is signed in signs in another device of theirs.

# spec: client-server-api/#post_matrixclientv1loginget_token
"""

from __future__ import annotations

from homeserver.accounts.login_tokens import LIFETIME_MS, create_login_token
from homeserver.client_api.own_user import prove_owner
from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.services import Services


async def post_get_token(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv1loginget_token"""
    if not services.config.sessions.login_tokens:
        raise MatrixError("Tokens to log in with are not given here", errcode="M_UNRECOGNIZED", status=404)
    requester = request.requester
    body = await request.json(allow_empty=True)
    proof = await prove_owner(services, request, body, "POST /login/get_token")
    async with services.pool.acquire() as conn, conn.transaction():
        if proof is not None:
            await proof.use(conn)
        token = await create_login_token(conn, requester.user_nid)
    return {"login_token": token, "expires_in_ms": LIFETIME_MS, "expires_in": LIFETIME_MS // 1000}


ROUTES = client_routes(
    "POST",
    "/login/get_token",
    post_get_token,
    Auth.USER,
    versions=("v1",),
    unstable=("org.matrix.msc3882",),
    limit="login",
)
