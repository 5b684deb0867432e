"""Registering accounts.

# spec: client-server-api/#post_matrixclientv3register
"""

from __future__ import annotations

from homeserver.accounts import registration
from homeserver.accounts.interactive_auth import REGISTRATION_TOKEN
from homeserver.accounts.password import hash_new_password
from homeserver.accounts.password_policy import check_new_password
from homeserver.accounts.register import check_available, create_account, generated_localpart
from homeserver.accounts.registration import RegistrationParts
from homeserver.accounts.sessions import open_client_session
from homeserver.config import SessionsConfig
from homeserver.devices.device_lists import mark_changed
from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.http.bodies import boolean, string
from homeserver.protocol.errors import BadRequest, Forbidden, MissingParam
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of
from homeserver.rate_limits import address_key
from homeserver.services import Services
from homeserver.storage.accounts import Account
from homeserver.storage.devices import delete_all_devices
from homeserver.storage.stream import Connection

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
    config = services.config
    if config.registration.mode == "off":
        raise Forbidden("Registration is disabled")
    # Whatever is wrong is said before anyone is asked to prove anything.
    localpart = _wanted_localpart(body)
    device_id, _ = _checked_device(body)
    guest = await _checked_name(services, request, body, localpart)
    password = string(body, "password")
    if password is not None:
        check_new_password(password, config.passwords, localpart or "")
    parts = registration_parts(services)
    proof = await registration.registration_challenge(parts, request.client_address).answer(body)
    if password is None:
        raise MissingParam("password is missing")
    await services.login_attempts.use("registration", address_key(request.client_address))
    password_hash = await hash_new_password(password, config.passwords, localpart or "")
    async with services.stream.write() as write:
        proved = await proof.use(write.conn)
        account = await registration.register(
            write.conn, config, proved, localpart=localpart, password_hash=password_hash, guest=guest
        )
        if guest is not None:
            # Only what the new user names of the guest's goes on.
            gone = await delete_all_devices(write.conn, account.user_nid, except_device_id=device_id)
            if gone:
                await mark_changed(write, account.user_nid, gone)
        answer = await _registered(write.conn, config.sessions, account, body)
    request.sessions_changed(account.user_nid)
    services.jobs.wake()
    return answer


def registration_parts(services: Services) -> RegistrationParts:
    """What `accounts.registration` needs of the long-lived objects."""
    return RegistrationParts(services.uia, services.config, services.login_attempts, services.outbound)


async def _checked_name(
    services: Services, request: ApiRequest, body: JsonObject, localpart: str | None
) -> Account | None:
    """Checks that the name can be had. Returns the guest whose it is, if it is one who registers."""
    guest_token = string(body, "guest_access_token", max_length=4096)
    async with services.pool.acquire() as conn:
        if guest_token is not None:
            return await registration.find_guest(conn, guest_token, localpart)
        if localpart is not None:
            await registration.check_name(conn, services.config, request.http.appservices, localpart)
    return None


async def _register_guest(services: Services, request: ApiRequest, body: JsonObject) -> JsonObject:
    """# spec: client-server-api/#guest-access"""
    if not services.config.registration.guests:
        raise Forbidden("Guests are not let in", errcode="M_GUEST_ACCESS_FORBIDDEN")
    name = string(body, "initial_device_display_name", max_length=_MAX_DEVICE_NAME)
    await services.login_attempts.use("registration", address_key(request.client_address))
    async with services.pool.acquire() as conn, conn.transaction():
        account = await create_account(
            conn,
            server_name=services.server_name,
            localpart=f"guest-{generated_localpart()}",
            password_hash=None,
            guest=True,
        )
        # Everything else that a guest may have sent is ignored.
        return await _registered(conn, services.config.sessions, account, {"initial_device_display_name": name})


async def _register_for_appservice(services: Services, request: ApiRequest, body: JsonObject) -> JsonObject:
    """# spec: application-service-api/#server-admin-style-permissions"""
    appservice = request.http.authenticator.the_appservice(request)
    localpart = _wanted_localpart(body)
    if localpart is None:
        raise MissingParam("username is missing")
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
        return await _registered(conn, services.config.sessions, account, body)


async def _registered(conn: Connection, config: SessionsConfig, account: Account, body: JsonObject) -> JsonObject:
    # Old clients read the name of the server from here.
    answer: JsonObject = {"user_id": account.user_id, "home_server": domain_of(account.user_id)}
    if boolean(body, "inhibit_login", default=False):
        return answer
    device_id, display_name = _checked_device(body)
    session = await open_client_session(
        conn,
        config,
        account.user_nid,
        device_id=device_id,
        display_name=display_name,
        refreshable=boolean(body, "refresh_token", default=False),
    )
    return {**answer, **session.fields()}


def _wanted_localpart(body: JsonObject) -> str | None:
    username = string(body, "username")
    return registration.wanted_localpart(username) if username is not None else None


def _checked_device(body: JsonObject) -> tuple[str | None, str | None]:
    device_id = string(body, "device_id", max_length=_MAX_DEVICE_ID)
    boolean(body, "inhibit_login")
    boolean(body, "refresh_token")
    return device_id, string(body, "initial_device_display_name", max_length=_MAX_DEVICE_NAME)


async def get_available(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3registeravailable"""
    if services.config.registration.mode == "off":
        raise Forbidden("Registration is disabled")
    localpart = registration.wanted_localpart(request.query.string("username", required=True))
    async with services.pool.acquire() as conn:
        await registration.check_name(conn, services.config, request.http.appservices, localpart)
    return {"available": True}


async def get_token_validity(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv1registermloginregistration_tokenvalidity"""
    if services.config.registration.mode == "off":
        raise Forbidden("Registration is disabled")
    token = request.query.string("token", required=True)
    try:
        # Asking is guessing.
        async with services.login_attempts.guess("code", address_key(request.client_address)):
            if not await registration.is_valid_token(services.pool, services.config.registration, token):
                raise Forbidden("The registration token is not valid")
    except Forbidden:
        return {"valid": False}
    return {"valid": True}


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
    ),
]
