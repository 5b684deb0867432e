"""Receipts and read markers.

# spec: client-server-api/#receipts  client-server-api/#read-and-unread-markers
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from homeserver.client_api.room_access import joined_room_of
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.http.bodies import string
from homeserver.protocol.errors import InvalidParam
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import is_event_id
from homeserver.rooms.receipts import FULLY_READ, MAIN_THREAD, READ, READ_PRIVATE, Receipt
from homeserver.storage.names import Room

if TYPE_CHECKING:
    from homeserver.services import Services


async def post_receipt(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3roomsroomidreceiptreceipttypeeventid"""
    receipt_type, event_id = request.params["receiptType"], request.params["eventId"]
    if receipt_type not in (READ, READ_PRIVATE, FULLY_READ):
        raise InvalidParam(f"receiptType must be {READ}, {READ_PRIVATE} or {FULLY_READ}")
    thread_id = _thread_id(await request.json(allow_empty=True), receipt_type)
    room = await joined_room_of(services, request)
    services.presence.active(request.requester.user_nid)
    await _set(services, request, room, receipt_type, event_id, thread_id)
    return {}


async def post_read_markers(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3roomsroomidread_markers"""
    body = await request.json()
    wanted = {kind: string(body, kind) for kind in (FULLY_READ, READ, READ_PRIVATE)}
    room = await joined_room_of(services, request)
    services.presence.active(request.requester.user_nid)
    for kind, event_id in wanted.items():
        if event_id is not None:
            await _set(services, request, room, kind, event_id, None)
    return {}


async def _set(
    services: Services, request: ApiRequest, room: Room, kind: str, event_id: str, thread_id: str | None
) -> None:
    requester, receipts = request.requester, services.receipts
    if not is_event_id(event_id):
        raise InvalidParam(f"{event_id!r} is not an event id")
    if kind == FULLY_READ:
        await receipts.set_fully_read(room, requester.user_nid, event_id)
    else:
        now = services.timeline.clock()
        await receipts.set_local(Receipt(room, kind, requester.user_id, event_id, thread_id, now))


def _thread_id(body: JsonObject, receipt_type: str) -> str | None:
    value: Any = body.get("thread_id")
    if value is None and "thread_id" not in body:
        return None
    if receipt_type == FULLY_READ:
        raise InvalidParam(f"thread_id is not for {FULLY_READ}")
    if not isinstance(value, str) or not (value == MAIN_THREAD or is_event_id(value)):
        raise InvalidParam("thread_id must be an event id or main")
    return value


ROUTES: list[Route] = [
    *client_routes("POST", "/rooms/{roomId}/receipt/{receiptType}/{eventId}", post_receipt, Auth.GUEST),
    *client_routes("POST", "/rooms/{roomId}/read_markers", post_read_markers, Auth.GUEST),
]
