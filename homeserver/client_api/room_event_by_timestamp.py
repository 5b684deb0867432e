"""The event next to a moment.  # spec: client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event"""

from __future__ import annotations

from homeserver.client_api.rooms import known_room_of
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.protocol.errors import MissingParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.rooms.timestamps import event_near
from homeserver.rooms.visibility import access
from homeserver.services import Services


async def get_timestamp_to_event(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event"""
    ts = request.query.integer("ts")
    direction = request.query.choice("dir", ("f", "b"))
    if ts is None or direction is None:
        raise MissingParam("ts and dir are needed")
    room = await known_room_of(services, request)
    async with services.pool.acquire() as conn:
        allowed = await access(conn, services.timeline.names, room, request.requester.user_id)
    found = await event_near(
        services.timeline,
        services.backfiller,
        services.remote,
        room,
        ts,
        backwards=direction == "b",
        ranges=allowed.sight.ranges,
    )
    if found is None:
        raise NotFound(f"There is no event {'before' if direction == 'b' else 'after'} {ts} here")
    return {"event_id": found.event.event_id, "origin_server_ts": found.event.origin_server_ts}


ROUTES: list[Route] = client_routes(
    "GET",
    "/rooms/{roomId}/timestamp_to_event",
    get_timestamp_to_event,
    Auth.GUEST,
    versions=("v1",),
    unstable=("org.matrix.msc3030",),
)
