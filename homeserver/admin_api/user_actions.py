"""What is done to an account as a whole: ending it, restricting it, acting as its user, undoing what the user said."""

from __future__ import annotations

import time

from homeserver.accounts.administrators import set_administrator
from homeserver.accounts.deactivate import deactivate
from homeserver.accounts.moderation import Restriction, restrict
from homeserver.accounts.redact_user import LIMIT, REDACT_USER, order_redactions
from homeserver.accounts.register import check_available
from homeserver.accounts.sessions import open_session
from homeserver.admin_api.requests import actor_of, admin_route, local_account, local_user_id, user_id_of_path
from homeserver.http import ApiRequest
from homeserver.http.bodies import array_of_strings, boolean, integer, string
from homeserver.protocol.errors import BadRequest, Forbidden, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage import account_lists, audit_log
from homeserver.storage.accounts import find_account
from homeserver.storage.jobs import find_job

_WAIT_SECONDS = 5.0
_MOST = 2**31 - 1


async def post_deactivate(services: Services, request: ApiRequest) -> JsonObject:
    """Ends an account; one that has ended already stays so, and can be erased later on."""
    account = await local_account(services, request)
    erase = boolean(await request.json(allow_empty=True), "erase", default=False)
    if account.deactivated and (account.erased or not erase):
        return {"id_server_unbind_result": "success"}
    async with services.pool.acquire() as conn:
        ended = await deactivate(conn, actor_of(request), account.user_id, erase=erase, keep_one=True)
    request.sessions_changed(ended.user_nid)
    await services.jobs.wait(ended.job_id, _WAIT_SECONDS)
    return {"id_server_unbind_result": ended.unbind_result}


async def get_admin(services: Services, request: ApiRequest) -> JsonObject:
    """Whether a user administers this server."""
    return {"admin": (await local_account(services, request)).admin}


async def put_admin(services: Services, request: ApiRequest) -> JsonObject:
    """Makes a user an administrator, or makes one none."""
    user_id = local_user_id(services, request)
    admin = boolean(await request.json(), "admin", required=True)
    if not admin and user_id == request.requester.user_id:
        raise BadRequest("You may not demote yourself.")
    async with services.pool.acquire() as conn:
        account = await set_administrator(conn, actor_of(request), user_id, admin)
    request.sessions_changed(account.user_nid)
    return {}


async def put_suspend(services: Services, request: ApiRequest) -> JsonObject:
    """Suspends a user, or lifts that."""
    on = boolean(await request.json(), "suspend", required=True)
    user_id = await _restrict(services, request, "suspended", on)
    return {f"user_{user_id}_suspended": on}


async def post_shadow_ban(services: Services, request: ApiRequest) -> JsonObject:
    """From now on nothing that the user says reaches anyone."""
    await _restrict(services, request, "shadow_banned", True)
    return {}


async def delete_shadow_ban(services: Services, request: ApiRequest) -> JsonObject:
    """Lifts a shadow-ban."""
    await _restrict(services, request, "shadow_banned", False)
    return {}


async def _restrict(services: Services, request: ApiRequest, restriction: Restriction, on: bool) -> str:
    account = await local_account(services, request)
    if on and account.user_nid == request.requester.user_nid:
        raise Forbidden("Nobody does this to themselves")
    async with services.pool.acquire() as conn:
        await restrict(conn, actor_of(request), account.user_id, restriction, on)
    request.sessions_changed(account.user_nid)
    return account.user_id


async def post_login(services: Services, request: ApiRequest) -> JsonObject:
    """A session in which an administrator acts as the user. It has a device of its own, by which the user sees it."""
    account = await local_account(services, request)
    body = await request.json(allow_empty=True)
    until = integer(body, "valid_until_ms", minimum=0)
    now = int(time.time() * 1000)
    if account.user_nid == request.requester.user_nid:
        raise BadRequest("Cannot use admin API to login as self")
    if account.deactivated or account.guest:
        raise BadRequest("This user can't be logged in as")
    if until is not None and until <= now:
        raise BadRequest("valid_until_ms is in the past")
    actor = actor_of(request)
    async with services.pool.acquire() as conn, conn.transaction():
        session = await open_session(
            conn,
            account.user_nid,
            display_name=f"Administrator {actor.name}",
            expires_in_ms=None if until is None else until - now,
        )
        details = {"device_id": session.device_id, "valid_until_ms": until}
        await audit_log.append(conn, actor, "user.login_as", account.user_id, details)
    return {"access_token": session.access_token}


async def get_override(services: Services, request: ApiRequest) -> JsonObject:
    """The limits of a user for whom others hold than for everyone."""
    account = await local_account(services, request)
    async with services.pool.acquire() as conn:
        found = await account_lists.rate_limit_override(conn, account.user_nid)
    return {} if found is None else {"messages_per_second": found[0], "burst_count": found[1]}


