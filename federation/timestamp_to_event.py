"""The event next to a moment, as other servers ask for it.

# spec: server-server-api/#get_matrixfederationv1timestamp_to_eventroomid
"""

from __future__ import annotations

from federation.peers import Federation, PeerRequest, room_here
from federation.server_acls import check_acl
from federation.visible_events import as_seen_by
from homeserver.protocol.errors import Forbidden, MissingParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.storage.event_times import events_near
from homeserver.storage.members import is_any_joined

_EVERYWHERE = [(-(2**63), 2**63 - 1)]
_MOST_TRIED = 20  # events that are near but may be hidden from the server


async def get_timestamp_to_event(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1timestamp_to_eventroomid"""
    ts = request.query.integer("ts")
    direction = request.query.choice("dir", ("f", "b"))
    if ts is None or direction is None:
        raise MissingParam("ts and dir are needed")
    room = await room_here(federation, request.params["roomId"])
    await check_acl(federation, room, request.origin)
    async with federation.services.pool.acquire() as conn:
        if not await is_any_joined(conn, room.nid, request.origin):
            raise Forbidden("That server is not in the room")
        near = await events_near(conn, room.nid, ts, backwards=direction == "b", ranges=_EVERYWHERE, count=_MOST_TRIED)
        seen = await as_seen_by(federation, conn, room, request.origin, near)
    for stored, pdu in zip(near, seen, strict=True):
        if pdu is stored.event.json:  # not redacted for that server
            return {"event_id": stored.event.event_id, "origin_server_ts": stored.event.origin_server_ts}
    raise NotFound("There is no such event here")
