"""Whether a room lets a server take part, before anything that it asks or says of the room is looked at.

# spec: server-server-api/#server-access-control-lists-acls
"""

from __future__ import annotations

from federation.peers import Federation
from homeserver.protocol.errors import Forbidden
from homeserver.protocol.server_acls import EVERYONE, parse_server_acl
from homeserver.storage.names import Room


async def check_acl(federation: Federation, room: Room, origin: str) -> None:
    """Checks the room's current m.room.server_acl.

    :raises Forbidden: if it denies that server
    """
    timeline = federation.services.timeline
    async with federation.services.pool.acquire() as conn:
        head = await timeline.head(conn, room)
        event = await head.state_event(conn, timeline.names, "m.room.server_acl")
    acl = EVERYONE
    if event is not None:
        known = federation.acls.get(event.event_id)
        # A redacted one has the same id and other content.
        if known is None or not event.content:
            known = parse_server_acl(event.content)
            federation.acls.set(event.event_id, known)
        acl = known
    if not acl.allows(origin):
        raise Forbidden(f"{origin} may not take part in this room")
