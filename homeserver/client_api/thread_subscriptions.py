"""Subscriptions to threads (proposals, MSC4306; paging through their changes, MSC4308).

Under the unstable prefix error codes have one too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from homeserver.client_api.rooms import known_room_of
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.http.bodies import string
from homeserver.protocol.errors import BadRequest, Forbidden, InvalidParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.rooms.visibility import access
from homeserver.storage.events import ORD_SHIFT, StoredEvent, event_by_id, relation_of
from homeserver.storage.names import Room
from homeserver.storage.stream import Connection
from homeserver.storage.thread_subscriptions import (
    ThreadSubscription,
    find_subscription,
    lock_subscriptions,
    subscription_changes,
    write_subscription,
)
from homeserver.sync.sliding.extensions.thread_subscriptions import MOST, subscriptions_json
from homeserver.sync.tokens import parse_sliding_token

if TYPE_CHECKING:
    from homeserver.services import Services

_UNSTABLE_PREFIX = "/_matrix/client/unstable/"
_TOKEN = re.compile(r"[0-9]{1,18}", re.ASCII)
_FOREVER = 2**63 - 1


async def put_subscription(services: Services, request: ApiRequest) -> JsonObject:
    """PUT …/rooms/{roomId}/thread/{eventId}/subscription"""
    cause_id = string(await request.json(allow_empty=True), "automatic", max_length=255)
    room, user_nid = await known_room_of(services, request), request.requester.user_nid
    async with services.stream.write() as write:
        root = await _visible_event(services, write.conn, request, room, request.params["eventId"])
        cause = None
        if cause_id is not None:
            cause = await _cause(services, write.conn, request, room, root, cause_id)
        await lock_subscriptions(write.conn, user_nid)
        thread_id = root.event.event_id
        current = await find_subscription(write.conn, user_nid, room.nid, thread_id)
        if current is not None and current.subscribed:
            if cause is not None or not current.automatic:
                return {}  # a manual subscription stays one
        elif current is not None and cause is not None and (cause.ord or 0) >> ORD_SHIFT <= current.pos:
            # The user knew what causes this when they unsubscribed.
            raise BadRequest(
                "The user has unsubscribed from the thread since",
                errcode=_errcode(request, "M_CONFLICTING_UNSUBSCRIPTION"),
                status=409,
            )
        pos = await write.next_position()
        await write_subscription(
            write.conn, user_nid, ThreadSubscription(room.nid, thread_id, True, cause is not None, pos)
        )
        write.changed(users=[user_nid])
    return {}


async def delete_subscription(services: Services, request: ApiRequest) -> JsonObject:
    """DELETE …/rooms/{roomId}/thread/{eventId}/subscription"""
    room, user_nid = await known_room_of(services, request), request.requester.user_nid
    async with services.stream.write() as write:
        root = await _visible_event(services, write.conn, request, room, request.params["eventId"])
        await lock_subscriptions(write.conn, user_nid)
        current = await find_subscription(write.conn, user_nid, room.nid, root.event.event_id)
        if current is not None and current.subscribed:
            pos = await write.next_position()
            await write_subscription(
                write.conn, user_nid, ThreadSubscription(room.nid, root.event.event_id, False, False, pos)
            )
            write.changed(users=[user_nid])
    return {}


async def get_subscription(services: Services, request: ApiRequest) -> JsonObject:
    """GET …/rooms/{roomId}/thread/{eventId}/subscription"""
    room, user_nid = await known_room_of(services, request), request.requester.user_nid
    async with services.pool.acquire() as conn:
        root = await _visible_event(services, conn, request, room, request.params["eventId"])
        current = await find_subscription(conn, user_nid, room.nid, root.event.event_id)
    if current is None or not current.subscribed:
        raise NotFound("You have not subscribed to that thread")
    return {"automatic": current.automatic}


async def get_subscriptions(services: Services, request: ApiRequest) -> JsonObject:
    """GET …/thread_subscriptions"""
    query = request.query
    if query.string("dir", required=True) != "b":
        raise InvalidParam("dir must be b")
    limit = min(query.integer("limit", default=MOST, minimum=1), MOST)
    start, stop = query.string("from"), query.string("to")
    if start is not None and _TOKEN.fullmatch(start) is None:
        raise InvalidParam("from is not a token of this endpoint")
    sliding = None if stop is None else parse_sliding_token(stop)
    if stop is not None and sliding is None:
        raise InvalidParam("to is not a pos of sliding sync")
    async with services.pool.acquire() as conn:
        found = await subscription_changes(
            conn,
            request.requester.user_nid,
            after=-1 if sliding is None else sliding.position,
            until=_FOREVER if start is None else int(start),
            limit=limit + 1,
        )
    json = await subscriptions_json(services.timeline.names, found[:limit])
    if len(found) > limit:
        json["end"] = str(found[limit - 1].pos - 1)
    return json


async def _visible_event(
    services: Services, conn: Connection, request: ApiRequest, room: Room, event_id: str
) -> StoredEvent:
    """An event of the room that the user may see.

    :raises NotFound: if there is none, or the room is none of the user's
    """
    event = await event_by_id(conn, event_id, room.nid)
    if event is not None and event.ord is not None:
        try:
            allowed = await access(conn, services.timeline.names, room, request.requester.user_id)
        except Forbidden:
            raise NotFound("There is no such thread") from None
        if allowed.sight.sees(event.ord):
            return event
    raise NotFound("There is no such thread")


async def _cause(
    services: Services, conn: Connection, request: ApiRequest, room: Room, root: StoredEvent, event_id: str
) -> StoredEvent:
    """The event of the thread that makes a client subscribe by itself."""
    try:
        cause = await _visible_event(services, conn, request, room, event_id)
    except NotFound:
        cause = None
    relation = None if cause is None else relation_of(cause.event.content)
    if cause is None or relation is None or relation[:2] != (root.event.event_id, "m.thread"):
        raise BadRequest("That event is not in the thread", errcode=_errcode(request, "M_NOT_IN_THREAD"))
    return cause


def _errcode(request: ApiRequest, errcode: str) -> str:
    return f"IO.ELEMENT.MSC4306.{errcode}" if request.route.path.startswith(_UNSTABLE_PREFIX) else errcode


_SUBSCRIPTION = "/rooms/{roomId}/thread/{eventId}/subscription"
ROUTES: list[Route] = [
    route
    for method, handler in (
        ("PUT", put_subscription),
        ("DELETE", delete_subscription),
        ("GET", get_subscription),
    )
    for route in client_routes(
        method, _SUBSCRIPTION, handler, Auth.USER, versions=("v1",), unstable=("io.element.msc4306",)
    )
] + client_routes(
    "GET",
    "/thread_subscriptions",
    get_subscriptions,
    Auth.USER,
    versions=("v1",),
    unstable=("io.element.msc4308",),
)
