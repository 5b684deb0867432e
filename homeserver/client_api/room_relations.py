"""What relates to an event, and the threads of a room.

# spec: client-server-api/#relationships-api
# spec: client-server-api/#querying-threads-in-a-room
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from homeserver.client_api.rooms import known_room_of, room_of
from homeserver.client_api.sync import reader_of
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.protocol.events import JsonObject
from homeserver.sync.related_events import RelationsRequest, relations, threads
from homeserver.sync.tokens import parse_place

if TYPE_CHECKING:
    from homeserver.services import Services

_DEFAULT_LIMIT = 20
_MAX_LIMIT = 100


async def get_relations(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv1roomsroomidrelationseventid
    # spec: client-server-api/#get_matrixclientv1roomsroomidrelationseventidreltype
    # spec: client-server-api/#get_matrixclientv1roomsroomidrelationseventidreltypeeventtype
    """
    query, params = request.query, request.params
    wanted = RelationsRequest(
        event_id=params["eventId"],
        backwards=query.choice("dir", ("b", "f"), default="b") == "b",
        start=_place(request, "from"),
        stop=_place(request, "to"),
        limit=_limit(request),
        rel_type=params.get("relType"),
        event_type=params.get("eventType"),
        recurse=query.boolean("recurse") or query.boolean("org.matrix.msc3981.recurse"),
    )
    room = await known_room_of(services, request)
    async with services.pool.acquire() as conn:
        answer = await relations(conn, services.timeline.names, reader_of(request.requester), room, wanted)
    if "recurse" in query and not wanted.recurse:
        answer["recursion_depth"] = 1
    return answer


async def get_threads(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv1roomsroomidthreads"""
    participated = request.query.choice("include", ("all", "participated"), default="all") == "participated"
    until, limit = _place(request, "from"), _limit(request)
    room = await room_of(services, request)
    async with services.pool.acquire() as conn:
        return await threads(
            conn,
            services.timeline.names,
            reader_of(request.requester),
            room,
            participated=participated,
            until=until,
            limit=limit,
        )


def _place(request: ApiRequest, name: str) -> int | None:
    token = request.query.string(name)
    return parse_place(token) if token else None


def _limit(request: ApiRequest) -> int:
    return min(request.query.integer("limit", default=_DEFAULT_LIMIT, minimum=1), _MAX_LIMIT)


_RELATIONS = "/rooms/{roomId}/relations/{eventId}"

ROUTES: list[Route] = [
    route
    for path in (_RELATIONS, _RELATIONS + "/{relType}", _RELATIONS + "/{relType}/{eventType}")
    for route in client_routes("GET", path, get_relations, Auth.GUEST, versions=("v1",), unstable=("",))
]
ROUTES += client_routes(
    "GET", "/rooms/{roomId}/threads", get_threads, Auth.GUEST, versions=("v1",), unstable=("org.matrix.msc3856",)
)
