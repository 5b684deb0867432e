"""Tokens that let people register."""

from __future__ import annotations

import time

from homeserver.accounts.registration_token_admin import change_token, make_token, revoke_token, token_of
from homeserver.admin_api.requests import actor_of, admin_route
from homeserver.http import ApiRequest
from homeserver.http.bodies import integer, string
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage.registration_token_lists import RegistrationToken, list_tokens

_MOST = 10_000
_MOST_USES = 2**31 - 1


async def get_tokens(services: Services, request: ApiRequest) -> JsonObject:
    """All tokens; with `valid` those that can, or can't, be used."""
    valid = request.query.boolean("valid") if "valid" in request.query else None
    async with services.pool.acquire() as conn:
        found = await list_tokens(conn, valid=valid, now_ms=int(time.time() * 1000), limit=_MOST)
    return {"registration_tokens": [_shown(token) for token in found]}


async def get_token(services: Services, request: ApiRequest) -> JsonObject:
    """One token."""
    async with services.pool.acquire() as conn:
        return _shown(await token_of(conn, request.params["token"]))


async def post_new_token(services: Services, request: ApiRequest) -> JsonObject:
    """Makes a token."""
    body = await request.json(allow_empty=True)
    token = string(body, "token", max_length=64)
    length = integer(body, "length", minimum=1, maximum=64)
    uses_allowed = integer(body, "uses_allowed", minimum=0, maximum=_MOST_USES)
    expires_ts = integer(body, "expiry_time", minimum=0)
    async with services.pool.acquire() as conn:
        made = await make_token(
            conn,
            actor_of(request),
            token=token,
            length=16 if length is None else length,
            uses_allowed=uses_allowed,
            expires_ts=expires_ts,
        )
    return _shown(made)


async def put_token(services: Services, request: ApiRequest) -> JsonObject:
    """Changes the limits that the body has; null takes one away."""
    body = await request.json()
    token = request.params["token"]
    uses_allowed = integer(body, "uses_allowed", minimum=0, maximum=_MOST_USES)
    expires_ts = integer(body, "expiry_time", minimum=0)
    async with services.pool.acquire() as conn, conn.transaction():
        known = await token_of(conn, token)
        if body.keys().isdisjoint(("uses_allowed", "expiry_time")):
            return _shown(known)
        changed = await change_token(
            conn,
            actor_of(request),
            token,
            uses_allowed=uses_allowed if "uses_allowed" in body else known.uses_allowed,
            expires_ts=expires_ts if "expiry_time" in body else known.expires_ts,
        )
    return _shown(changed)


async def delete_token(services: Services, request: ApiRequest) -> JsonObject:
    """Revokes a token."""
    async with services.pool.acquire() as conn:
        await revoke_token(conn, actor_of(request), request.params["token"])
    return {}


def _shown(token: RegistrationToken) -> JsonObject:
    return {
        "token": token.token,
        "uses_allowed": token.uses_allowed,
        "pending": token.pending,
        "completed": token.completed,
        "expiry_time": token.expires_ts,
    }


ROUTES = [
    admin_route("GET", "/v1/registration_tokens", get_tokens),
    admin_route("POST", "/v1/registration_tokens/new", post_new_token),
    admin_route("GET", "/v1/registration_tokens/{token}", get_token),
    admin_route("PUT", "/v1/registration_tokens/{token}", put_token),
    admin_route("DELETE", "/v1/registration_tokens/{token}", delete_token),
]
