"""Accounts: listing, looking at one, making and changing one."""

from __future__ import annotations

from typing import Any

from homeserver.accounts.administrators import set_administrator
from homeserver.accounts.deactivate import deactivate, reactivate
from homeserver.accounts.moderation import Restriction, restrict
from homeserver.accounts.notices import notify_password_changed
from homeserver.accounts.password import hash_new_password, set_password
from homeserver.accounts.register import check_available, create_account
from homeserver.admin_api.requests import actor_of, admin_route, local_user_id, next_token, page_wanted
from homeserver.admin_api.user_identities import checked_threepids, identities, set_threepids
from homeserver.devices.device_lists import mark_changed
from homeserver.http import ApiRequest, Response, json_response
from homeserver.http.bodies import boolean, string
from homeserver.protocol.errors import BadRequest, Forbidden, InvalidParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import localpart_of
from homeserver.rooms.profiles import update_member_events
from homeserver.services import Services
from homeserver.storage import audit_log
from homeserver.storage.account_lists import ORDERS, AccountFilter, ListedAccount, find_listed, list_page
from homeserver.storage.accounts import find_account, update_profile_field
from homeserver.storage.stream import Connection, Write

_WAIT_SECONDS = 5.0
_RESTRICTIONS: tuple[Restriction, ...] = ("locked", "suspended")


async def get_users(services: Services, request: ApiRequest) -> JsonObject:
    """The accounts of this server, by page; without those that are deactivated or locked, unless asked for."""
    return await _list(services, request, deactivated=request.query.boolean("deactivated"))


async def get_users_v3(services: Services, request: ApiRequest) -> JsonObject:
    """The same, where leaving out `deactivated` means all."""
    wanted = request.query.boolean("deactivated") if "deactivated" in request.query else None
    return await _list(services, request, deactivated=wanted, exact=True)


async def _list(
    services: Services, request: ApiRequest, *, deactivated: bool | None, exact: bool = False
) -> JsonObject:
    query, page = request.query, page_wanted(request)
    user_id = query.string("user_id", max_length=255)
    wanted = AccountFilter(
        user_id=user_id,
        name=query.string("name", max_length=255) if user_id is None else None,
        guest=None if query.boolean("guests", default=True) else False,
        admin=query.boolean("admins") if "admins" in query else None,
        deactivated=deactivated if exact or not deactivated else None,
        locked=None if query.boolean("locked") else False,
    )
    order_by = query.choice("order_by", tuple(ORDERS), default="name")
    async with services.pool.acquire() as conn:
        found, total = await list_page(
            conn, wanted, order_by=order_by, backwards=page.backwards, offset=page.offset, limit=page.limit
        )
    return {"users": [_in_list(one) for one in found], "total": total, **next_token(page, len(found), total)}


def _in_list(one: ListedAccount) -> JsonObject:
    return {
        "name": one.user_id,
        "user_type": None,
        "is_guest": one.guest,
        "admin": one.admin,
        "deactivated": one.deactivated,
        "erased": one.erased,
        "shadow_banned": one.shadow_banned,
        "locked": one.locked,
        "suspended": one.suspended,
        "displayname": one.displayname,
        "avatar_url": one.avatar_url,
        "creation_ts": one.created_ts,
        "last_seen_ts": one.last_seen_ts,
        "approved": True,
    }


async def get_user(services: Services, request: ApiRequest) -> JsonObject:
    """One account."""
    user_id = local_user_id(services, request)
    async with services.pool.acquire() as conn:
        return await _details(conn, user_id)


async def _details(conn: Connection, user_id: str) -> JsonObject:
    one = await find_listed(conn, user_id)
    if one is None:
        raise NotFound("User not found")
    return {
        **_in_list(one),
        "creation_ts": one.created_ts // 1000,  # seconds here, unlike in the list
        **await identities(conn, one.user_nid),
        "appservice_id": one.appservice_id,
        "consent_server_notice_sent": None,
        "consent_version": None,
        "consent_ts": None,
    }


async def put_user(services: Services, request: ApiRequest) -> Response:
    """Makes an account, or changes the parts of one that the body names."""
    user_id = local_user_id(services, request)
    body = await request.json()
    change = _checked(body)
    async with services.pool.acquire() as conn:
        account = await find_account(conn, user_id)
        if account is None:
            localpart = localpart_of(user_id)
            await check_available(conn, request.http.appservices, server_name=services.server_name, localpart=localpart)
    password = change.pop("password", None)
    password_hash = None
    if password is not None:
        password_hash = await hash_new_password(password, services.config.passwords, localpart_of(user_id))
    if account is None:
        await _create(services, request, user_id, password_hash, change)
    else:
        await _modify(services, request, user_id, password_hash, change)
    async with services.pool.acquire() as conn:
        return json_response(await _details(conn, user_id), 201 if account is None else 200)


