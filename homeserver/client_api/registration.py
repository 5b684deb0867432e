"""Registering accounts.

# spec: client-server-api/#post_matrixclientv3register
"""

from __future__ import annotations

import hmac
import time
from typing import Any

from homeserver.accounts.interactive_auth import REGISTRATION_TOKEN, Challenge, Stage
from homeserver.accounts.password import hash_new_password
from homeserver.accounts.register import check_available, create_account, generated_localpart
from homeserver.accounts.sessions import open_session
from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.http.bodies import boolean, string
from homeserver.protocol.errors import BadRequest, Forbidden, Unauthorized
from homeserver.protocol.events import JsonObject
from homeserver.rate_limits import address_key
from homeserver.services import Services
from homeserver.storage import registration_tokens
from homeserver.storage.accounts import Account
from homeserver.storage.stream import Connection

_DUMMY = "m.login.dummy"
_MAX_DEVICE_ID = 255
_MAX_DEVICE_NAME = 255


async def post_register(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3register"""
    kind = request.query.choice("kind", ("user", "guest"), default="user")
    body = await request.json()
    if kind == "guest":
        return await _register_guest(services, request, body)
    if body.get("type") == "m.login.application_service":
        return await _register_for_appservice(services, request, body)
    if services.config.registration.mode == "off":
        raise Forbidden("Registration is disabled")
    localpart = _wanted_localpart(body)
    password = string(body, "password")
    # Whatever is wrong is said before anyone is asked to prove anything.
    _checked_device(body)
    if localpart is not None:
        async with services.pool.acquire() as conn:
            await check_available(conn, request.http.appservices, server_name=services.server_name, localpart=localpart)
    proof = await _challenge(services).answer(body)
    request.limit("registration", address_key(request.client_address))
    if password is None:
        raise BadRequest("password is missing", errcode="M_MISSING_PARAM")
    password_hash = await hash_new_password(password, services.config.passwords)
    async with services.pool.acquire() as conn, conn.transaction():
        proved = await proof.use(conn)
        account = await create_account(
            conn,
            server_name=services.server_name,
            localpart=localpart or generated_localpart(),
            password_hash=password_hash,
        )
        token = proved.get(REGISTRATION_TOKEN)
        if isinstance(token, str):
            await registration_tokens.complete_use(conn, token)
        return await _registered(conn, account, body)


async def _register_guest(services: Services, request: ApiRequest, body: JsonObject) -> JsonObject:
    if not services.config.registration.guests:
        raise Forbidden("Guests are not let in", errcode="M_GUEST_ACCESS_FORBIDDEN")
    request.limit("registration", address_key(request.client_address))
    name = string(body, "initial_device_display_name", max_length=_MAX_DEVICE_NAME)
    async with services.pool.acquire() as conn, conn.transaction():
        account = await create_account(
            conn,
            server_name=services.server_name,
            localpart=f"guest-{generated_localpart()}",
            password_hash=None,
            guest=True,
        )
        # Everything else that a guest may have sent is ignored.
        return await _registered(conn, account, {"initial_device_display_name": name})


async def _register_for_appservice(services: Services, request: ApiRequest, body: JsonObject) -> JsonObject:
    """# spec: application-service-api/#server-admin-style-permissions"""
    appservice = request.http.authenticator.appservice(request)
    if appservice is None:
        raise Unauthorized("The token of an application service is needed")
    localpart = _wanted_localpart(body)
    if localpart is None:
        raise BadRequest("username is missing", errcode="M_MISSING_PARAM")
    user_id = f"@{localpart}:{services.server_name}"
    if not appservice.covers_user(user_id):
        raise BadRequest("This user is not in the namespaces of the application service", errcode="M_EXCLUSIVE")
    _checked_device(body)
    async with services.pool.acquire() as conn, conn.transaction():
        await check_available(
            conn,
            request.http.appservices,
            server_name=services.server_name,
            localpart=localpart,
            appservice_id=appservice.id,
        )
        account = await create_account(
            conn,
            server_name=services.server_name,
            localpart=localpart,
            password_hash=None,
            appservice_id=appservice.id,
        )
        return await _registered(conn, account, body)


async def _registered(conn: Connection, account: Account, body: JsonObject) -> JsonObject:
    if boolean(body, "inhibit_login", default=False):
        return {"user_id": account.user_id}
    device_id, display_name = _checked_device(body)
    session = await open_session(conn, account.user_nid, device_id=device_id, display_name=display_name)
    return {"user_id": account.user_id, "access_token": session.access_token, "device_id": session.device_id}


def _wanted_localpart(body: JsonObject) -> str | None:
    username = string(body, "username", max_length=255)
    # The grammar has no capitals; "Alice" becomes alice rather than an error.
    return username.lower() if username is not None else None


def _checked_device(body: JsonObject) -> tuple[str | None, str | None]:
    device_id = string(body, "device_id", max_length=_MAX_DEVICE_ID)
    boolean(body, "inhibit_login")
    return device_id, string(body, "initial_device_display_name", max_length=_MAX_DEVICE_NAME)


def _challenge(services: Services) -> Challenge:
    if services.config.registration.mode == "token":
        stage = Stage(check=_token_check(services), record=_record_token(services))
        return Challenge(services.pool, "POST /register", [(REGISTRATION_TOKEN,)], {REGISTRATION_TOKEN: stage})
    return Challenge(services.pool, "POST /register", [(_DUMMY,)], {_DUMMY: Stage()})


def _token_check(services: Services) -> Any:
    async def check(auth: JsonObject) -> None:
        if not await _is_valid(services, auth.get("token")):
            raise Forbidden("The registration token is not valid")

    return check


def _record_token(services: Services) -> Any:
    async def record(conn: Connection, auth: JsonObject) -> str | None:
        token = str(auth.get("token"))
        if _is_configured(services, token):
            return None  # as often as one likes, so there is nothing to count
        if not await registration_tokens.begin_use(conn, token, int(time.time() * 1000)):
            raise Forbidden("The registration token is used up")
        return token

    return record


def _is_configured(services: Services, token: str) -> bool:
    given = token.encode()
    return any(
        hmac.compare_digest(given, known.get_secret_value().encode()) for known in services.config.registration.tokens
    )


async def _is_valid(services: Services, token: object) -> bool:
    if not isinstance(token, str) or "\0" in token or len(token) > 64:
        return False
    if _is_configured(services, token):
        return True
    async with services.pool.acquire() as conn:
        return await registration_tokens.is_usable(conn, token, int(time.time() * 1000))


async def get_available(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3registeravailable"""
    if services.config.registration.mode == "off":
        raise Forbidden("Registration is disabled")
    localpart = request.query.string("username", required=True, max_length=255)
    async with services.pool.acquire() as conn:
        await check_available(conn, request.http.appservices, server_name=services.server_name, localpart=localpart)
    return {"available": True}


async def get_token_validity(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv1registermloginregistration_tokenvalidity"""
    if services.config.registration.mode == "off":
        raise Forbidden("Registration is disabled")
    return {"valid": await _is_valid(services, request.query.string("token", required=True))}


ROUTES = [
    *client_routes("POST", "/register", post_register, Auth.NONE),
    *client_routes("GET", "/register/available", get_available, Auth.NONE),
    *client_routes(
        "GET",
        f"/register/{REGISTRATION_TOKEN}/validity",
        get_token_validity,
        Auth.NONE,
        versions=("v1",),
        unstable=("org.matrix.msc3231",),
        # Asking is guessing.
        limit="registration",
    ),
]
