"""The directory of this server, as other servers ask for it.

# spec: server-server-api/#published-room-directory
"""

from __future__ import annotations

from federation.peers import Federation, PeerRequest
from homeserver.http.directory_search import search_in_body, search_in_query
from homeserver.protocol.events import JsonObject
from homeserver.rooms.directory import DirectorySearch, published_rooms


async def get_public_rooms(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1publicrooms"""
    return await _listed(federation, search_in_query(request.query))


async def post_public_rooms(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#post_matrixfederationv1publicrooms"""
    return await _listed(federation, search_in_body(request.body))


async def _listed(federation: Federation, search: DirectorySearch) -> JsonObject:
    async with federation.services.pool.acquire() as conn:
        return await published_rooms(conn, search)
