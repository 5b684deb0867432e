"""Invitations of users of this server into rooms of others.  # spec: server-server-api/#inviting-to-a-room"""

from __future__ import annotations

from collections.abc import Sequence

from federation.handed_over import check_signatures, parse_member_event
from federation.peers import Federation, PeerRequest
from federation.server_acls import check_acl
from homeserver.http import Response, json_response
from homeserver.http.bodies import array_of_objects, json_object, string
from homeserver.protocol.client_event import stripped_state_event
from homeserver.protocol.errors import BadRequest, Forbidden, InvalidEvent, InvalidParam, InvalidSignature, NotFound
from homeserver.protocol.events import Event, JsonObject, parse_event
from homeserver.protocol.identifiers import domain_of, is_room_id
from homeserver.protocol.redaction import redact
from homeserver.protocol.room_versions import ROOM_VERSIONS, EventIdFormat, RoomVersion
from homeserver.protocol.signing import sign_event
from homeserver.rooms.blocked import check_not_blocked
from homeserver.rooms.invite_permissions import check_invite_wanted
from homeserver.rooms.outside import stripped_state_shown
from homeserver.storage.accounts import find_account

_MOST_STATE = 100


async def put_invite(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#put_matrixfederationv2inviteroomideventid"""
    body = request.body
    version = _known_version(string(body, "room_version", required=True))
    shown = array_of_objects(body, "invite_room_state", max_items=_MOST_STATE)
    return await _invite(federation, request, version, json_object(body, "event", required=True), shown)


async def put_invite_v1(federation: Federation, request: PeerRequest) -> Response:
    """# spec: server-server-api/#put_matrixfederationv1inviteroomideventid"""
    pdu = request.body
    unsigned = pdu.get("unsigned")
    shown = array_of_objects(unsigned if isinstance(unsigned, dict) else {}, "invite_room_state", max_items=_MOST_STATE)
    # It can't tell the version, and the two first ones have the same form and rules of invitations.
    room = await federation.services.timeline.names.room(request.params["roomId"])
    version = room.version if room is not None else ROOM_VERSIONS["1"]
    if version.event_id_format is not EventIdFormat.CHOSEN:
        raise InvalidParam("Rooms of this version need version 2 of this endpoint")
    return json_response([200, await _invite(federation, request, version, pdu, shown)])


def _known_version(identifier: str) -> RoomVersion:
    if identifier not in ROOM_VERSIONS:
        raise BadRequest(
            f"This server does not support room version {identifier[:50]}",
            errcode="M_INCOMPATIBLE_ROOM_VERSION",
            room_version=identifier,
        )
    return ROOM_VERSIONS[identifier]


async def _invite(
    federation: Federation, request: PeerRequest, version: RoomVersion, pdu: JsonObject, shown: Sequence[JsonObject]
) -> JsonObject:
    services = federation.services
    event = parse_member_event(
        pdu,
        version,
        room_id=request.params["roomId"],
        event_id=request.params["eventId"],
        membership="invite",
        origin=request.origin,
    )
    if not is_room_id(event.room_id):
        raise InvalidParam("Not a room id")
    await _check_invited(federation, event)
    room = await services.timeline.names.room(event.room_id)
    if room is not None:
        if room.version is not version:
            raise InvalidParam(f"The room is of version {room.version.identifier}")
        await check_acl(federation, room, request.origin)
    # Before this server has signed, so that nothing rests on its own signature.
    await check_signatures(services.remote, event)
    await _check_signed_by(federation, event, request.origin)
    _check_create_event(event, shown)
    signed = sign_event(event.json, version, federation.server_name, services.signing_key)
    # In a room that this server is in, the invitation comes again, as every event of the room does.
    if not await services.membership.is_here(room):
        room = await services.timeline.names.ensure_room(event.room_id, version.identifier, services.timeline.clock())
        stripped = [*stripped_state_shown(shown), stripped_state_event(event)]
        assert event.state_key is not None
        await services.membership.remote_joins.enter_outside(
            room, event.state_key, "invite", Event(signed, version, event.event_id), stripped
        )
    return {"event": signed}


async def _check_signed_by(federation: Federation, event: Event, origin: str) -> None:
    """An invitation that says that it redeems one by e-mail needs no signature of its sender's server: here it does."""
    try:
        redacted = redact(event.json, event.room_version)
        await federation.services.remote.check_json(redacted, origin, event.origin_server_ts)
    except InvalidSignature as error:
        raise InvalidParam(f"The event is not properly signed: {error}") from None


async def _check_invited(federation: Federation, event: Event) -> None:
    user_id = event.state_key or ""
    if domain_of(user_id) != federation.server_name:
        raise InvalidParam("The invited user is not on this server")
    async with federation.services.pool.acquire() as conn:
        account = await find_account(conn, user_id)
    if account is None:
        raise NotFound("There is no such user here")
    if account.deactivated or account.guest:
        raise Forbidden("This user can't be invited")
    async with federation.services.pool.acquire() as conn:
        await check_not_blocked(conn, event.room_id)
        await check_invite_wanted(conn, event.sender, user_id)


def _check_create_event(event: Event, shown: Sequence[JsonObject]) -> None:
    """From room version 12 on the room id proves what the room is: the create event must be shown, and match it.

    :raises InvalidParam: if it isn't
    """
    if not event.room_version.room_id_is_create_hash:
        return
    for pdu in shown:
        if pdu.get("type") != "m.room.create":
            continue
        try:
            create = parse_event(pdu, event.room_version)
        except InvalidEvent as error:
            raise InvalidParam(f"The create event is malformed: {error}") from None
        if create.room_id != event.room_id:
            raise InvalidParam("The create event is of another room")
        return
    raise InvalidParam("invite_room_state has no create event")
