"""Reading timelines: stretches of rooms by place, through filters, without touching what lies outside.

A place is an `ord`. Every read is bounded by how many events it gives; one through a filter that few events pass is
bounded by how many it looks at too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homeserver.protocol.filters import EventFilter
from homeserver.storage.events import COLUMNS, StoredEvent, stored_event
from homeserver.storage.stream import Connection

MOST_SCANNED = 5_000  # events that one page of history looks at
MOST_SCANNED_OF_A_ROOM = 1_000  # the same for the newest events of one room; there may be thousands of rooms


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a room's timeline: events above `after`, up to and with `until`."""

    room_nid: int
    after: int
    until: int


def filter_condition(filter: EventFilter, ignored: Collection[int], arguments: list[Any]) -> str:
    """A filter and a list of ignored users (their numbers) as an SQL condition on `events e`.

    What it refers to is appended to `arguments`. Rooms are not looked at.
    # spec: client-server-api/#filtering  client-server-api/#ignoring-users
    """
    conditions = ["true"]

    def add(condition: str, *values: Any) -> None:
        for value in values:
            arguments.append(value)
            condition = condition.replace("?", f"${len(arguments)}", 1)
        conditions.append(condition)

    if filter.types_like is not None:
        add("e.type LIKE ANY(?::text[])", list(filter.types_like))
    if filter.not_types_like:
        add("NOT e.type LIKE ANY(?::text[])", list(filter.not_types_like))
    if filter.senders is not None:
        add("e.sender_nid IN (SELECT user_nid FROM users WHERE user_id = ANY(?::text[]))", list(filter.senders))
    if filter.not_senders:
        add("e.sender_nid NOT IN (SELECT user_nid FROM users WHERE user_id = ANY(?::text[]))", list(filter.not_senders))
    if filter.contains_url is not None:
        add("e.contains_url = ?::boolean", filter.contains_url)
    if filter.related_by_rel_types is not None or filter.related_by_senders is not None:
        # spec: client-server-api/#post_matrixclientv3useruseridfilter related_by_…
        add(
            "EXISTS (SELECT 1 FROM event_relations l JOIN events c ON c.event_nid = l.event_nid "
            "JOIN users u ON u.user_nid = c.sender_nid WHERE l.relates_to = e.event_id AND l.room_nid = e.room_nid "
            "AND c.status = 0 AND l.rel_type = ANY(COALESCE(?::text[], ARRAY[l.rel_type])) "
            "AND u.user_id = ANY(COALESCE(?::text[], ARRAY[u.user_id])))",
            None if filter.related_by_rel_types is None else list(filter.related_by_rel_types),
            None if filter.related_by_senders is None else list(filter.related_by_senders),
        )
    if ignored:
        add("(e.state_key_nid IS NOT NULL OR e.sender_nid <> ALL(?::bigint[]))", list(ignored))
    return " AND ".join(conditions)


async def newest_events(
    conn: Connection,
    windows: Sequence[Window],
    count: int,
    filter: EventFilter,
    ignored: Collection[int],
    *,
    most_scanned: int | None = None,
) -> dict[int, list[StoredEvent]]:
    """The newest `count` live events of each window that pass the filter, oldest first: room_nid -> events.

    :param most_scanned: how many events of a window are looked at (`ends_of_scans` says down to where that is); None:
        as many as it takes
    """
    if not windows or count <= 0:
        return {}
    arguments: list[Any] = [
        [window.room_nid for window in windows],
        [window.after for window in windows],
        [window.until for window in windows],
        count,
        most_scanned,
    ]
    condition = filter_condition(filter, ignored, arguments)
    rows = await conn.fetch(
        f"""
        SELECT {COLUMNS}
          FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS w (room_nid, after, until)
          JOIN rooms r ON r.room_nid = w.room_nid
          CROSS JOIN LATERAL (
            SELECT * FROM (
                SELECT * FROM events e
                 WHERE e.room_nid = w.room_nid AND e.ord > w.after AND e.ord <= w.until AND e.live
                 ORDER BY e.ord DESC LIMIT $5
            ) e WHERE {condition} ORDER BY e.ord DESC LIMIT $4
          ) e
         ORDER BY e.ord
        """,  # noqa: S608
        *arguments,
    )
    found: dict[int, list[StoredEvent]] = {}
    for row in rows:
        found.setdefault(row["room_nid"], []).append(stored_event(row))
    return found


async def ends_of_scans(conn: Connection, windows: Sequence[Window], most_scanned: int) -> dict[int, int]:
    """room_nid -> the place of the last event that such a scan looks at; of windows that have so many live events."""
    if not windows:
        return {}
    rows = await conn.fetch(
        """
        SELECT w.room_nid, e.ord FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS w (room_nid, after, until)
          CROSS JOIN LATERAL (
            SELECT e.ord FROM events e
             WHERE e.room_nid = w.room_nid AND e.ord > w.after AND e.ord <= w.until AND e.live
             ORDER BY e.ord DESC OFFSET $4::bigint - 1 LIMIT 1
          ) e
        """,
        [window.room_nid for window in windows],
        [window.after for window in windows],
        [window.until for window in windows],
        most_scanned,
    )
    return {row["room_nid"]: row["ord"] for row in rows}


