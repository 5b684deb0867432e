"""Sending messages, state and redactions.  # spec: client-server-api/#sending-events-to-a-room"""

from __future__ import annotations

from homeserver.accounts.moderation import suspended_error
from homeserver.client_api import delayed_events
from homeserver.client_api.room_event_requests import check_canonical_alias, event_type, timestamp, transaction_of
from homeserver.client_api.rooms import room_of, user_id_in
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.http.bodies import string
from homeserver.protocol.errors import Forbidden, InvalidParam, TooLarge
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import is_event_id
from homeserver.rooms.timeline import NewEvent
from homeserver.services import Services
from homeserver.storage.events import event_by_id
from homeserver.storage.names import Room


async def put_send(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid"""
    room, content = await room_of(services, request), await request.json()
    if (scheduled := await delayed_events.schedule_as_query_says(services, request, room, content)) is not None:
        return scheduled
    services.presence.active(request.requester.user_nid)
    type = event_type(request)
    if type == "m.room.redaction":
        redacts = content.get("redacts")
        return await _redact(services, request, room, redacts if isinstance(redacts, str) else "", content)
    if type == "m.room.create":
        raise Forbidden("A room has one create event, its first")
    event = NewEvent(
        type,
        request.requester.user_id,
        content,
        origin_server_ts=timestamp(request),
        transaction=transaction_of(request),
    )
    return {"event_id": await services.timeline.send_event(room, event)}


async def put_redact(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3roomsroomidredacteventidtxnid"""
    room, body = await room_of(services, request), await request.json(allow_empty=True)
    reason = string(body, "reason")
    content = {} if reason is None else {"reason": reason}
    return await _redact(services, request, room, request.params["eventId"], content)


async def _redact(services: Services, request: ApiRequest, room: Room, redacts: str, content: JsonObject) -> JsonObject:
    if not is_event_id(redacts):
        raise InvalidParam("The id of the event to redact is missing or malformed")
    sender, timeline = request.requester.user_id, services.timeline
    async with services.pool.acquire() as conn:
        target = await event_by_id(conn, redacts)
        if target is not None and target.room_nid != room.nid:
            raise InvalidParam("The event to redact is not in this room")
        if target is None or target.event.sender != sender:
            if request.requester.suspended:
                raise suspended_error()
            head = await timeline.head(conn, room)
            levels = await head.power_levels(conn, timeline.names) if head.extremities else None
            if levels is None or levels.user(sender) < levels.redact:
                raise Forbidden("You don't have permission to redact events of others")
    if room.version.redacts_in_content:
        content = content | {"redacts": redacts}
    event = NewEvent(
        "m.room.redaction",
        sender,
        content,
        redacts=redacts,
        transaction=transaction_of(request),
    )
    return {"event_id": await timeline.send_event(room, event)}


async def put_state(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey"""
    room, content = await room_of(services, request), await request.json()
    type, state_key = event_type(request), request.params.get("stateKey", "")
    scheduled = await delayed_events.schedule_as_query_says(services, request, room, content, state_key=state_key)
    if scheduled is not None:
        return scheduled
    services.presence.active(request.requester.user_nid)
    if len(state_key.encode()) > 255:
        raise TooLarge("state_key has more than 255 bytes")
    sender = request.requester.user_id
    if type == "m.room.create":
        raise Forbidden("A room has one create event, its first")
    if type == "m.room.member":
        await services.membership.set_membership(room, sender, user_id_in(state_key), content)
        async with services.pool.acquire() as conn:
            head = await services.timeline.head(conn, room)
            member = await head.state_event(conn, services.timeline.names, type, state_key)
        return {"event_id": member.event_id if member is not None else ""}
    if type == "m.room.canonical_alias":
        await check_canonical_alias(services, room, content)
    event = NewEvent(type, sender, content, state_key=state_key, origin_server_ts=timestamp(request))
    return {"event_id": await services.timeline.send_event(room, event)}


ROUTES: list[Route] = [
    *client_routes("PUT", "/rooms/{roomId}/send/{eventType}/{txnId}", put_send, Auth.GUEST, limit="message"),
    *client_routes("PUT", "/rooms/{roomId}/redact/{eventId}/{txnId}", put_redact, Auth.USER, limit="message"),
    *client_routes("PUT", "/rooms/{roomId}/state/{eventType}", put_state, Auth.GUEST, limit="message"),
    *client_routes("PUT", "/rooms/{roomId}/state/{eventType}/", put_state, Auth.GUEST, limit="message"),
    *client_routes("PUT", "/rooms/{roomId}/state/{eventType}/{stateKey}", put_state, Auth.GUEST, limit="message"),
]
