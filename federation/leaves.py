"""Users of other servers who leave, or decline an invitation.

# spec: server-server-api/#leaving-rooms-rejecting-invites
"""

from __future__ import annotations

from federation.events import room_for
from federation.handed_over import check_signatures, parse_own_membership, template_for
from federation.peers import Federation, PeerRequest
from homeserver.http import Response, json_response
from homeserver.protocol.events import JsonObject


async def get_make_leave(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1make_leaveroomiduserid"""
    return await template_for(federation, request, await room_for(federation, request), "leave")


async def put_send_leave(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#put_matrixfederationv2send_leaveroomideventid"""
    room = await room_for(federation, request)
    checked = await check_signatures(federation.services.remote, parse_own_membership(request, room, "leave"))
    await federation.services.receiver.take_in_handed_over(request.origin, room, checked)
    return {}


async def put_send_leave_v1(federation: Federation, request: PeerRequest) -> Response:
    """The same as it was first made: the answer is the second item of an array."""
    return json_response([200, await put_send_leave(federation, request)])
