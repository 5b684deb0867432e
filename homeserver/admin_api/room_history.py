"""The history of rooms as it is, whoever may see it. Whatever an administrator reads of it is recorded.

# spec: client-server-api/#getting-events-for-a-room
"""

from __future__ import annotations

from homeserver.admin_api.requests import actor_of, admin_route, room_of_path
from homeserver.http import ApiRequest
from homeserver.protocol.canonical_json import decode_json
from homeserver.protocol.errors import MissingParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.filters import MAX_LIMIT, EventFilter, parse_room_event_filter
from homeserver.protocol.history_visibility import WORLD_READABLE
from homeserver.rooms.timestamps import event_near
from homeserver.rooms.visibility import Access, Sight, Span
from homeserver.services import Services
from homeserver.storage import audit_log
from homeserver.storage.events import ORD_SHIFT, event_by_id
from homeserver.storage.names import Room
from homeserver.storage.room_state import FOREVER
from homeserver.sync.client_events import Reader
from homeserver.sync.history import FIRST_ORD, PageRequest, context, messages
from homeserver.sync.tokens import parse_place

_ALWAYS = -(2**42)


def _everything() -> Access:
    """Access as if the room had always been open to all and its reader always in it."""
    joined = Span(_ALWAYS, FOREVER, "join", False, 0)
    return Access(Sight([joined], [Span(_ALWAYS, FOREVER, WORLD_READABLE, False, 0)], 0), None, joined=True)


async def get_messages(services: Services, request: ApiRequest) -> JsonObject:
    """A page of the history, as members get it from /messages."""
    query = request.query
    backwards = query.choice("dir", ("b", "f"), default="f") == "b"
    room = await room_of_path(services, request)
    start, stop = query.string("from"), query.string("to")
    newest = ((services.stream.position + 1) << ORD_SHIFT) - 1
    filter = _event_filter(request)
    page = PageRequest(
        backwards=backwards,
        start=parse_place(start) if start else newest if backwards else FIRST_ORD,
        stop=parse_place(stop) if stop else FIRST_ORD if backwards else newest,
        limit=_limit(request, filter),
        filter=filter,
    )
    await _record(services, request, room)
    return await messages(
        services.pool, services.timeline.names, _reader(request), room, page, None, allowed=_everything()
    )


async def get_context(services: Services, request: ApiRequest) -> JsonObject:
    """An event and what stands around it."""
    room = await room_of_path(services, request)
    filter = _event_filter(request)
    await _record(services, request, room)
    async with services.pool.acquire() as conn:
        return await context(
            conn,
            services.timeline.names,
            _reader(request),
            room,
            request.params["eventId"],
            limit=_limit(request, filter),
            filter=filter,
            allowed=_everything(),
        )


async def get_timestamp_to_event(services: Services, request: ApiRequest) -> JsonObject:
    """The event next to a moment."""
    ts = request.query.integer("ts")
    if ts is None:
        raise MissingParam("ts is missing")
    backwards = request.query.choice("dir", ("f", "b"), default="f") == "b"
    room = await room_of_path(services, request)
    found = await event_near(
        services.timeline,
        services.backfiller,
        services.remote,
        room,
        ts,
        backwards=backwards,
        ranges=_everything().sight.ranges,
    )
    if found is None:
        raise NotFound("There is no event there")
    return {"event_id": found.event.event_id, "origin_server_ts": found.event.origin_server_ts}


async def get_forward_extremities(services: Services, request: ApiRequest) -> JsonObject:
    """The events that nothing follows yet."""
    room = await room_of_path(services, request)
    async with services.pool.acquire() as conn:
        head = await services.timeline.head(conn, room)
        results = []
        for event_id in head.extremities.values():
            stored = await event_by_id(conn, event_id, room.nid)
            if stored is not None:
                results.append(
                    {
                        "event_id": event_id,
                        "state_group": stored.snapshot_nid,
                        "depth": stored.event.depth,
                        "received_ts": stored.event.origin_server_ts,
                    }
                )
    return {"count": len(results), "results": results}


async def delete_forward_extremities(services: Services, request: ApiRequest) -> JsonObject:
    """Nothing: extremities join by themselves with the next event that is sent here."""
    await room_of_path(services, request)
    return {"deleted": 0}


def _reader(request: ApiRequest) -> Reader:
    return Reader(request.requester.user_id, request.requester.user_nid, None)


def _event_filter(request: ApiRequest) -> EventFilter:
    text = request.query.string("filter")
    return parse_room_event_filter(decode_json(text)) if text else EventFilter()


def _limit(request: ApiRequest, filter: EventFilter) -> int:
    limit = request.query.integer("limit", minimum=0)
    return min(filter.limit if limit is None else limit, MAX_LIMIT)


async def _record(services: Services, request: ApiRequest, room: Room) -> None:
    async with services.pool.acquire() as conn:
        await audit_log.append(conn, actor_of(request), "room.read_history", room.room_id, {})


ROUTES = [
    admin_route("GET", "/v1/rooms/{roomId}/messages", get_messages),
    admin_route("GET", "/v1/rooms/{roomId}/context/{eventId}", get_context),
    admin_route("GET", "/v1/rooms/{roomId}/timestamp_to_event", get_timestamp_to_event),
    admin_route("GET", "/v1/rooms/{roomId}/forward_extremities", get_forward_extremities),
    admin_route("DELETE", "/v1/rooms/{roomId}/forward_extremities", delete_forward_extremities),
]
