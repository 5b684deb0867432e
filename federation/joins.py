"""Letting users of other servers in.  # spec: server-server-api/#joining-rooms"""

from __future__ import annotations

from typing import Any

from federation.events import room_for
from federation.handed_over import (
    check_own_membership,
    check_signatures,
    check_user_of,
    check_version_known,
    parse_member_event,
)
from federation.peers import Federation, PeerRequest
from homeserver.http import Response, json_response
from homeserver.protocol.errors import Forbidden
from homeserver.protocol.events import Event, JsonObject
from homeserver.protocol.identifiers import domain_of
from homeserver.protocol.signing import sign_event
from homeserver.rooms.restricted import authorising_user
from homeserver.rooms.timeline import NewEvent
from homeserver.storage.events import auth_chain_nids
from homeserver.storage.federation_reads import pdus_of
from homeserver.storage.members import joined_servers
from homeserver.storage.names import Room

_AUTHORISED_BY = "join_authorised_via_users_server"


async def get_make_join(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1make_joinroomiduserid"""
    user_id, timeline = request.params["userId"], federation.services.timeline
    check_user_of(request.origin, user_id)
    room = await room_for(federation, request)
    check_version_known(request.query.all("ver"), room.version)
    async with federation.services.pool.acquire() as conn:
        head = await timeline.head(conn, room)
        content = {"membership": "join"}
        authorised_by = await authorising_user(conn, timeline, head, user_id)
        if authorised_by is not None:
            content[_AUTHORISED_BY] = authorised_by
        new = NewEvent("m.room.member", user_id, content, state_key=user_id)
        template = await timeline.template(conn, head, new)
    return {"room_version": room.version.identifier, "event": template}


async def put_send_join(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#put_matrixfederationv2send_joinroomideventid"""
    room = await room_for(federation, request)
    event = parse_member_event(
        request.body,
        room.version,
        room_id=room.room_id,
        event_id=request.params["eventId"],
        membership="join",
        origin=request.origin,
    )
    check_own_membership(event)
    event = await _authorised(federation, room, event)
    checked = await check_signatures(federation.services.remote, event)
    stored = await federation.services.receiver.take_in_handed_over(request.origin, room, checked)
    async with federation.services.pool.acquire() as conn:
        before = await federation.services.timeline.snapshots.load(conn, stored.snapshot_nid)
        state = list(before.values())
        auth_chain = await auth_chain_nids(conn, [*state, stored.nid])
        answer: dict[str, Any] = {
            "origin": federation.server_name,
            "state": await pdus_of(conn, state),
            "auth_chain": await pdus_of(conn, auth_chain),
            "event": checked.event.json,
            "members_omitted": False,
            "servers_in_room": await joined_servers(conn, room.nid),
        }
    return answer


async def put_send_join_v1(federation: Federation, request: PeerRequest) -> Response:
    """The same as it was first made: the answer is the second item of an array."""
    return json_response([200, await put_send_join(federation, request)])


async def _authorised(federation: Federation, room: Room, event: Event) -> Event:
    """The join, signed by this server where it names one of its users as the one who lets the user in.

    :raises Forbidden, CannotAuthorise: if this server doesn't
    # spec: server-server-api/#restricted-rooms
    """
    authoriser = event.content.get(_AUTHORISED_BY)
    if not room.version.restricted_joins or not isinstance(authoriser, str):
        return event
    if domain_of(authoriser) != federation.server_name:
        return event
    timeline = federation.services.timeline
    async with federation.services.pool.acquire() as conn:
        head = await timeline.head(conn, room)
        if await authorising_user(conn, timeline, head, event.sender) is None:
            raise Forbidden("The join needs nobody's authorisation")
    pdu = sign_event(event.json, room.version, federation.server_name, federation.services.signing_key)
    return Event(pdu, room.version, event.event_id)
