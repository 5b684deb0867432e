"""What a user was notified of, in all rooms, the newest first.

# spec: client-server-api/#get_matrixclientv3notifications
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.protocol.errors import InvalidParam
from homeserver.protocol.events import JsonObject
from homeserver.protocol.push_rules import Actions
from homeserver.services import Services
from homeserver.storage.events import events_by_nid
from homeserver.storage.notifications import (
    FOREVER,
    Notification,
    joined_at,
    newest_notifications,
    quiet_spans,
    read_positions,
)
from homeserver.storage.stream import Connection
from homeserver.sync.client_events import Reader, Shape, timeline_events
from homeserver.sync.notification_counts import audible_stretches, read_up_to

_DEFAULT_LIMIT = 20
_MOST = 100
_TOKEN = re.compile(r"n([0-9]{1,19})", re.ASCII)


async def get_notifications(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3notifications"""
    limit = min(request.query.integer("limit", default=_DEFAULT_LIMIT, minimum=1), _MOST)
    highlights = request.query.string("only") == "highlight"  # other values have no meaning
    before = _place(request.query.string("from"))
    requester = request.requester
    reader = Reader(requester.user_id, requester.user_nid, requester.device_id)
    async with services.pool.acquire() as conn:
        found = await _newest(conn, reader.user_nid, before, limit + 1, highlights=highlights)
        shown = await _shown(services, conn, reader, found[:limit])
    answer: JsonObject = {"notifications": shown}
    if len(found) > limit:
        answer["next_token"] = f"n{found[limit - 1].ord}"
    return answer


async def _newest(conn: Connection, user_nid: int, before: int, count: int, *, highlights: bool) -> list[Notification]:
    joined = await joined_at(conn, user_nid)
    spans = await quiet_spans(conn, user_nid, joined)
    stretches = [
        stretch
        for room_nid, ord in joined.items()
        for stretch in audible_stretches(room_nid, ord, before, spans.get(room_nid, ()))
    ]
    return await newest_notifications(conn, user_nid, stretches, before=before, count=count, highlights=highlights)


async def _shown(
    services: Services, conn: Connection, reader: Reader, notifications: Sequence[Notification]
) -> list[JsonObject]:
    timeline = services.timeline
    rooms = await timeline.names.rooms({each.room_nid for each in notifications})
    positions = await read_positions(conn, reader.user_nid, rooms)
    events = await events_by_nid(conn, [each.event_nid for each in notifications])
    shapes = await timeline_events(conn, reader, list(events.values()), {}, Shape(room_id=False))
    shown: list[JsonObject] = []
    for each in notifications:
        event = events[each.event_nid].event
        head = await timeline.head(conn, rooms[each.room_nid])
        actions = await timeline.notifications.actions_for(
            conn, head, timeline.names, event, reader.user_nid, highlight=each.highlight
        )
        shown.append(
            {
                "actions": _actions_json(actions),
                "event": shapes[each.event_nid],
                "read": each.ord <= read_up_to(positions[each.room_nid], each.thread_id),
                "room_id": rooms[each.room_nid].room_id,
                "ts": event.origin_server_ts,
            }
        )
    return shown


def _actions_json(actions: Actions) -> list[Any]:
    return ["notify", *({"set_tweak": name, "value": value} for name, value in actions.tweaks.items())]


def _place(token: str | None) -> int:
    if token is None:
        return FOREVER
    match = _TOKEN.fullmatch(token)
    if match is None or int(match[1]) > FOREVER:
        raise InvalidParam("That is not a token of this endpoint")
    return int(match[1])


ROUTES = [*client_routes("GET", "/notifications", get_notifications, Auth.USER)]
