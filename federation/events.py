"""Single events, by their ids.  # spec: server-server-api/#retrieving-events"""

from __future__ import annotations

import time

from federation.peers import Federation, PeerRequest, room_here
from federation.server_acls import check_acl
from federation.visible_events import as_seen_by, was_joined
from homeserver.protocol.errors import Forbidden, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.storage.events import StoredEvent, event_by_id
from homeserver.storage.names import Room
from homeserver.storage.stream import Connection


async def get_event(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1eventeventid"""
    pool, names = federation.services.pool, federation.services.timeline.names
    unknown = NotFound("There is no such event here")
    async with pool.acquire() as conn:
        stored = await event_by_id(conn, request.params["eventId"])
        if stored is None:
            raise unknown
        room = (await names.rooms([stored.room_nid]))[stored.room_nid]
        # Who may not know of the room is told the same as for an event that does not exist.
        if not await was_joined(federation, conn, room, request.origin, stored):
            raise unknown
    await check_acl(federation, room, request.origin)
    async with pool.acquire() as conn:
        pdus = await as_seen_by(federation, conn, room, request.origin, [stored])
    return transaction_of(federation, pdus)


def transaction_of(federation: Federation, pdus: list[JsonObject]) -> JsonObject:
    """Events in the form of a transaction."""
    return {"origin": federation.server_name, "origin_server_ts": int(time.time() * 1000), "pdus": pdus}


async def room_for(federation: Federation, request: PeerRequest) -> Room:
    """The room of the path, if this server is in it and it lets the other take part.

    :raises NotFound, Forbidden: if not
    """
    room = await room_here(federation, request.params["roomId"])
    await check_acl(federation, room, request.origin)
    return room


async def event_for(
    federation: Federation, conn: Connection, room: Room, request: PeerRequest, event_id: str
) -> StoredEvent:
    """An event of the room whose surroundings the asking server may know.

    :raises NotFound: if it is not here or of another room
    :raises Forbidden: if that server is not in the room and was not at that event
    """
    stored = await event_by_id(conn, event_id, room.nid)
    if stored is None:
        raise NotFound("There is no such event in that room")
    if not await was_joined(federation, conn, room, request.origin, stored):
        raise Forbidden(f"{request.origin} is not in that room")
    return stored
