"""Users of other servers who leave, or decline an invitation.

# spec: server-server-api/#leaving-rooms-rejecting-invites
"""

from __future__ import annotations

from federation.events import room_for
from federation.handed_over import check_own_membership, check_signatures, check_user_of, parse_member_event
from federation.peers import Federation, PeerRequest
from homeserver.http import Response, json_response
from homeserver.protocol.events import JsonObject
from homeserver.rooms.timeline import NewEvent


async def get_make_leave(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1make_leaveroomiduserid"""
    user_id, timeline = request.params["userId"], federation.services.timeline
    check_user_of(request.origin, user_id)
    room = await room_for(federation, request)
    async with federation.services.pool.acquire() as conn:
        head = await timeline.head(conn, room)
        new = NewEvent("m.room.member", user_id, {"membership": "leave"}, state_key=user_id)
        template = await timeline.template(conn, head, new)
    return {"room_version": room.version.identifier, "event": template}


async def put_send_leave(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#put_matrixfederationv2send_leaveroomideventid"""
    room = await room_for(federation, request)
    event = parse_member_event(
        request.body,
        room.version,
        room_id=room.room_id,
        event_id=request.params["eventId"],
        membership="leave",
        origin=request.origin,
    )
    check_own_membership(event)
    checked = await check_signatures(federation.services.remote, event)
    await federation.services.receiver.take_in_handed_over(request.origin, room, checked)
    return {}


async def put_send_leave_v1(federation: Federation, request: PeerRequest) -> Response:
    """The same as it was first made: the answer is the second item of an array."""
    return json_response([200, await put_send_leave(federation, request)])
