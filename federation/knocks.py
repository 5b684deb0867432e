"""Users of other servers who knock.  # spec: server-server-api/#knocking-rooms"""

from __future__ import annotations

from federation.events import room_for
from federation.handed_over import (
    check_own_membership,
    check_signatures,
    check_user_of,
    check_version_known,
    parse_member_event,
)
from federation.peers import Federation, PeerRequest
from homeserver.protocol.client_event import stripped_state_event
from homeserver.protocol.events import JsonObject
from homeserver.rooms.stripped_state import stripped_state_events
from homeserver.rooms.timeline import NewEvent


async def get_make_knock(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1make_knockroomiduserid"""
    user_id, timeline = request.params["userId"], federation.services.timeline
    check_user_of(request.origin, user_id)
    room = await room_for(federation, request)
    check_version_known(request.query.all("ver"), room.version)
    async with federation.services.pool.acquire() as conn:
        head = await timeline.head(conn, room)
        new = NewEvent("m.room.member", user_id, {"membership": "knock"}, state_key=user_id)
        template = await timeline.template(conn, head, new)
    return {"room_version": room.version.identifier, "event": template}


async def put_send_knock(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#put_matrixfederationv1send_knockroomideventid"""
    timeline = federation.services.timeline
    room = await room_for(federation, request)
    event = parse_member_event(
        request.body,
        room.version,
        room_id=room.room_id,
        event_id=request.params["eventId"],
        membership="knock",
        origin=request.origin,
    )
    check_own_membership(event)
    checked = await check_signatures(federation.services.remote, event)
    await federation.services.receiver.take_in_handed_over(request.origin, room, checked)
    async with federation.services.pool.acquire() as conn:
        head = await timeline.head(conn, room)
        shown = await stripped_state_events(conn, timeline.names, head, None)
    # The create event comes whole: from room version 12 on it proves the room id.
    return {
        "knock_room_state": [one.json if one.type == "m.room.create" else stripped_state_event(one) for one in shown]
    }
