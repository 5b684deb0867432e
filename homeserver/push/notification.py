"""What a device is told of an event, and how many messages its user has not read.

# spec: push-gateway-api/#post_matrixpushv1notify
"""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.protocol.events import Event, JsonObject
from homeserver.protocol.push_rules import Actions
from homeserver.rooms.head import RoomHead
from homeserver.rooms.notifications import display_names
from homeserver.services import Services
from homeserver.storage.events import events_by_nid
from homeserver.storage.notifications import MAIN, NotifyingEvent, joined_at, notified_among, read_positions
from homeserver.storage.pushers import Pusher, QueuedEvent
from homeserver.storage.receipts import thread_of
from homeserver.storage.stream import Connection
from homeserver.sync.notification_counts import read_up_to, unread_counts

_EVENT_ID_ONLY = "event_id_only"
_ENCRYPTED = "m.room.encrypted"


@dataclass(frozen=True, slots=True)
class Told:
    """An event as a user is to be told of it. `unread` counts the messages in all of the user's rooms."""

    event: Event
    actions: Actions
    user_id: str
    unread: int
    sender_name: str | None
    room_name: str | None
    room_alias: str | None


async def what_to_tell(services: Services, conn: Connection, pusher: Pusher, queued: QueuedEvent) -> Told | None:
    """The event as it is to be told now; None if it is better not told any more.

    That is so if it is gone, redacted or read, or if the user is no longer where it happened.
    """
    user_nid, room_nid = pusher.user_nid, queued.room_nid
    stored = (await events_by_nid(conn, [queued.event_nid])).get(queued.event_nid)
    if stored is None or stored.redacted_by is not None:
        return None
    notified = await notified_among(
        conn, NotifyingEvent(queued.ord, room_nid, queued.event_nid, ordinary=True), [user_nid]
    )
    if user_nid not in notified:
        return None
    event = stored.event
    thread_id = await thread_of(conn, room_nid, event.event_id) or MAIN
    positions = await read_positions(conn, user_nid, [room_nid])
    if queued.ord <= read_up_to(positions[room_nid], thread_id):
        return None
    timeline = services.timeline
    room = (await timeline.names.rooms([room_nid]))[room_nid]
    head = await timeline.head(conn, room)
    actions = await timeline.notifications.actions_for(
        conn, head, timeline.names, event, user_nid, highlight=notified[user_nid]
    )
    names = await display_names(conn, head, timeline.names, [event.sender])
    return Told(
        event=event,
        actions=actions,
        user_id=(await timeline.names.user_ids([user_nid]))[user_nid],
        unread=await unread_messages(services, conn, user_nid),
        sender_name=names.get(event.sender),
        room_name=await _state_text(services, conn, head, "m.room.name", "name"),
        room_alias=await _state_text(services, conn, head, "m.room.canonical_alias", "alias"),
    )


async def _state_text(services: Services, conn: Connection, head: RoomHead, type: str, key: str) -> str | None:
    event = await head.state_event(conn, services.timeline.names, type)
    value = event.content.get(key) if event is not None else None
    return value if isinstance(value, str) and value else None


async def unread_messages(services: Services, conn: Connection, user_nid: int) -> int:
    """How many messages that notified the user are unread, over all rooms that the user is in."""
    until = services.stream.position
    counts = await unread_counts(conn, user_nid, await joined_at(conn, user_nid), until, by_thread=False)
    return sum(max(one.room.notify, 0) for one in counts.values())


def event_notification(pusher: Pusher, told: Told) -> JsonObject:
    """The notification of an event, with all about it that its pusher's format asks for."""
    event, tweaks = told.event, told.actions.tweaks
    is_urgent = event.type == _ENCRYPTED or told.actions.highlight or "sound" in tweaks
    notification: JsonObject = {
        "event_id": event.event_id,
        "room_id": event.room_id,
        "prio": "high" if is_urgent else "low",
        "counts": {"unread": told.unread} if told.unread else {},
        "devices": [_device(pusher, tweaks)],
    }
    if pusher.fields.data.get("format") == _EVENT_ID_ONLY:
        return notification
    notification |= {"type": event.type, "sender": event.sender}
    # What is encrypted can't be shown by any gateway, and doesn't fit into what most can hand on.
    if event.type != _ENCRYPTED:
        notification["content"] = event.content
    if event.type == "m.room.member":
        notification["user_is_target"] = event.state_key == told.user_id
    shown = {
        "sender_display_name": told.sender_name,
        "room_name": told.room_name,
        "room_alias": told.room_alias,
    }
    return notification | {key: value for key, value in shown.items() if value is not None}


def badge_notification(pusher: Pusher, unread: int) -> JsonObject:
    """A notification about no event: that so many messages are unread now.

    None are said to be 0: a gateway that is not given the number leaves the old one on the screen.
    """
    return {"prio": "low", "counts": {"unread": unread}, "devices": [_device(pusher, {})]}


def _device(pusher: Pusher, tweaks: JsonObject) -> JsonObject:
    fields = pusher.fields
    return {
        "app_id": fields.app_id,
        "pushkey": fields.pushkey,
        "pushkey_ts": pusher.set_ts // 1000,
        "data": {key: value for key, value in fields.data.items() if key != "url"},
        "tweaks": tweaks,
    }
