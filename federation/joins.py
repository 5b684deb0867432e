"""Letting users of other servers in.  # spec: server-server-api/#joining-rooms"""

from __future__ import annotations

from typing import Any

from federation.events import room_for
from federation.handed_over import (
    AUTHORISED_BY,
    check_signatures,
    check_version_known,
    parse_own_membership,
    template_for,
)
from federation.peers import Federation, PeerRequest
from homeserver.http import Response, json_response
from homeserver.protocol.errors import Forbidden
from homeserver.protocol.events import Event, JsonObject
from homeserver.protocol.identifiers import domain_of
from homeserver.protocol.signing import sign_event
from homeserver.rooms.restricted import authorising_user
from homeserver.storage.events import auth_chain_nids
from homeserver.storage.federation_reads import pdus_of
from homeserver.storage.members import joined_servers
from homeserver.storage.names import Room


async def get_make_join(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1make_joinroomiduserid"""
    room = await room_for(federation, request)
    check_version_known(request.query.all("ver"), room.version)
    return await template_for(federation, request, room, "join")


async def put_send_join(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#put_matrixfederationv2send_joinroomideventid"""
    room = await room_for(federation, request)
    event = await _authorised(federation, room, parse_own_membership(request, room, "join"))
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
    authoriser = event.content.get(AUTHORISED_BY)
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
