"""Users of other servers who knock.  # spec: server-server-api/#knocking-rooms"""

from __future__ import annotations

from federation.events import room_for
from federation.handed_over import check_signatures, check_version_known, parse_own_membership, template_for
from federation.peers import Federation, PeerRequest
from homeserver.protocol.client_event import stripped_state_event
from homeserver.protocol.events import JsonObject
from homeserver.rooms.stripped_state import stripped_state_events


async def get_make_knock(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1make_knockroomiduserid"""
    room = await room_for(federation, request)
    check_version_known(request.query.all("ver"), room.version)
    return await template_for(federation, request, room, "knock")


async def put_send_knock(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#put_matrixfederationv1send_knockroomideventid"""
    timeline = federation.services.timeline
    room = await room_for(federation, request)
    checked = await check_signatures(federation.services.remote, parse_own_membership(request, room, "knock"))
    await federation.services.receiver.take_in_handed_over(request.origin, room, checked)
    async with federation.services.pool.acquire() as conn:
        head = await timeline.head(conn, room)
        shown = await stripped_state_events(conn, timeline.names, head, None)
    # The create event comes whole: from room version 12 on it proves the room id.
    return {
        "knock_room_state": [one.json if one.type == "m.room.create" else stripped_state_event(one) for one in shown]
    }
