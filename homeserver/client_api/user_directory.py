"""Searching for users.  # spec: client-server-api/#user-directory"""

from __future__ import annotations

from typing import TYPE_CHECKING

from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.http.bodies import integer, string
from homeserver.protocol.events import JsonObject
from homeserver.storage.search_terms import search_words
from homeserver.storage.user_directory import FoundUser, find_users, refresh_directory

if TYPE_CHECKING:
    from homeserver.services import Services

_DEFAULT_LIMIT = 10
_MAX_LIMIT = 50


async def post_search(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3user_directorysearch"""
    body = await request.json()
    words = search_words(string(body, "search_term", required=True, max_length=1024))
    limit = min(integer(body, "limit", minimum=1) or _DEFAULT_LIMIT, _MAX_LIMIT)
    await refresh_directory(services.pool)
    everyone = services.config.user_directory.search_all_users
    async with services.pool.acquire() as conn:
        found = await find_users(
            conn,
            request.requester.user_nid,
            words,
            limit + 1,
            local_server=services.server_name if everyone else None,
        )
    return {"results": [_shown(user) for user in found[:limit]], "limited": len(found) > limit}


def _shown(user: FoundUser) -> JsonObject:
    shown: JsonObject = {"user_id": user.user_id}
    if user.displayname is not None:
        shown["display_name"] = user.displayname
    if user.avatar_url is not None:
        shown["avatar_url"] = user.avatar_url
    return shown


ROUTES: list[Route] = client_routes("POST", "/user_directory/search", post_search, Auth.USER)