def _checked(body: JsonObject) -> dict[str, Any]:
    """What the body asks for, with only the keys that it has."""
    change: dict[str, Any] = {}
    for name, longest in (("password", 512), ("displayname", 256), ("avatar_url", 1000)):
        if name in body:
            change[name] = string(body, name, max_length=longest)
    for name in ("admin", "deactivated", "locked", "suspended", "logout_devices"):
        if name in body and (value := boolean(body, name)) is not None:
            change[name] = value
    if body.get("user_type") is not None:
        raise InvalidParam("This server has no types of users")
    if body.get("external_ids"):
        raise InvalidParam("Identities of other providers are linked by signing in")
    threepids = checked_threepids(body)
    if threepids is not None:
        change["threepids"] = threepids
    if change.get("avatar_url") and not change["avatar_url"].startswith("mxc://"):
        raise InvalidParam("avatar_url must be an mxc:// URI")
    if change.get("password") is None:
        change.pop("password", None)
    return change


async def _create(
    services: Services, request: ApiRequest, user_id: str, password_hash: str | None, change: dict[str, Any]
) -> None:
    if change.get("deactivated"):
        raise BadRequest("An account can't be made deactivated")
    async with services.pool.acquire() as conn, conn.transaction():
        actor = actor_of(request)
        account = await create_account(
            conn,
            server_name=services.server_name,
            localpart=localpart_of(user_id),
            password_hash=password_hash,
            admin=change.get("admin", False),
        )
        named = {key: value for key, value in change.items() if key not in ("logout_devices", "threepids")}
        await audit_log.append(conn, actor, "user.create", user_id, named)
        for name in ("displayname", "avatar_url"):
            if change.get(name):
                await update_profile_field(conn, account.user_nid, name, change[name])
        if "threepids" in change:
            await set_threepids(conn, services.config, actor, account, change["threepids"])
        for restriction in _RESTRICTIONS:
            if change.get(restriction):
                await restrict(conn, actor, user_id, restriction, True)


async def _modify(
    services: Services, request: ApiRequest, user_id: str, password_hash: str | None, change: dict[str, Any]
) -> None:
    job_id, renamed = None, False
    async with services.stream.write() as write:
        conn, actor = write.conn, actor_of(request)
        account = await find_account(conn, user_id)
        assert account is not None, "accounts are never deleted"
        if change.get("deactivated") is False and account.deactivated:
            if password_hash is None:
                raise BadRequest("Must provide a password to re-activate an account.")
            await reactivate(conn, actor, user_id, password_hash)
        elif password_hash is not None:
            await _set_password(services, write, request, user_id, password_hash, change.get("logout_devices", True))
        for name in ("displayname", "avatar_url"):
            if name in change and await update_profile_field(conn, account.user_nid, name, change[name] or None):
                renamed = True
                await audit_log.append(conn, actor, f"user.set_{name}", user_id, {name: change[name]})
        if "threepids" in change:
            await set_threepids(conn, services.config, actor, account, change["threepids"])
        if "admin" in change:
            await set_administrator(conn, actor, user_id, change["admin"])
        for restriction in _RESTRICTIONS:
            if restriction in change:
                if change[restriction] and account.user_nid == request.requester.user_nid:
                    raise Forbidden("Nobody locks or suspends themselves")
                await restrict(conn, actor, user_id, restriction, change[restriction])
        if change.get("deactivated") and not account.deactivated:
            job_id = (await deactivate(conn, actor, user_id, keep_one=True)).job_id
    request.sessions_changed(account.user_nid)
    if job_id is not None:
        await services.jobs.wait(job_id, _WAIT_SECONDS)
    elif renamed:
        await update_member_events(services.timeline, user_id)


async def post_reset_password(services: Services, request: ApiRequest) -> JsonObject:
    """Gives an account another password; its sessions end unless told otherwise."""
    user_id = local_user_id(services, request)
    body = await request.json()
    new_password = string(body, "new_password", required=True, max_length=512)
    logout_devices = boolean(body, "logout_devices", default=True)
    password_hash = await hash_new_password(new_password, services.config.passwords, localpart_of(user_id))
    async with services.stream.write() as write:
        await _set_password(services, write, request, user_id, password_hash, logout_devices)
        account = await find_account(write.conn, user_id)
    if account is not None:
        request.sessions_changed(account.user_nid)
    return {}


async def _set_password(
    services: Services, write: Write, request: ApiRequest, user_id: str, password_hash: str, logout_devices: bool
) -> None:
    account = await find_account(write.conn, user_id)
    gone = await set_password(write.conn, user_id=user_id, password_hash=password_hash, logout_devices=logout_devices)
    assert account is not None, "its password was just set"
    await notify_password_changed(write.conn, services.config, account.user_nid)
    if gone:
        await mark_changed(write, account.user_nid, gone)
    details = {"logout_devices": logout_devices}
    await audit_log.append(write.conn, actor_of(request), "user.set_password", user_id, details)


ROUTES = [
    admin_route("GET", "/v2/users", get_users),
    admin_route("GET", "/v3/users", get_users_v3),
    admin_route("GET", "/v2/users/{userId}", get_user),
    admin_route("PUT", "/v2/users/{userId}", put_user),
    admin_route("POST", "/v1/reset_password/{userId}", post_reset_password),
]
