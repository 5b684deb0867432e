"""Who is and was in a room.

# spec: client-server-api/#get_matrixclientv3roomsroomidmembers
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from homeserver.client_api.rooms import room_of
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.protocol.errors import Forbidden
from homeserver.protocol.events import JsonObject
from homeserver.rooms.visibility import Access, access
from homeserver.storage.events import ORD_SHIFT, events_by_nid
from homeserver.storage.members import joined_of_server, membership_in
from homeserver.storage.names import Room
from homeserver.storage.room_state import FOREVER
from homeserver.storage.stream import Connection
from homeserver.storage.sync_reads import member_nids_at
from homeserver.sync.client_events import state_events
from homeserver.sync.tokens import parse_place

if TYPE_CHECKING:
    from homeserver.services import Services

_MEMBERSHIPS = ("join", "invite", "knock", "leave", "ban")


async def get_members(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3roomsroomidmembers"""
    room = await room_of(services, request)
    at = request.query.string("at")
    only = request.query.choice("membership", _MEMBERSHIPS)
    but = request.query.choice("not_membership", _MEMBERSHIPS)
    async with services.pool.acquire() as conn:
        allowed = await access(conn, services.timeline.names, room, request.requester.user_id)
        pos = _position(allowed, None if not at else parse_place(at))
        events = await events_by_nid(conn, await member_nids_at(conn, room.nid, pos))
        wanted = [event for event in events.values() if _is_wanted(event.event.membership, only, but)]
        return {"chunk": await state_events(conn, wanted)}


def _position(allowed: Access, place: int | None) -> int:
    """The position whose members are wanted, or the nearest whose members the user may know."""
    last = FOREVER - 1 if allowed.state_pos is None else allowed.state_pos
    if place is None:
        return last
    pos = min(max(place >> ORD_SHIFT, allowed.sight.known_from or 0), last)
    if not allowed.sight.sees(pos << ORD_SHIFT):
        pos = next((low >> ORD_SHIFT for low, _ in allowed.sight.ranges if low >> ORD_SHIFT > pos), last)
    return pos


def _is_wanted(membership: str | None, only: str | None, but: str | None) -> bool:
    if only is not None and but is not None:
        return membership == only or membership != but
    return (only is None or membership == only) and (but is None or membership != but)


async def get_joined_members(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3roomsroomidjoined_members"""
    room = await room_of(services, request)
    async with services.pool.acquire() as conn:
        if not await _may_list(services, request, conn, room):
            raise Forbidden("You are not in that room")
        events = await events_by_nid(conn, await member_nids_at(conn, room.nid, FOREVER - 1))
    joined: JsonObject = {}
    for stored in events.values():
        event = stored.event
        if event.membership == "join" and event.state_key is not None:
            named = {"display_name": event.content.get("displayname"), "avatar_url": event.content.get("avatar_url")}
            joined[event.state_key] = {key: value for key, value in named.items() if isinstance(value, str)}
    return {"joined": joined}


async def _may_list(services: Services, request: ApiRequest, conn: Connection, room: Room) -> bool:
    """Whether the user is in the room; of an application service any of its users may be.

    # spec: client-server-api/#get_matrixclientv3roomsroomidjoined_members
    """
    requester = request.requester
    own = await membership_in(conn, room.nid, requester.user_nid)
    if own is not None and own.membership == "join":
        return True
    appservice = request.http.authenticator.appservice(request)
    if appservice is None:
        return False
    here = await joined_of_server(conn, room.nid, services.server_name)
    return any(appservice.covers_user(user_id) for user_id in here)


ROUTES: list[Route] = [
    *client_routes("GET", "/rooms/{roomId}/members", get_members, Auth.GUEST),
    *client_routes("GET", "/rooms/{roomId}/joined_members", get_joined_members, Auth.GUEST),
]
