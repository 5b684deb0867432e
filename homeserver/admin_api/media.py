"""Files: what users have uploaded, what nobody shall be given, what shall be gone.

What is quarantined keeps its file, as evidence; what is deleted loses it at once.
"""

from __future__ import annotations

from homeserver.admin_api.requests import actor_of, admin_route, local_account, next_token, page_wanted
from homeserver.http import ApiRequest
from homeserver.protocol.errors import BadRequest, MissingParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage import audit_log, media_lists
from homeserver.storage.media import MediaRow, delete_media, find_media

_BATCH = 500


async def post_quarantine(services: Services, request: ApiRequest) -> JsonObject:
    """Nobody is given the file any more."""
    return await _set_quarantined(services, request, request.requester.user_id)


async def post_unquarantine(services: Services, request: ApiRequest) -> JsonObject:
    """They are again."""
    return await _set_quarantined(services, request, None)


async def _set_quarantined(services: Services, request: ApiRequest, by: str | None) -> JsonObject:
    origin, media_id = request.params["serverName"], request.params["mediaId"]
    async with services.pool.acquire() as conn, conn.transaction():
        if not await media_lists.set_quarantined(conn, origin, media_id, by):
            raise NotFound("There is no such file")
        action = "media.quarantine" if by is not None else "media.unquarantine"
        await audit_log.append(conn, actor_of(request), action, f"mxc://{origin}/{media_id}", {})
    return {}


async def post_quarantine_user(services: Services, request: ApiRequest) -> JsonObject:
    """Nobody is given what the user has uploaded any more."""
    account = await local_account(services, request)
    async with services.pool.acquire() as conn, conn.transaction():
        count = await media_lists.quarantine_of_user(conn, account.user_nid, request.requester.user_id)
        await audit_log.append(conn, actor_of(request), "media.quarantine_user", account.user_id, {"count": count})
    return {"num_quarantined": count}


async def delete_file(services: Services, request: ApiRequest) -> JsonObject:
    """Deletes a file of this server."""
    origin, media_id = request.params["serverName"], request.params["mediaId"]
    if origin != services.server_name:
        raise BadRequest("Can only delete local media")
    async with services.pool.acquire() as conn, conn.transaction():
        row = await find_media(conn, origin, media_id)
        if row is None:
            raise NotFound("There is no such file")
        await delete_media(conn, [row.media_nid])
        await audit_log.append(conn, actor_of(request), "media.delete", f"mxc://{origin}/{media_id}", {})
    await services.media.sweep()
    return {"deleted_media": [media_id], "total": 1}


async def get_of_user(services: Services, request: ApiRequest) -> JsonObject:
    """What a user has uploaded."""
    account = await local_account(services, request)
    page = page_wanted(request)
    async with services.pool.acquire() as conn:
        found, total = await media_lists.media_of_user(
            conn, account.user_nid, offset=page.offset, limit=page.limit, backwards=page.backwards
        )
    answer: JsonObject = {"media": [_shown(row) for row in found], "total": total}
    return answer | ({"next_token": page.offset + len(found)} if next_token(page, len(found), total) else {})


def _shown(row: MediaRow) -> JsonObject:
    return {
        "media_id": row.media_id,
        "media_type": row.content_type,
        "media_length": row.size,
        "upload_name": row.upload_name,
        "created_ts": row.created_ts,
        "last_access_ts": row.last_access_ts,
        "quarantined_by": row.quarantined_by,
        "safe_from_quarantine": False,
    }


async def delete_of_user(services: Services, request: ApiRequest) -> JsonObject:
    """Deletes what a user has uploaded, a page of it."""
    account = await local_account(services, request)
    page = page_wanted(request)
    async with services.pool.acquire() as conn, conn.transaction():
        found, _ = await media_lists.media_of_user(
            conn, account.user_nid, offset=page.offset, limit=page.limit, backwards=page.backwards
        )
        await delete_media(conn, [row.media_nid for row in found])
        ids = [row.media_id for row in found]
        await audit_log.append(conn, actor_of(request), "media.delete_user", account.user_id, {"media_ids": ids})
    await services.media.sweep()
    return {"deleted_media": ids, "total": len(ids)}


async def post_purge_cache(services: Services, request: ApiRequest) -> JsonObject:
    """Removes copies of other servers' files that nobody has looked at since a time."""
    before_ts = request.query.integer("before_ts", minimum=0)
    if before_ts is None:
        raise MissingParam("before_ts is missing")
    async with services.pool.acquire() as conn:
        # Before it begins: if it is cut short, what has gone has gone.
        details = {"before_ts": before_ts}
        await audit_log.append(conn, actor_of(request), "media.purge_cache", services.server_name, details)
    deleted = 0
    while True:
        async with services.pool.acquire() as conn, conn.transaction():
            found = await media_lists.cached_before(conn, services.server_name, before_ts, _BATCH)
            await delete_media(conn, found)
        deleted += len(found)
        if len(found) < _BATCH:
            break
    await services.media.sweep()
    return {"deleted": deleted}


async def get_statistics(services: Services, request: ApiRequest) -> JsonObject:
    """How much each user has uploaded."""
    page = page_wanted(request)
    async with services.pool.acquire() as conn:
        found, total = await media_lists.media_use(conn, offset=page.offset, limit=page.limit)
    users = [
        {"user_id": one.user_id, "displayname": None, "media_count": one.files, "media_length": one.size}
        for one in found
    ]
    answer: JsonObject = {"users": users, "total": total}
    return answer | ({"next_token": page.offset + len(found)} if next_token(page, len(found), total) else {})


ROUTES = [
    admin_route("POST", "/v1/media/quarantine/{serverName}/{mediaId}", post_quarantine),
    admin_route("POST", "/v1/media/unquarantine/{serverName}/{mediaId}", post_unquarantine),
    admin_route("POST", "/v1/user/{userId}/media/quarantine", post_quarantine_user),
    admin_route("DELETE", "/v1/media/{serverName}/{mediaId}", delete_file),
    admin_route("GET", "/v1/users/{userId}/media", get_of_user),
    admin_route("DELETE", "/v1/users/{userId}/media", delete_of_user),
    admin_route("POST", "/v1/purge_media_cache", post_purge_cache),
    admin_route("GET", "/v1/statistics/users/media", get_statistics),
]
