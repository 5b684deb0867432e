"""Users of this server who wanted to be forgotten: what they said is shown redacted to who had not seen it.

# spec: client-server-api/#account-deactivation
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from homeserver.protocol.events import Event
from homeserver.protocol.redaction import redact
from homeserver.storage.events import StoredEvent
from homeserver.storage.stream import Connection


async def erased_users(conn: Connection, user_ids: Collection[str]) -> set[str]:
    """Those of these users who are to be forgotten."""
    rows = await conn.fetch(
        "SELECT u.user_id FROM users u JOIN accounts a USING (user_nid) WHERE u.user_id = ANY($1) AND a.erased",
        list(user_ids),
    )
    return {row["user_id"] for row in rows}


def redacted_form(stored: StoredEvent) -> StoredEvent:
    """The same event with nothing in it but what the room's working needs."""
    event = stored.event
    return replace(stored, event=Event(redact(event.json, event.room_version), event.room_version, event.event_id))


async def without_the_erased(conn: Connection, events: Sequence[StoredEvent]) -> list[StoredEvent]:
    """The events, redacted if they are messages or memberships of users who are to be forgotten."""
    said = [stored for stored in events if not stored.event.is_state or stored.event.type == "m.room.member"]
    erased = await erased_users(conn, {stored.event.sender for stored in said}) if said else set()
    hidden = {stored.nid for stored in said if stored.event.sender in erased}
    return [redacted_form(stored) if stored.nid in hidden else stored for stored in events]
