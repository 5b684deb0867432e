"""What administrators of this server may know and do about its accounts, as far as the specification has it.

# spec: client-server-api/#server-administration
"""

from __future__ import annotations

from homeserver.accounts.moderation import Restriction, restrict
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.http.bodies import boolean
from homeserver.protocol.errors import Forbidden, InvalidParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, is_user_id
from homeserver.services import Services
from homeserver.storage.accounts import Account, find_account
from homeserver.storage.audit_log import Actor
from homeserver.storage.devices import list_devices


async def get_lock(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv1adminlockuserid"""
    return {"locked": (await _target(services, request)).locked}


async def put_lock(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv1adminlockuserid"""
    return await _put(services, request, "locked")


async def get_suspend(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv1adminsuspenduserid"""
    return {"suspended": (await _target(services, request)).suspended}


async def put_suspend(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv1adminsuspenduserid"""
    return await _put(services, request, "suspended")


async def _put(services: Services, request: ApiRequest, restriction: Restriction) -> JsonObject:
    on = boolean(await request.json(), restriction, required=True)
    target = await _target(services, request)
    if target.user_nid == request.requester.user_nid:
        raise Forbidden("Nobody locks or suspends themselves")
    async with services.pool.acquire() as conn:
        actor = Actor(request.requester.user_id, request.client_address)
        await restrict(conn, actor, target.user_id, restriction, on)
    request.sessions_changed(target.user_nid)
    return {restriction: on}


async def _target(services: Services, request: ApiRequest) -> Account:
    """The account that the path names: one that is in use, and not another administrator's.

    :raises InvalidParam, NotFound, Forbidden: if it is not that
    """
    user_id = request.params["userId"]
    if not is_user_id(user_id) or domain_of(user_id) != services.server_name:
        raise InvalidParam("This is no user of this server")
    async with services.pool.acquire() as conn:
        account = await find_account(conn, user_id)
    if account is None or account.deactivated:
        raise NotFound("There is no such user")
    if account.admin and account.user_nid != request.requester.user_nid:
        raise Forbidden("That user is an administrator too")
    return account


async def get_whois(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3adminwhoisuserid"""
    requester, user_id = request.requester, request.params["userId"]
    if user_id != requester.user_id and not requester.admin:
        raise Forbidden("Only administrators of this server may ask about others")
    async with services.pool.acquire() as conn:
        account = await find_account(conn, user_id)
        if account is None:
            raise NotFound("There is no such user here")
        devices = await list_devices(conn, account.user_nid)
    found: JsonObject = {}
    for device in devices:
        seen = {"ip": device.last_seen_ip, "last_seen": device.last_seen_ts}
        known = {key: value for key, value in seen.items() if value is not None}
        found[device.device_id] = {"sessions": [{"connections": [known] if known else []}]}
    return {"user_id": user_id, "devices": found}


_UNSTABLE = ("uk.timedout.msc4323",)

ROUTES: list[Route] = [
    *client_routes("GET", "/admin/lock/{userId}", get_lock, Auth.ADMIN, versions=("v1",), unstable=_UNSTABLE),
    *client_routes("PUT", "/admin/lock/{userId}", put_lock, Auth.ADMIN, versions=("v1",), unstable=_UNSTABLE),
    *client_routes("GET", "/admin/suspend/{userId}", get_suspend, Auth.ADMIN, versions=("v1",), unstable=_UNSTABLE),
    *client_routes("PUT", "/admin/suspend/{userId}", put_suspend, Auth.ADMIN, versions=("v1",), unstable=_UNSTABLE),
    *client_routes("GET", "/admin/whois/{userId}", get_whois, Auth.USER),
]
