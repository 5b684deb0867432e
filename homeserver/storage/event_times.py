"""Events by the time that they say they were sent at."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.storage.events import COLUMNS, StoredEvent, stored_event
from homeserver.storage.stream import Connection

_MOST_SCANNED = 5_000


async def events_near(
    conn: Connection, room_nid: int, ts: int, *, backwards: bool, ranges: Sequence[tuple[int, int]], count: int = 1
) -> list[StoredEvent]:
    """The events of the timeline that lie in one of `ranges` (of places, inclusive) and were sent at `ts` or next after
    it (before it, if `backwards`), the nearest first.

    Looks at a bounded number of events: by time, and where too many of those lie outside the ranges, by place.
    """
    order, sign, edge = ("DESC", "<=", "high") if backwards else ("ASC", ">=", "low")
    by_time = (
        f"SELECT * FROM events WHERE room_nid = $1 AND ord IS NOT NULL AND origin_server_ts {sign} $2 "  # noqa: S608
        f"ORDER BY origin_server_ts {order}, ord {order} LIMIT {_MOST_SCANNED}"
    )
    in_ranges = (
        "EXISTS (SELECT FROM unnest($3::bigint[], $4::bigint[]) AS seen (low, high) WHERE ord BETWEEN low AND high)"
    )
    by_place = (
        "SELECT e.* FROM (SELECT * FROM unnest($3::bigint[], $4::bigint[]) AS seen (low, high) "  # noqa: S608
        f"ORDER BY {edge} {order}) seen CROSS JOIN LATERAL (SELECT * FROM events WHERE room_nid = $1 "
        f"AND ord BETWEEN seen.low AND seen.high ORDER BY ord {order} LIMIT {_MOST_SCANNED}) e "
        f"WHERE origin_server_ts {sign} $2 LIMIT {_MOST_SCANNED}"
    )
    lows, highs = [low for low, _ in ranges], [high for _, high in ranges]
    for scanned in (by_time, by_place):
        rows = await conn.fetch(
            f"SELECT {COLUMNS} FROM ({scanned}) e JOIN rooms r USING (room_nid) WHERE {in_ranges} "  # noqa: S608
            f"ORDER BY origin_server_ts {order}, ord {order} LIMIT $5",
            room_nid,
            ts,
            lows,
            highs,
            count,
        )
        if rows:
            return [stored_event(row) for row in rows]
    return []


async def ord_above(conn: Connection, room_nid: int, ord: int | None) -> int | None:
    """The place of the event next above that place, of the lowest event for None; None if there is none."""
    above: int | None = await conn.fetchval(
        "SELECT min(ord) FROM events WHERE room_nid = $1 AND ord IS NOT NULL AND ($2::bigint IS NULL OR ord > $2)",
        room_nid,
        ord,
    )
    return above
