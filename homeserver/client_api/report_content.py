"""Reports of rooms, events and users, kept for the administrators.

Nothing in an answer says whether what was reported exists, beyond what the one who reports knows anyway.

# spec: client-server-api/#reporting-content
"""

from __future__ import annotations

from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.http.bodies import integer, string
from homeserver.protocol.errors import InvalidParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, is_event_id, is_room_id, is_user_id
from homeserver.rooms.visibility import sights
from homeserver.services import Services
from homeserver.storage.accounts import find_account
from homeserver.storage.events import event_by_id
from homeserver.storage.members import membership_in
from homeserver.storage.reports import Report, insert_report

_LONGEST_REASON = 10_000


async def report_room(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3roomsroomidreport"""
    reason = string(await request.json(), "reason", required=True, max_length=_LONGEST_REASON)
    room_id = request.params["roomId"]
    if is_room_id(room_id) and await services.timeline.names.room(room_id) is not None:
        await _keep(services, request, kind="room", room_id=room_id, reason=reason)
    return {}


async def report_event(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3roomsroomidreporteventid"""
    body = await request.json()
    reason = string(body, "reason", max_length=_LONGEST_REASON)
    score = integer(body, "score", minimum=-100, maximum=100)
    room_id, event_id = request.params["roomId"], request.params["eventId"]
    if not await _sees(services, request, room_id, event_id):
        raise NotFound("The event was not found or you are not joined to the room")
    await _keep(services, request, kind="event", room_id=room_id, event_id=event_id, reason=reason, score=score)
    return {}


async def _sees(services: Services, request: ApiRequest, room_id: str, event_id: str) -> bool:
    """Whether the user is in the room and may see the event there."""
    requester, names = request.requester, services.timeline.names
    room = await names.room(room_id) if is_room_id(room_id) and is_event_id(event_id) else None
    if room is None:
        return False
    async with services.pool.acquire() as conn:
        own = await membership_in(conn, room.nid, requester.user_nid)
        if own is None or own.membership != "join":
            return False
        stored = await event_by_id(conn, event_id, room.nid)
        if stored is None or stored.ord is None:
            return False
        return (await sights(conn, names, requester.user_id, [room.nid]))[room.nid].sees(stored.ord)


async def report_user(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3usersuseridreport"""
    reason = string(await request.json(), "reason", required=True, max_length=_LONGEST_REASON)
    user_id = request.params["userId"]
    if not is_user_id(user_id):
        raise InvalidParam("This is not a user id")
    async with services.pool.acquire() as conn:
        known = domain_of(user_id) != services.server_name or await find_account(conn, user_id) is not None
    if known:
        await _keep(services, request, kind="user", user_id=user_id, reason=reason)
    return {}


async def _keep(
    services: Services,
    request: ApiRequest,
    *,
    kind: str,
    reason: str | None,
    room_id: str | None = None,
    event_id: str | None = None,
    user_id: str | None = None,
    score: int | None = None,
) -> None:
    now = services.timeline.clock()
    report = Report(kind, request.requester.user_nid, now, room_id, event_id, user_id, reason, score)
    async with services.pool.acquire() as conn:
        await insert_report(conn, report)


ROUTES: list[Route] = [
    *client_routes(
        "POST",
        "/rooms/{roomId}/report",
        report_room,
        Auth.GUEST,
        unstable=("org.matrix.msc4151",),
        limit="message",
    ),
    *client_routes("POST", "/rooms/{roomId}/report/{eventId}", report_event, Auth.GUEST, limit="message"),
    *client_routes(
        "POST", "/users/{userId}/report", report_user, Auth.GUEST, unstable=("org.matrix.msc4260",), limit="message"
    ),
]
