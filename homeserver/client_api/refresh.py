"""New tokens for a session that was made by /login or /register. Those of OAuth 2.0 have their own endpoint for it.

# spec: client-server-api/#refreshing-access-tokens
"""

from __future__ import annotations

from homeserver.accounts.sessions import RefreshFailed, refresh_lifetime_ms, refresh_session
from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.http.bodies import string
from homeserver.protocol.events import JsonObject
from homeserver.services import Services


async def post_refresh(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3refresh"""
    token = string(await request.json(), "refresh_token", required=True, max_length=512)
    config = services.config.sessions
    try:
        stored, session = await refresh_session(
            services.stream,
            token,
            client_id=None,
            expires_in_ms=config.access_token_seconds * 1000,
            refresh_expires_in_ms=refresh_lifetime_ms(config),
        )
    except RefreshFailed as failure:
        if failure.ended is not None:
            request.sessions_changed(failure.ended)
        raise
    # A refresh token that was used for the first time ends those before it.
    request.sessions_changed(stored.user_nid)
    answer = session.fields()
    del answer["device_id"]
    return answer


ROUTES = client_routes(
    "POST", "/refresh", post_refresh, Auth.NONE, versions=("v3", "v1"), unstable=("org.matrix.msc2918.refresh",)
)
