"""Reading the history of a room.

# spec: client-server-api/#getting-events-for-a-room
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from homeserver.client_api.rooms import known_room_of, room_of
from homeserver.client_api.sync import reader_of
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.protocol.canonical_json import decode_json
from homeserver.protocol.errors import Forbidden, MissingParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.filters import MAX_LIMIT, EventFilter, parse_room_event_filter
from homeserver.storage.events import ORD_SHIFT
from homeserver.sync.history import FIRST_ORD, PageRequest, context, messages, one_event
from homeserver.sync.tokens import parse_place

if TYPE_CHECKING:
    from homeserver.services import Services


async def get_messages(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3roomsroomidmessages"""
    query = request.query
    direction = query.choice("dir", ("b", "f"))
    if direction is None:
        raise MissingParam("dir is missing")
    room = await room_of(services, request)
    backwards = direction == "b"
    start, stop = query.string("from"), query.string("to")
    filter = _event_filter(request)
    newest = ((services.stream.position + 1) << ORD_SHIFT) - 1
    page = PageRequest(
        backwards=backwards,
        start=parse_place(start) if start else newest if backwards else FIRST_ORD,
        stop=parse_place(stop) if stop else FIRST_ORD if backwards else newest,
        limit=_limit(request, filter),
        filter=filter,
    )
    return await messages(
        services.pool,
        services.timeline.names,
        reader_of(request.requester),
        room,
        page,
        services.backfiller.fill,
    )


async def get_event(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3roomsroomideventeventid"""
    room = await known_room_of(services, request)
    async with services.pool.acquire() as conn:
        try:
            return await one_event(
                conn, services.timeline.names, reader_of(request.requester), room, request.params["eventId"]
            )
        except Forbidden:
            # The specification knows no other answer: not even that there is such an event.
            raise NotFound("There is no such event in that room") from None


async def get_context(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3roomsroomidcontexteventid"""
    room = await room_of(services, request)
    filter = _event_filter(request)
    async with services.pool.acquire() as conn:
        return await context(
            conn,
            services.timeline.names,
            reader_of(request.requester),
            room,
            request.params["eventId"],
            limit=_limit(request, filter),
            filter=filter,
        )


def _event_filter(request: ApiRequest) -> EventFilter:
    text = request.query.string("filter")
    return parse_room_event_filter(decode_json(text)) if text else EventFilter()


def _limit(request: ApiRequest, filter: EventFilter) -> int:
    """The parameter counts more than the filter; both default to the same."""
    limit = request.query.integer("limit", minimum=0)
    if limit is None:
        limit = filter.limit
    return min(limit, MAX_LIMIT)


ROUTES: list[Route] = [
    *client_routes("GET", "/rooms/{roomId}/messages", get_messages, Auth.GUEST),
    *client_routes("GET", "/rooms/{roomId}/event/{eventId}", get_event, Auth.GUEST),
    *client_routes("GET", "/rooms/{roomId}/context/{eventId}", get_context, Auth.GUEST),
]
