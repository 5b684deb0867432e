"""Whose keys changed between two syncs.

# spec: client-server-api/#get_matrixclientv3keyschanges
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.protocol.events import JsonObject
from homeserver.sync.device_lists import changes
from homeserver.sync.tokens import parse_sync_token

if TYPE_CHECKING:
    from homeserver.services import Services


async def get_key_changes(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3keyschanges"""
    since = parse_sync_token(request.query.string("from", required=True)).position
    parse_sync_token(request.query.string("to", required=True))
    async with services.pool.acquire() as conn:
        # Up to now and not only to `to`: of a list that has changed again since, only the last change is known, and
        # looking at a list once too often harms nobody.
        found = await changes(conn, request.requester.user_nid, since, services.stream.position)
    return found.json()


ROUTES: list[Route] = client_routes("GET", "/keys/changes", get_key_changes, Auth.GUEST)
