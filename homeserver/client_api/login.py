"""Logging in. Each way to do it is one entry of FLOWS.

# spec: client-server-api/#post_matrixclientv3login
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from homeserver.accounts.identifiers import named_user, user_id_of
from homeserver.accounts.identity_providers import sso_flow
from homeserver.accounts.login_tokens import use_login_token
from homeserver.accounts.new_devices import notify_if_unexpected
from homeserver.accounts.password import claim_by_password
from homeserver.accounts.sessions import open_client_session
from homeserver.accounts.two_factor import log_in
from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.http.bodies import boolean, string
from homeserver.protocol.errors import BadRequest, Forbidden, MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.rate_limits import address_key
from homeserver.services import Services
from homeserver.storage.accounts import Account, find_account
from homeserver.storage.stream import Connection
from homeserver.storage.users import find_user_id
from homeserver.translations import best_language

_MAX_DEVICE_ID = 255
_MAX_DEVICE_NAME = 255

Claim: TypeAlias = Callable[[Connection], Awaitable[Account]]
"""Whoever may log in; run in the transaction of the login, where it uses up what must not be used twice."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One way to log in: what GET /login says of it besides its type (None: it is not offered), and how it is checked.

    `check` raises Forbidden if nothing is proved.
    """

    announce: Callable[[Services], JsonObject | None]
    check: Callable[[Services, ApiRequest, JsonObject], Awaitable[Claim]]


async def get_login(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3login"""
    announced = [(kind, flow.announce(services)) for kind, flow in FLOWS.items()]
    return {"flows": [{"type": kind, **fields} for kind, fields in announced if fields is not None]}


async def post_login(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3login"""
    body = await request.json()
    kind = string(body, "type", required=True)
    device_id = string(body, "device_id", max_length=_MAX_DEVICE_ID)
    display_name = string(body, "initial_device_display_name", max_length=_MAX_DEVICE_NAME)
    refreshable = boolean(body, "refresh_token", default=False)
    flow = FLOWS.get(kind)
    if flow is None or flow.announce(services) is None:
        raise BadRequest("This way to log in is not known here")
    claim = await flow.check(services, request, body)
    async with services.pool.acquire() as conn, conn.transaction():
        account = await claim(conn)
        session = await open_client_session(
            conn,
            services.config.sessions,
            account.user_nid,
            device_id=device_id,
            display_name=display_name,
            refreshable=refreshable,
        )
        if session.new_device and account.appservice_id is None:
            await notify_if_unexpected(
                conn,
                services.config,
                account.user_nid,
                device=display_name or session.device_id,
                address=request.client_address,
                language=best_language(request.headers.get("Accept-Language", "")),
            )
    request.sessions_changed(account.user_nid)
    services.mail.wake()
    answer: JsonObject = {"user_id": account.user_id, **session.fields(), "home_server": services.server_name}
    if services.config.public_baseurl is not None:
        answer["well_known"] = {"m.homeserver": {"base_url": services.config.public_baseurl}}
    return answer


def _given(account: Account) -> Claim:
    async def claim(conn: Connection) -> Account:
        return account

    return claim


async def _by_password(services: Services, request: ApiRequest, body: JsonObject) -> Claim:
    password = string(body, "password", required=True, max_length=512)
    async with services.pool.acquire() as conn:
        user_id = await named_user(conn, body, services.server_name)
    async with services.login_attempts.attempt(request.client_address, user_id):
        by_password = await claim_by_password(services.pool, services.config.passwords, user_id, password)
    async with services.pool.acquire() as conn:
        account = await find_account(conn, user_id)
    if account is None:
        raise Forbidden("Wrong user name or password")
    use_code = await log_in(services.pool, services.secrets, services.config, account, body.get("auth"))

    async def claim(conn: Connection) -> Account:
        claimed = await by_password(conn)
        await use_code(conn)
        return claimed

    return claim


async def _by_token(services: Services, request: ApiRequest, body: JsonObject) -> Claim:
    request.limit("login", address_key(request.client_address))
    token = string(body, "token", required=True, max_length=512)

    async def claim(conn: Connection) -> Account:
        user_id = await find_user_id(conn, await use_login_token(conn, token))
        account = await find_account(conn, user_id) if user_id is not None else None
        if account is None or account.deactivated:
            raise Forbidden("This account has been deactivated", errcode="M_USER_DEACTIVATED")
        return account

    return claim


async def _by_appservice(services: Services, request: ApiRequest, body: JsonObject) -> Claim:
    """# spec: client-server-api/#appservice-login"""
    appservice = request.http.authenticator.the_appservice(request)
    user_id = user_id_of(body, services.server_name)
    if not appservice.covers_user(user_id):
        raise MatrixError(
            "This user is not in the namespaces of the application service", errcode="M_EXCLUSIVE", status=400
        )
    async with services.pool.acquire() as conn:
        account = await find_account(conn, user_id)
    if account is None:
        raise Forbidden("The application service has not registered this user")
    if account.deactivated:
        raise Forbidden("This account has been deactivated", errcode="M_USER_DEACTIVATED")
    return _given(account)


def _announce_token(services: Services) -> JsonObject:
    # spec: client-server-api/#get_matrixclientv3login
    return {"get_login_token": True} if services.config.sessions.login_tokens else {}


async def _by_browser(services: Services, request: ApiRequest, body: JsonObject) -> Claim:
    # spec: client-server-api/#client-login-via-sso
    raise BadRequest("What the browser brings back from there is a token for m.login.token")


FLOWS: dict[str, Flow] = {
    "m.login.password": Flow(lambda _: {}, _by_password),
    "m.login.sso": Flow(lambda services: sso_flow(services.config), _by_browser),
    "m.login.token": Flow(_announce_token, _by_token),
    "m.login.application_service": Flow(lambda _: {}, _by_appservice),
}

ROUTES = [
    *client_routes("GET", "/login", get_login, Auth.NONE),
    *client_routes("POST", "/login", post_login, Auth.NONE),
]