async def post_override(services: Services, request: ApiRequest) -> JsonObject:
    """Sets other limits for a user; zero messages a second: no limit at all."""
    account = await local_account(services, request)
    body = await request.json(allow_empty=True)
    per_second = integer(body, "messages_per_second", minimum=0, maximum=_MOST) or 0
    burst = integer(body, "burst_count", minimum=0, maximum=_MOST) or 0
    limits: JsonObject = {"messages_per_second": per_second, "burst_count": burst}
    async with services.pool.acquire() as conn, conn.transaction():
        await account_lists.put_rate_limit_override(conn, account.user_nid, per_second, burst)
        await audit_log.append(conn, actor_of(request), "user.override_rate_limit", account.user_id, limits)
    request.sessions_changed(account.user_nid)
    return limits


async def delete_override(services: Services, request: ApiRequest) -> JsonObject:
    """The limits of everyone hold for the user again."""
    account = await local_account(services, request)
    async with services.pool.acquire() as conn, conn.transaction():
        await account_lists.delete_rate_limit_override(conn, account.user_nid)
        await audit_log.append(conn, actor_of(request), "user.reset_rate_limit", account.user_id, {})
    request.sessions_changed(account.user_nid)
    return {}


async def get_username_available(services: Services, request: ApiRequest) -> JsonObject:
    """Whether an account of that name could be made."""
    username = request.query.string("username", required=True, max_length=255)
    async with services.pool.acquire() as conn:
        await check_available(
            conn, request.http.appservices, server_name=services.server_name, localpart=username.lower()
        )
    return {"available": True}


async def post_redact(services: Services, request: ApiRequest) -> JsonObject:
    """Orders that what a user said, here or elsewhere, is redacted, in the rooms named or in all."""
    user_id = user_id_of_path(request)
    body = await request.json()
    room_ids = array_of_strings(body, "rooms", required=True, max_items=10_000, max_length=255)
    reason = string(body, "reason", max_length=1_000)
    limit = integer(body, "limit", minimum=1, maximum=1_000_000) or LIMIT
    use_admin = boolean(body, "use_admin", default=False)
    async with services.pool.acquire() as conn:
        job_id = await order_redactions(
            conn, actor_of(request), user_id, room_ids=room_ids, reason=reason, limit=limit, use_admin=use_admin
        )
    services.jobs.wake()
    return {"redact_id": job_id}


async def get_redact_status(services: Services, request: ApiRequest) -> JsonObject:
    """How far that is."""
    async with services.pool.acquire() as conn:
        job = await find_job(conn, request.params["redactId"], [REDACT_USER])
    if job is None:
        raise NotFound("redact id not found")
    failed = job.progress.get("failed", {})
    answer: JsonObject = {
        "status": job.status,
        "failed_redactions": failed,
        "redacted": job.progress.get("redacted", 0),
    }
    return answer if job.error is None else answer | {"error": job.error}


async def get_sent_invite_count(services: Services, request: ApiRequest) -> JsonObject:
    """How many invitations of a user since some moment still stand."""
    account = await local_account(services, request)
    since = request.query.integer("from_ts", default=0, minimum=0)
    async with services.pool.acquire() as conn:
        return {"invite_count": await account_lists.invites_sent(conn, account.user_nid, since)}


async def get_joined_room_count(services: Services, request: ApiRequest) -> JsonObject:
    """How many rooms a user is in or has been in."""
    user_id = user_id_of_path(request)
    async with services.pool.acquire() as conn:
        account = await find_account(conn, user_id)
        number = await account_lists.rooms_ever_joined(conn, account.user_nid) if account is not None else 0
    return {"cumulative_joined_room_count": number}


ROUTES = [
    admin_route("POST", "/v1/deactivate/{userId}", post_deactivate),
    admin_route("GET", "/v1/users/{userId}/admin", get_admin),
    admin_route("PUT", "/v1/users/{userId}/admin", put_admin),
    admin_route("PUT", "/v1/suspend/{userId}", put_suspend),
    admin_route("POST", "/v1/users/{userId}/shadow_ban", post_shadow_ban),
    admin_route("DELETE", "/v1/users/{userId}/shadow_ban", delete_shadow_ban),
    admin_route("POST", "/v1/users/{userId}/login", post_login),
    admin_route("GET", "/v1/users/{userId}/override_ratelimit", get_override),
    admin_route("POST", "/v1/users/{userId}/override_ratelimit", post_override),
    admin_route("DELETE", "/v1/users/{userId}/override_ratelimit", delete_override),
    admin_route("GET", "/v1/username_available", get_username_available),
    admin_route("POST", "/v1/user/{userId}/redact", post_redact),
    admin_route("GET", "/v1/user/redact_status/{redactId}", get_redact_status),
    admin_route("GET", "/v1/users/{userId}/sent_invite_count", get_sent_invite_count),
    admin_route("GET", "/v1/users/{userId}/cumulative_joined_room_count", get_joined_room_count),
]
