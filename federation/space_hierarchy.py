"""Spaces as other servers ask for them: one level, and only what they could join or read.

# spec: server-server-api/#get_matrixfederationv1hierarchyroomid
"""

from __future__ import annotations

from federation.peers import Federation, PeerRequest
from federation.server_acls import check_acl
from homeserver.protocol.errors import NotFound
from homeserver.protocol.events import JsonObject
from homeserver.rooms.space_hierarchy import children_of
from homeserver.rooms.summary import allowed_room_ids, shown_to
from homeserver.storage.room_summaries import server_memberships_in
from homeserver.storage.stream import Connection

_MOST_CHILDREN = 500


async def get_hierarchy(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1hierarchyroomid"""
    room_id = request.params["roomId"]
    suggested_only = request.query.boolean("suggested_only")
    services = federation.services
    known = await services.timeline.names.room(room_id)
    if known is not None:
        await check_acl(federation, known, request.origin)
    async with services.pool.acquire() as conn:
        here = await services.spaces.rooms_here(conn, [room_id], suggested_only=suggested_only)
        if not await _visible(conn, request.origin, here):
            raise NotFound("Room does not exist")
        room = here[room_id]
        wanted = [child.room_id for child in children_of(room)][:_MOST_CHILDREN]
        children = await services.spaces.rooms_here(conn, set(wanted) - {room_id}, suggested_only=suggested_only)
        visible = await _visible(conn, request.origin, children)
    return {
        "room": room,
        "children": [children[child] for child in wanted if child in visible],
        "inaccessible_children": [child for child in wanted if child in children and child not in visible],
    }


async def _visible(conn: Connection, origin: str, rooms: dict[str, JsonObject]) -> set[str]:
    """Those of the rooms that some user of that server could see, for all that is known here."""
    asked = {*rooms, *(allowed for room in rooms.values() for allowed in allowed_room_ids(room))}
    memberships = await server_memberships_in(conn, origin, asked)
    joined = {room_id for room_id, membership in memberships.items() if membership == "join"}
    return {room_id for room_id, room in rooms.items() if shown_to(room, memberships.get(room_id), joined)}
