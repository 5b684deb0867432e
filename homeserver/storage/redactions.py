"""Redactions: which were asked for, and the redacted form taking the event's place for good."""

from __future__ import annotations

from homeserver.storage.event_search import unindex_event
from homeserver.storage.stream import Connection


async def mark_redacted(conn: Connection, event_nid: int, redaction_nid: int, redacted_json: bytes) -> None:
    """Puts the redacted form in the event's place. What was redacted is gone from here."""
    await conn.execute(
        "UPDATE events SET json = $2, redacted_by = $3, contains_url = false WHERE event_nid = $1",
        event_nid,
        redacted_json,
        redaction_nid,
    )
    await conn.execute("DELETE FROM event_relations WHERE event_nid = $1", event_nid)
    await unindex_event(conn, event_nid)


async def redactions_of(conn: Connection, event_id: str, room_nid: int) -> list[int]:
    """The numbers of the redactions in that room that name this event, oldest first."""
    rows = await conn.fetch(
        "SELECT event_nid FROM redactions WHERE redacts = $1 AND room_nid = $2 ORDER BY event_nid", event_id, room_nid
    )
    return [row["event_nid"] for row in rows]
