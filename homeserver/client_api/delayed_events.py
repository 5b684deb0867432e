"""Events to be sent later (MSC4140): scheduling them, in the forms that clients use, and managing them.

An event is scheduled over an endpoint of its own or, the older form, over /send and /state with a delay in the query.
What is to be done with one stands in the path or, the older form, in the body.
"""

from __future__ import annotations

from typing import Any

from homeserver.client_api.room_event_requests import (
    check_canonical_alias,
    device_of,
    event_type,
    timestamp,
    transaction_of,
)
from homeserver.client_api.rooms import room_of, user_id_in
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.http.bodies import integer, json_object, string
from homeserver.protocol.canonical_json import MAX_SAFE_INTEGER, decode_json, encode_json
from homeserver.protocol.errors import BadRequest, Forbidden, InvalidParam, TooLarge
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage.delayed_events import DelayedEvent
from homeserver.storage.names import Room

_MAX_CONTENT = 65536
_PAGE = 100
_ACTIONS = ("send", "cancel", "restart")


async def put_delayed_event(services: Services, request: ApiRequest) -> JsonObject:
    """PUT …/rooms/{roomId}/delayed_event/{eventType}/{txnId}"""
    room, body = await room_of(services, request), await request.json()
    return await schedule(
        services,
        request,
        room,
        json_object(body, "content", required=True),
        delay_ms=integer(body, "delay_ms", required=True, minimum=1),
        state_key=string(body, "state_key"),
    )


async def schedule_as_query_says(
    services: Services, request: ApiRequest, room: Room, content: JsonObject, *, state_key: str | None = None
) -> JsonObject | None:
    """Schedules the event of a request to /send or /state that asks for a delay; the answer, None if it doesn't ask.

    :raises MatrixError: as `schedule`, but with what an older draft says if the delay is too long
    """
    delay_ms = request.query.integer("org.matrix.msc4140.delay", minimum=1, maximum=MAX_SAFE_INTEGER)
    if delay_ms is None:
        return None
    try:
        return await schedule(services, request, room, content, delay_ms=delay_ms, state_key=state_key)
    except Forbidden as error:
        if "org.matrix.msc4140.errcode" in error.extra:
            raise BadRequest(error.message, **error.extra) from None
        raise


async def schedule(
    services: Services,
    request: ApiRequest,
    room: Room,
    content: JsonObject,
    *,
    delay_ms: int,
    state_key: str | None,
) -> JsonObject:
    """Schedules the event that the request is about; the answer, with its `delay_id`.

    :raises Forbidden, LimitExceeded: as `DelayedEvents.schedule`
    """
    type, requester = event_type(request), request.requester
    if type == "m.room.create":
        raise Forbidden("A room has one create event, its first")
    if state_key is not None and len(state_key.encode()) > 255:
        raise TooLarge("state_key has more than 255 bytes")
    if type == "m.room.member" and state_key is not None:
        user_id_in(state_key)
    if type == "m.room.canonical_alias" and state_key is not None:
        await check_canonical_alias(services, room, content)
    encoded = encode_json(content)
    if len(encoded) > _MAX_CONTENT:
        raise TooLarge("An event has at most 65536 bytes")
    event = DelayedEvent(
        delay_id="",
        user_nid=requester.user_nid,
        device_id=device_of(requester),
        room_nid=room.nid,
        txn_id=_transaction(request),
        type=type,
        state_key=state_key,
        content=encoded,
        origin_server_ts=timestamp(request),
        rate_limited=requester.rate_limited,
        delay_ms=delay_ms,
        scheduled_ts=0,
        send_ts=0,
    )
    return {"delay_id": await services.delayed_events.schedule(event)}


def _transaction(request: ApiRequest) -> str | None:
    """What tells the requests of a device in one room apart; None for one that sets state, which has no txnId.

    # spec: client-server-api/#transaction-identifiers
    """
    if "txnId" not in request.params:
        return None
    transaction = transaction_of(request)
    return f"{transaction.endpoint_hash}/{transaction.txn_id}"