async def rooms_known_from_the_start(conn: Connection, room_nids: Collection[int]) -> set[int]:
    """Those of the rooms whose timeline begins, live, with their creation: nothing is missing below it."""
    rows = await conn.fetch(
        """
        SELECT w.room_nid FROM unnest($1::bigint[]) AS w (room_nid) CROSS JOIN LATERAL (
            SELECT e.type, e.live FROM events e WHERE e.room_nid = w.room_nid AND e.ord IS NOT NULL
             ORDER BY e.ord LIMIT 1
        ) e WHERE e.live AND e.type = 'm.room.create'
        """,
        list(room_nids),
    )
    return {row["room_nid"] for row in rows}


@dataclass(frozen=True, slots=True)
class Page:
    """Events in the order asked for, and the place up to which there was looked: None if that was the end."""

    events: list[StoredEvent]
    next_ord: int | None


async def page_of_events(
    conn: Connection,
    window: Window,
    *,
    backwards: bool,
    count: int,
    filter: EventFilter,
    ignored: Collection[int],
    ranges: Sequence[tuple[int, int]],
) -> Page:
    """At most `count` events of the window that lie in one of `ranges` (inclusive) and pass the filter.

    Looks at no more than MOST_SCANNED events, so the page may be empty though there are more.
    """
    order, edge = ("DESC", "min") if backwards else ("ASC", "max")
    lows, highs = [low for low, _ in ranges], [high for _, high in ranges]
    arguments: list[Any] = [window.room_nid, window.after, window.until, lows, highs, MOST_SCANNED, count]
    condition = filter_condition(filter, ignored, arguments)
    scanned = f"""
        SELECT * FROM events e
         WHERE e.room_nid = $1 AND e.ord > $2 AND e.ord <= $3 AND e.status = 0 AND EXISTS (
            SELECT 1 FROM unnest($4::bigint[], $5::bigint[]) AS seen (low, high) WHERE e.ord BETWEEN low AND high)
         ORDER BY e.ord {order} LIMIT $6
    """  # noqa: S608
    rows = await conn.fetch(
        f"SELECT {COLUMNS} FROM ({scanned}) e JOIN rooms r USING (room_nid) WHERE {condition} "  # noqa: S608
        f"ORDER BY e.ord {order} LIMIT $7",
        *arguments,
    )
    events = [stored_event(row) for row in rows]
    if count and len(events) == count:
        return Page(events, events[-1].ord)
    row = await conn.fetchrow(
        f"SELECT count(*) AS seen, {edge}(ord) AS ord FROM ({scanned.replace('*', 'e.ord')}) e",  # noqa: S608
        *arguments[:6],
    )
    assert row is not None
    return Page(events, row["ord"] if row["seen"] == MOST_SCANNED else None)


async def any_event_between(conn: Connection, window: Window, ranges: Sequence[tuple[int, int]]) -> bool:
    """Whether an event of the window lies in one of `ranges` (inclusive)."""
    found: bool = await conn.fetchval(
        "SELECT EXISTS (SELECT 1 FROM unnest($4::bigint[], $5::bigint[]) AS seen (low, high) JOIN events e "
        "ON e.ord BETWEEN seen.low AND seen.high WHERE e.room_nid = $1 AND e.ord > $2 AND e.ord <= $3)",
        window.room_nid,
        window.after,
        window.until,
        [low for low, _ in ranges],
        [high for _, high in ranges],
    )
    return found


async def replaced_state(conn: Connection, events: Collection[StoredEvent]) -> Mapping[int, StoredEvent]:
    """For those of the events that took a place in the state from another: their number -> that other.

    # spec: client-server-api/#room-event-format
    """
    wanted = [event for event in events if event.state_key_nid is not None]
    if not wanted:
        return {}
    rows = await conn.fetch(
        f"""
        SELECT {COLUMNS}, w.event_nid AS replacing
          FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS w (event_nid, room_nid, state_key_nid)
          JOIN room_state now ON now.room_nid = w.room_nid AND now.state_key_nid = w.state_key_nid
           AND now.event_nid = w.event_nid
          CROSS JOIN LATERAL (
            SELECT event_nid FROM room_state s
             WHERE s.room_nid = w.room_nid AND s.state_key_nid = w.state_key_nid AND s.to_pos = now.from_pos
          ) before
          JOIN events e ON e.event_nid = before.event_nid
          JOIN rooms r ON r.room_nid = e.room_nid
         ORDER BY now.from_pos DESC
        """,  # noqa: S608
        [event.nid for event in wanted],
        [event.room_nid for event in wanted],
        [event.state_key_nid for event in wanted],
    )
    return {row["replacing"]: stored_event(row) for row in rows}
