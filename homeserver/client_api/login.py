"""Logging in.

# spec: client-server-api/#post_matrixclientv3login
"""

from __future__ import annotations

from homeserver.accounts.identifiers import user_id_of
from homeserver.accounts.password import check_credentials
from homeserver.accounts.sessions import open_session
from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.http.bodies import string
from homeserver.protocol.errors import BadRequest, Forbidden, MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.rate_limits import address_key
from homeserver.services import Services
from homeserver.storage.accounts import Account, find_account

_PASSWORD = "m.login.password"  # noqa: S105 - the name of a flow
_APPSERVICE = "m.login.application_service"
_MAX_DEVICE_ID = 255
_MAX_DEVICE_NAME = 255


async def get_login(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3login"""
    return {"flows": [{"type": _PASSWORD}, {"type": _APPSERVICE}]}


async def post_login(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3login"""
    body = await request.json()
    kind = string(body, "type", required=True)
    device_id = string(body, "device_id", max_length=_MAX_DEVICE_ID)
    display_name = string(body, "initial_device_display_name", max_length=_MAX_DEVICE_NAME)
    if kind == _PASSWORD:
        account = await _by_password(services, request, body)
    elif kind == _APPSERVICE:
        account = await _by_appservice(services, request, body)
    else:
        raise BadRequest("This way to log in is not known here")
    async with services.pool.acquire() as conn, conn.transaction():
        session = await open_session(conn, account.user_nid, device_id=device_id, display_name=display_name)
    request.sessions_changed(account.user_nid)
    answer: JsonObject = {
        "user_id": account.user_id,
        "access_token": session.access_token,
        "device_id": session.device_id,
        "home_server": services.server_name,
    }
    if services.config.public_baseurl is not None:
        answer["well_known"] = {"m.homeserver": {"base_url": services.config.public_baseurl}}
    return answer


async def _by_password(services: Services, request: ApiRequest, body: JsonObject) -> Account:
    request.limit("login", address_key(request.client_address))
    password = string(body, "password", required=True, max_length=512)
    user_id = user_id_of(body, services.server_name)
    # From many addresses at once one account can be attacked no faster than from one.
    request.limit("login", user_id)
    return await check_credentials(services.pool, services.config.passwords, user_id, password)


async def _by_appservice(services: Services, request: ApiRequest, body: JsonObject) -> Account:
    """# spec: client-server-api/#appservice-login"""
    appservice = request.http.authenticator.appservice(request)
    if appservice is None:
        raise Forbidden("The token of an application service is needed")
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
    return account


ROUTES = [
    *client_routes("GET", "/login", get_login, Auth.NONE),
    *client_routes("POST", "/login", post_login, Auth.NONE),
]
