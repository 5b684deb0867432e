"""Messages, names and topics that can be searched for, written with their events. `search_reads` finds them.

# spec: client-server-api/#server-side-search
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from homeserver.storage.search_terms import searchable
from homeserver.storage.stream import Connection

if TYPE_CHECKING:
    from homeserver.protocol.events import Event
    from homeserver.storage.events import NewEventRow


class Key(IntEnum):
    """What part of an event a text is.  # spec: client-server-api/#room_events"""

    BODY = 0
    NAME = 1
    TOPIC = 2


def searchable_text(event: Event) -> tuple[Key, str] | None:
    """The text by which an event is found, if it has one.  # spec: client-server-api/#room_events"""
    content = event.content
    if event.type == "m.room.message" and not event.is_state:
        return _text(Key.BODY, content.get("body"))
    if event.type == "m.room.name" and event.is_state:
        return _text(Key.NAME, content.get("name"))
    if event.type == "m.room.topic" and event.is_state:
        texts = [text for text in (content.get("topic"), _plain_topic(content)) if isinstance(text, str)]
        return _text(Key.TOPIC, "\n".join(dict.fromkeys(texts)))
    return None


def _text(key: Key, value: object) -> tuple[Key, str] | None:
    return (key, value) if isinstance(value, str) and value else None


def _plain_topic(content: dict[str, Any]) -> object:
    # spec: client-server-api/#mroomtopic
    block = content.get("m.topic")
    texts = block.get("m.text") if isinstance(block, dict) else None
    for text in texts if isinstance(texts, list) else ():
        if isinstance(text, dict) and text.get("mimetype", "text/plain") == "text/plain":
            return text.get("body")
    return None


async def index_events(conn: Connection, room_nid: int, rows: Sequence[NewEventRow]) -> None:
    """Enters those of these events that have a place in the timeline and a text."""
    found = [
        (row, key_and_text)
        for row in rows
        if row.ord is not None and row.redacted_by is None and (key_and_text := searchable_text(row.event)) is not None
    ]
    if not found:
        return
    texts = [searchable(text) for _, (_, text) in found]
    await conn.execute(
        """
        INSERT INTO event_search (event_nid, room_nid, sender_nid, ord, key, text, terms)
        SELECT n.nid, $1, n.sender, n.ord, n.key, n.text, to_tsvector('english', n.words) || n.pieces::tsvector
          FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::text[], $7::text[], $8::text[])
            AS n (nid, sender, ord, key, text, words, pieces)
        ON CONFLICT DO NOTHING
        """,
        room_nid,
        [row.nid for row, _ in found],
        [row.sender_nid for row, _ in found],
        [row.ord for row, _ in found],
        [int(key) for _, (key, _) in found],
        [text.text for text in texts],
        [text.words for text in texts],
        [text.pieces for text in texts],
    )


async def unindex_event(conn: Connection, event_nid: int) -> None:
    """Takes out an event that is redacted."""
    await conn.execute("DELETE FROM event_search WHERE event_nid = $1", event_nid)
