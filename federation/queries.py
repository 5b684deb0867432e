"""What other servers look up: profiles and room aliases.  # spec: server-server-api/#querying-for-information"""

from __future__ import annotations

from federation.peers import Federation, PeerRequest
from homeserver.protocol.errors import InvalidParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, is_room_alias, is_user_id
from homeserver.storage.accounts import find_account
from homeserver.storage.members import joined_servers
from homeserver.storage.profiles import whole_profile
from homeserver.storage.room_aliases import room_of_alias

_MOST_SERVERS = 100


async def get_profile(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1queryprofile"""
    user_id = request.query.string("user_id", required=True)
    field = request.query.string("field")
    if not is_user_id(user_id) or domain_of(user_id) != federation.server_name:
        raise InvalidParam("Not a user of this server")
    async with federation.services.pool.acquire() as conn:
        account = await find_account(conn, user_id)
        if account is None:
            raise NotFound("There is no such user")
        profile = await whole_profile(conn, user_id)
    if field is None:
        return {**profile}
    if field not in profile:
        raise NotFound("The user has no such profile field")
    return {field: profile[field]}


async def get_directory(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1querydirectory"""
    alias = request.query.string("room_alias", required=True)
    if not is_room_alias(alias) or domain_of(alias) != federation.server_name:
        raise InvalidParam("Not a room alias of this server")
    async with federation.services.pool.acquire() as conn:
        room_id = await room_of_alias(conn, alias)
        if room_id is None:
            raise NotFound("There is no such room alias")
        room = await federation.services.timeline.room(room_id)
        servers = await joined_servers(conn, room.nid)
    if federation.server_name in servers:
        servers.remove(federation.server_name)
    return {"room_id": room_id, "servers": [federation.server_name, *servers][:_MOST_SERVERS]}