async def post_action(services: Services, request: ApiRequest) -> JsonObject:
    """POST …/delayed_events/{delayId}/{action}"""
    return await _act(services, request, request.params["action"])


async def post_action_in_body(services: Services, request: ApiRequest) -> JsonObject:
    """POST …/delayed_events/{delayId}, the older form."""
    return await _act(services, request, string(await request.json(), "action", required=True))


async def _act(services: Services, request: ApiRequest, action: str) -> JsonObject:
    user_nid, delay_id = request.requester.user_nid, request.params["delayId"]
    delayed = services.delayed_events
    match action:
        case "send":
            if request.requester.rate_limited:
                request.limit("message", request.requester.user_id)
            await delayed.send(user_nid, delay_id)
        case "cancel":
            await delayed.cancel(user_nid, delay_id)
        case "restart":
            # The heartbeat of calls: only the general limit on requests applies to it.
            await delayed.restart(user_nid, delay_id)
        case _:
            raise InvalidParam(f"The action must be one of {', '.join(_ACTIONS)}")
    return {}


async def get_delayed_event(services: Services, request: ApiRequest) -> JsonObject:
    """GET …/delayed_events/{delayId}"""
    event = await services.delayed_events.find(request.requester.user_nid, request.params["delayId"])
    shown = await _shown(services, event)
    if event.finalised_ts is not None:
        shown["finalised_ts"] = event.finalised_ts
    if event.event_id is not None:
        shown["event_id"] = event.event_id
    if event.error is not None:
        shown["error"] = decode_json(event.error)
    return shown


async def get_delayed_events(services: Services, request: ApiRequest) -> JsonObject:
    """GET …/delayed_events, the next to be sent first. What does not fit into one answer comes after `next_batch`."""
    after = _parse_batch(request.query.string("from"))
    found = await services.delayed_events.scheduled(request.requester.user_nid, after, _PAGE + 1)
    shown = [await _shown(services, event) for event in found[:_PAGE]]
    # Clients of today read them under the name of an older draft.
    answer: JsonObject = {"delayed_events": shown, "scheduled": shown}
    if len(found) > _PAGE:
        last = found[_PAGE - 1]
        answer["next_batch"] = f"{last.send_ts}_{last.delay_id}"
    return answer


def _parse_batch(token: str | None) -> tuple[int, str]:
    if not token:
        return (-1, "")
    ts, _, delay_id = token.partition("_")
    if not (ts.isascii() and ts.isdigit() and len(ts) < 18):
        raise InvalidParam("That is not a token of this server")
    return (int(ts), delay_id)


async def _shown(services: Services, event: DelayedEvent) -> JsonObject:
    room = (await services.timeline.names.rooms([event.room_nid]))[event.room_nid]
    shown: dict[str, Any] = {
        "delay_id": event.delay_id,
        "room_id": room.room_id,
        "type": event.type,
        "content": decode_json(event.content),
        "delay_ms": event.delay_ms,
        "scheduled_at": event.scheduled_ts,
        # As older clients know them.
        "delay": event.delay_ms,
        "running_since": event.scheduled_ts,
    }
    if event.state_key is not None:
        shown["state_key"] = event.state_key
    return shown


_UNSTABLE = ("org.matrix.msc4140",)
_ONE = "/delayed_events/{delayId}"


def _routes(method: str, path: str, handler: Any, limit: str | None = None) -> list[Route]:
    return client_routes(method, path, handler, Auth.GUEST, versions=("v1",), unstable=_UNSTABLE, limit=limit)


ROUTES: list[Route] = [
    *client_routes(
        "PUT",
        "/rooms/{roomId}/delayed_event/{eventType}/{txnId}",
        put_delayed_event,
        Auth.GUEST,
        unstable=_UNSTABLE,
        limit="message",
    ),
    *_routes("GET", "/delayed_events", get_delayed_events),
    *_routes("GET", _ONE, get_delayed_event),
    *_routes("POST", _ONE, post_action_in_body),
    *_routes("POST", _ONE + "/{action}", post_action),
]
