"""What someone outside a room is told of it with an invitation or when knocking.

# spec: client-server-api/#stripped-state
"""

from __future__ import annotations

from homeserver.protocol.client_event import stripped_state_event
from homeserver.protocol.events import Event, JsonObject
from homeserver.rooms.head import RoomHead
from homeserver.storage.names import Names
from homeserver.storage.stream import Connection

_TYPES = (
    "m.room.create",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.encryption",
)


async def stripped_state_events(conn: Connection, names: Names, head: RoomHead, sender: str | None) -> list[Event]:
    """The events that a room shows of itself, and the member event of `sender`, who invites."""
    keys = [(type, "") for type in _TYPES]
    if sender is not None:
        keys.append(("m.room.member", sender))
    state = await head.state(conn, names, keys)
    return [entry.event for entry in state.values()]


async def stripped_state(conn: Connection, names: Names, head: RoomHead, member: Event) -> list[JsonObject]:
    """The same for a client, with the member event (an invite or a knock) that it is about at the end."""
    sender = member.sender if member.sender != member.state_key else None
    events = await stripped_state_events(conn, names, head, sender)
    return [stripped_state_event(event) for event in [*events, member]]
