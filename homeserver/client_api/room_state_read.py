"""The state of a room: now for those who are in it, when they left for those who were.

# spec: client-server-api/#get_matrixclientv3roomsroomidstate
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from homeserver.client_api.rooms import room_of
from homeserver.http import ApiRequest, Auth, Response, Route, client_routes, json_response
from homeserver.protocol.errors import NotFound
from homeserver.protocol.events import JsonObject
from homeserver.rooms.visibility import Access, access
from homeserver.storage.events import StoredEvent, events_by_nid
from homeserver.storage.names import Room
from homeserver.storage.room_state import current_state, state_at
from homeserver.storage.stream import Connection
from homeserver.storage.sync_reads import known_state_key_nid
from homeserver.sync.client_events import state_events

if TYPE_CHECKING:
    from homeserver.services import Services


async def readable_state(
    conn: Connection, room: Room, access: Access, state_key_nids: Collection[int] | None = None
) -> list[StoredEvent]:
    """The state that someone with this access may read: of these keys, or all."""
    if access.state_pos is None:
        nids = await current_state(conn, room.nid, state_key_nids)
    else:
        nids = await state_at(conn, room.nid, access.state_pos, state_key_nids)
    events = await events_by_nid(conn, nids.values())
    return [events[nid] for nid in nids.values() if nid in events]


async def get_state(services: Services, request: ApiRequest) -> Response:
    """# spec: client-server-api/#get_matrixclientv3roomsroomidstate"""
    room = await room_of(services, request)
    async with services.pool.acquire() as conn:
        allowed = await access(conn, services.timeline.names, room, request.requester.user_id)
        events = await state_events(conn, await readable_state(conn, room, allowed))
    return json_response(events)


async def get_state_event(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3roomsroomidstateeventtypestatekey"""
    room = await room_of(services, request)
    whole = request.query.choice("format", ("content", "event"), default="content") == "event"
    key = (request.params["eventType"], request.params.get("stateKey", ""))
    names = services.timeline.names
    async with services.pool.acquire() as conn:
        allowed = await access(conn, names, room, request.requester.user_id)
        key_nid = await known_state_key_nid(conn, *key)
        events = await readable_state(conn, room, allowed, [key_nid]) if key_nid is not None else []
        if not events:
            raise NotFound("The room has no such state")
        return (await state_events(conn, events))[0] if whole else events[0].event.content


_STATE = "/rooms/{roomId}/state"

ROUTES: list[Route] = [
    *client_routes("GET", _STATE, get_state, Auth.GUEST),
    *client_routes("GET", _STATE + "/{eventType}", get_state_event, Auth.GUEST),
    *client_routes("GET", _STATE + "/{eventType}/", get_state_event, Auth.GUEST),
    *client_routes("GET", _STATE + "/{eventType}/{stateKey}", get_state_event, Auth.GUEST),
]
