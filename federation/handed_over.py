"""Membership events that another server makes of our template and hands over: what is asked of them in common.

A server that asks to join, leave or knock decides what it sends back. Nothing of it is signed, stored or sent on unless
it is, field by field, what this server would have made itself.
# spec: server-server-api/#joining-rooms  server-server-api/#leaving-rooms-rejecting-invites
"""

from __future__ import annotations

from federation.peers import Federation, PeerRequest
from homeserver.protocol.errors import BadRequest, Forbidden, InvalidEvent, InvalidParam, InvalidSignature
from homeserver.protocol.events import Event, JsonObject, parse_event
from homeserver.protocol.hashing import check_content_hash
from homeserver.protocol.identifiers import domain_of, is_user_id
from homeserver.protocol.room_versions import RoomVersion
from homeserver.remote import Remote
from homeserver.rooms.checked_pdus import CheckedPdu, check_pdu
from homeserver.rooms.restricted import authorising_user
from homeserver.rooms.timeline import NewEvent
from homeserver.storage.names import Room

AUTHORISED_BY = "join_authorised_via_users_server"


def check_user_of(origin: str, user_id: str) -> None:
    """Checks that a user, for whom a server asks, is one of its own.

    :raises Forbidden: if not
    """
    if not is_user_id(user_id) or domain_of(user_id) != origin:
        raise Forbidden(f"{user_id} is not a user of {origin}")


def parse_member_event(
    pdu: JsonObject, version: RoomVersion, *, room_id: str, event_id: str, membership: str, origin: str
) -> Event:
    """The member event that a server sent, checked in everything but its signatures.

    :raises InvalidParam: if it is malformed or not what the request was about
    # spec: server-server-api/#put_matrixfederationv2send_joinroomideventid
    """
    try:
        event = parse_event(pdu, version)
        intact = check_content_hash(event.json, version)
    except InvalidEvent as error:
        raise InvalidParam(f"Not an event of room version {version.identifier}: {error}") from None
    if event.event_id != event_id:
        raise InvalidParam("The event has another id than the path says")
    if event.room_id != room_id:
        raise InvalidParam("The event is of another room")
    if event.type != "m.room.member" or event.state_key is None or event.membership != membership:
        raise InvalidParam(f"The event is not a member event that says {membership}")
    if domain_of(event.sender) != origin:
        raise InvalidParam(f"The event is not sent by a user of {origin}")
    if not intact:
        raise InvalidParam("The content hash of the event is wrong")
    return event


def parse_own_membership(request: PeerRequest, room: Room, membership: str) -> Event:
    """The member event of a request, in which a user of the server that asks says this of themselves.

    :raises InvalidParam: if it is malformed, about somebody else or not what the request was about
    """
    event = parse_member_event(
        request.body,
        room.version,
        room_id=room.room_id,
        event_id=request.params["eventId"],
        membership=membership,
        origin=request.origin,
    )
    if event.sender != event.state_key:
        raise InvalidParam("The event is about another user than its sender")
    return event


async def check_signatures(remote: Remote, event: Event) -> CheckedPdu:
    """Checks that every server that must sign the event has.

    :raises InvalidParam: if not
    """
    try:
        return await check_pdu(remote, event.json, event.room_version, event.room_id)
    except (InvalidSignature, InvalidEvent) as error:
        raise InvalidParam(f"The event is not properly signed: {error}") from None


def check_version_known(request_versions: list[str], version: RoomVersion) -> None:
    """Checks that a server that wants to make an event of this room knows its version.

    :raises BadRequest: M_INCOMPATIBLE_ROOM_VERSION, with the version
    # spec: server-server-api/#get_matrixfederationv1make_joinroomiduserid
    """
    if version.identifier not in (request_versions or ["1"]):
        raise BadRequest(
            f"The room is of version {version.identifier}",
            errcode="M_INCOMPATIBLE_ROOM_VERSION",
            room_version=version.identifier,
        )


async def template_for(federation: Federation, request: PeerRequest, room: Room, membership: str) -> JsonObject:
    """What a server is answered whose user wants to say this of themselves: an event for it to sign.

    :raises Forbidden: if it is not that server's user, or the rules refuse the event
    """
    user_id, timeline = request.params["userId"], federation.services.timeline
    check_user_of(request.origin, user_id)
    content = {"membership": membership}
    async with federation.services.pool.acquire() as conn:
        head = await timeline.head(conn, room)
        if membership == "join":
            authorised_by = await authorising_user(conn, timeline, head, user_id)
            if authorised_by is not None:
                content[AUTHORISED_BY] = authorised_by
        template = await timeline.template(conn, head, NewEvent("m.room.member", user_id, content, state_key=user_id))
    return {"room_version": room.version.identifier, "event": template}
