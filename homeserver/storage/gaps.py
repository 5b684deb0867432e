"""Where a room's known history ends or has a gap: events that are cited as prev_events and not here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class Gap:
    """`event_id`, which is here at `ord`, cites `missing`, which is not."""

    missing: str
    event_nid: int
    event_id: str
    ord: int


async def record_missing(conn: Connection, room_nid: int, event_nid: int, prev_event_ids: Sequence[str]) -> None:
    """Notes that an event cites these, which are not here."""
    if prev_event_ids:
        await conn.execute(
            "INSERT INTO missing_prev_events (room_nid, prev_event_id, event_nid) SELECT $1, unnest($2::text[]), $3 "
            "ON CONFLICT DO NOTHING",
            room_nid,
            list(prev_event_ids),
            event_nid,
        )


async def citing_events(conn: Connection, room_nid: int, event_id: str) -> list[int]:
    """Takes note that an event is no longer missing; the events that had cited it."""
    rows = await conn.fetch(
        "DELETE FROM missing_prev_events WHERE room_nid = $1 AND prev_event_id = $2 RETURNING event_nid",
        room_nid,
        event_id,
    )
    return [row["event_nid"] for row in rows]


async def gaps_between(conn: Connection, room_nid: int, above: int | None, until: int) -> list[Gap]:
    """The gaps just below events whose place is above `above` and not above `until`, the uppermost first."""
    rows = await conn.fetch(
        "SELECT m.prev_event_id, e.event_nid, e.event_id, e.ord FROM missing_prev_events m "
        "JOIN events e USING (event_nid) WHERE m.room_nid = $1 AND e.ord <= $2 AND ($3::bigint IS NULL OR e.ord > $3) "
        "ORDER BY e.ord DESC LIMIT 50",
        room_nid,
        until,
        above,
    )
    return [Gap(row["prev_event_id"], row["event_nid"], row["event_id"], row["ord"]) for row in rows]


async def ord_below(conn: Connection, room_nid: int, ord: int, count: int) -> int | None:
    """The place of the event that is `count` events below that place; None if there are not so many."""
    below: int | None = await conn.fetchval(
        "SELECT ord FROM events WHERE room_nid = $1 AND ord < $2 ORDER BY ord DESC OFFSET $3 LIMIT 1",
        room_nid,
        ord,
        count - 1,
    )
    return below
