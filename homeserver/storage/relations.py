"""What relates to events: pages of related events, what aggregations are made of, and the threads of a room.

Nothing here trusts that the two ends of a relation are in one room; every read compares.

# spec: client-server-api/#forming-relationships-between-events
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from homeserver.storage.events import COLUMNS, StoredEvent, stored_event
from homeserver.storage.stream import Connection

DEEPEST = 3  # levels of relations of relations that are followed
MOST_RELATED = 20_000  # related events that one page looks at when it follows them
MOST_REFERENCES = 1_000  # of one event that its aggregation lists, the newest

Range: TypeAlias = tuple[int, int, int]  # room_nid, first ord, last ord


def _columns(ranges: Iterable[Range]) -> list[list[int]]:
    rows = list(ranges)
    return [[row[column] for row in rows] for column in range(3)]


@dataclass(frozen=True, slots=True)
class RelatedPage:
    """Which events related to one to give: those with an ord above `after` and up to `until`, of these types."""

    room_nid: int
    event_id: str
    after: int
    until: int
    backwards: bool
    count: int
    rel_type: str | None = None
    event_type: str | None = None
    depth: int = 1


async def related_events(
    conn: Connection, page: RelatedPage, ranges: Sequence[tuple[int, int]], ignored: Collection[int]
) -> list[StoredEvent]:
    """The events of a page that lie in `ranges` and are not of ignored users, in the order asked for.

    Relations of relations are followed to `depth` through events that would be given themselves.
    """
    order = "DESC" if page.backwards else "ASC"
    # Said apart, so that the index gives the children of one type in order.
    rel_type = "$2::text IS NULL" if page.rel_type is None else "l.rel_type = $2"
    child = (
        "event_relations l JOIN events e ON e.event_nid = l.event_nid "  # noqa: S608
        f"WHERE l.room_nid = $1 AND l.relates_to = {{parent}} AND {rel_type} "
        "AND ($3::text IS NULL OR e.type = $3) AND e.status = 0 "
        "AND (e.state_key_nid IS NOT NULL OR l.sender_nid <> ALL($4::bigint[])) AND EXISTS "
        "(SELECT 1 FROM unnest($5::bigint[], $6::bigint[]) AS seen (low, high) WHERE l.ord BETWEEN low AND high)"
    )
    if page.depth == 1:
        chosen = (
            f"SELECT l.event_nid FROM {child.format(parent='$7')} AND l.ord > $9 AND l.ord <= $10 "  # noqa: S608
            f"AND $8::bigint = 1 ORDER BY l.ord {order} LIMIT $11"
        )
    else:
        chosen = _followed(child, order)
    rows = await conn.fetch(
        f"SELECT {COLUMNS} FROM ({chosen}) chosen JOIN events e USING (event_nid) "  # noqa: S608
        f"JOIN rooms r ON r.room_nid = e.room_nid ORDER BY e.ord {order}",
        page.room_nid,
        page.rel_type,
        page.event_type,
        list(ignored),
        [low for low, _ in ranges],
        [high for _, high in ranges],
        page.event_id,
        page.depth,
        page.after,
        page.until,
        page.count,
    )
    return [stored_event(row) for row in rows]


def _followed(child: str, order: str) -> str:
    return f"""
        WITH RECURSIVE related (event_nid, event_id, ord, depth) AS (
            SELECT l.event_nid, e.event_id, l.ord, 1 FROM {child.format(parent="$7")}
             UNION
            SELECT c.event_nid, c.event_id, c.ord, p.depth + 1 FROM related p CROSS JOIN LATERAL (
                SELECT l.event_nid, e.event_id, l.ord FROM {child.format(parent="p.event_id")}
            ) c WHERE p.depth < $8
        )
        SELECT DISTINCT event_nid, ord FROM (SELECT * FROM related LIMIT {MOST_RELATED}) bounded
         WHERE ord > $9 AND ord <= $10 AND event_id <> $7 ORDER BY ord {order} LIMIT $11
        """  # noqa: S608


@dataclass(frozen=True, slots=True)
class ThreadSummary:
    """The thread of one event: how many events are in it, the ord of the latest, whether the reader sent any."""

    relates_to: str
    count: int
    latest_ord: int
    own: bool


async def related_ids(conn: Connection, event_ids: Collection[str]) -> dict[str, set[str]]:
    """event_id -> the types of the relations to it that aggregations are made of."""
    # LIMIT makes each a look into the index, however many relations of other events there are.
    rows = await conn.fetch(
        "SELECT p.event_id, t.rel_type FROM unnest($1::text[]) AS p (event_id), "
        "unnest(ARRAY['m.replace', 'm.thread', 'm.reference']) AS t (rel_type), LATERAL "
        "(SELECT FROM event_relations l WHERE l.relates_to = p.event_id AND l.rel_type = t.rel_type LIMIT 1) one",
        list(event_ids),
    )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["event_id"], set()).add(row["rel_type"])
    return found


async def thread_summaries(
    conn: Connection,
    parents: Sequence[StoredEvent],
    ranges: Iterable[Range],
    *,
    reader_nid: int,
    ignored: Collection[int],
) -> list[ThreadSummary]:
    """The threads of these events, as far as they lie in `ranges` and are not of ignored users.

    # spec: client-server-api/#server-side-aggregation-of-mthread-relationships
    """
    rows = await conn.fetch(
        """
        SELECT l.relates_to, count(*), max(l.ord), bool_or(l.sender_nid = $6)
          FROM unnest($1::text[], $2::bigint[]) AS p (event_id, room_nid)
          JOIN event_relations l ON l.relates_to = p.event_id AND l.room_nid = p.room_nid AND l.rel_type = 'm.thread'
          JOIN unnest($3::bigint[], $4::bigint[], $5::bigint[]) AS seen (room_nid, low, high)
            ON seen.room_nid = l.room_nid AND l.ord BETWEEN seen.low AND seen.high
         WHERE l.sender_nid <> ALL($7::bigint[])
         GROUP BY l.relates_to
        """,
        [parent.event.event_id for parent in parents],
        [parent.room_nid for parent in parents],
        *_columns(ranges),
        reader_nid,
        list(ignored),
    )
    return [ThreadSummary(*row) for row in rows]


async def latest_replacements(
    conn: Connection, parents: Sequence[StoredEvent], ranges: Iterable[Range]
) -> dict[str, StoredEvent]:
    """The most recent valid replacement of each of these events that has one: event_id -> replacement.

    The parents must be events that can be replaced.
    # spec: client-server-api/#validity-of-replacement-events
    # spec: client-server-api/#server-side-aggregation-of-mreplace-relationships
    """
    rows = await conn.fetch(
        f"""
        SELECT DISTINCT ON (l.relates_to) {COLUMNS}, l.relates_to
          FROM unnest($1::bigint[]) AS w (event_nid)
          JOIN events p ON p.event_nid = w.event_nid
          JOIN event_relations l ON l.relates_to = p.event_id AND l.rel_type = 'm.replace' AND l.room_nid = p.room_nid
           AND l.sender_nid = p.sender_nid AND l.replaces
          JOIN unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS seen (room_nid, low, high)
            ON seen.room_nid = l.room_nid AND l.ord BETWEEN seen.low AND seen.high
          JOIN events e ON e.event_nid = l.event_nid AND e.type = p.type
          JOIN rooms r ON r.room_nid = e.room_nid
         ORDER BY l.relates_to, e.origin_server_ts DESC, e.event_id COLLATE "C" DESC
        """,  # noqa: S608
        [parent.nid for parent in parents],
        *_columns(ranges),
    )
    return {row["relates_to"]: stored_event(row) for row in rows}


async def references_to(
    conn: Connection, parents: Sequence[StoredEvent], ranges: Iterable[Range], ignored: Collection[int]
) -> dict[str, list[str]]:
    """The ids of the events that refer to these, oldest first, at most MOST_REFERENCES each.

    # spec: client-server-api/#server-side-aggregation-of-mreference
    """
    rows = await conn.fetch(
        f"""
        SELECT p.event_id AS parent, e.event_id
          FROM unnest($1::text[], $2::bigint[]) AS p (event_id, room_nid) CROSS JOIN LATERAL (
            SELECT l.event_nid, l.ord FROM event_relations l
              JOIN unnest($3::bigint[], $4::bigint[], $5::bigint[]) AS seen (room_nid, low, high)
                ON seen.room_nid = l.room_nid AND l.ord BETWEEN seen.low AND seen.high
             WHERE l.relates_to = p.event_id AND l.rel_type = 'm.reference' AND l.room_nid = p.room_nid
               AND l.sender_nid <> ALL($6::bigint[])
             ORDER BY l.ord DESC LIMIT {MOST_REFERENCES}
          ) l JOIN events e ON e.event_nid = l.event_nid
         ORDER BY l.ord
        """,  # noqa: S608
        [parent.event.event_id for parent in parents],
        [parent.room_nid for parent in parents],
        *_columns(ranges),
        list(ignored),
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["parent"], []).append(row["event_id"])
    return found


async def events_at(conn: Connection, places: Collection[tuple[int, int]]) -> dict[tuple[int, int], StoredEvent]:
    """The events at these places: (room_nid, ord) -> event."""
    rows = await conn.fetch(
        f"SELECT {COLUMNS} FROM unnest($1::bigint[], $2::bigint[]) AS w (room_nid, ord) "  # noqa: S608
        "JOIN events e ON e.room_nid = w.room_nid AND e.ord = w.ord JOIN rooms r ON r.room_nid = e.room_nid",
        [room_nid for room_nid, _ in places],
        [ord for _, ord in places],
    )
    return {(row["room_nid"], row["ord"]): stored_event(row) for row in rows}


async def thread_roots(
    conn: Connection,
    room_nid: int,
    ranges: Sequence[tuple[int, int]],
    *,
    reader_nid: int,
    ignored: Collection[int],
    participated: bool,
    until: int,
    count: int,
) -> list[tuple[StoredEvent, int]]:
    """Roots of threads with the ord of the latest event in each, the latest first.

    :param participated: only those of threads that the reader has begun or written in
    :param until: only those whose latest event has at most this ord
    # spec: client-server-api/#querying-threads-in-a-room
    """
    rows = await conn.fetch(
        f"""
        SELECT {COLUMNS}, latest.ord AS latest_ord FROM (
            SELECT l.relates_to, max(l.ord) AS ord, bool_or(l.sender_nid = $5) AS own
              FROM event_relations l JOIN unnest($2::bigint[], $3::bigint[]) AS seen (low, high)
                ON l.ord BETWEEN seen.low AND seen.high
             WHERE l.room_nid = $1 AND l.rel_type = 'm.thread' AND l.sender_nid <> ALL($4::bigint[])
             GROUP BY l.relates_to
        ) latest
          JOIN events e ON e.event_id = latest.relates_to AND e.room_nid = $1
          JOIN rooms r ON r.room_nid = e.room_nid
         WHERE latest.ord <= $7 AND (NOT $6::boolean OR latest.own OR e.sender_nid = $5)
           AND EXISTS (SELECT 1 FROM unnest($2::bigint[], $3::bigint[]) AS seen (low, high)
                        WHERE e.ord BETWEEN seen.low AND seen.high)
           AND NOT EXISTS (SELECT 1 FROM event_relations o WHERE o.event_nid = e.event_nid)
         ORDER BY latest.ord DESC LIMIT $8
        """,  # noqa: S608
        room_nid,
        [low for low, _ in ranges],
        [high for _, high in ranges],
        list(ignored),
        reader_nid,
        participated,
        until,
        count,
    )
    return [(stored_event(row), row["latest_ord"]) for row in rows]


async def target_relation(conn: Connection, room_nid: int, event_id: str) -> str | None:
    """The type of the relation that the event of that id in that room has to another; None if it has none."""
    rel_type: str | None = await conn.fetchval(
        "SELECT l.rel_type FROM events e JOIN event_relations l USING (event_nid) "
        "WHERE e.event_id = $1 AND e.room_nid = $2",
        event_id,
        room_nid,
    )
    return rel_type


async def has_annotated(
    conn: Connection, room_nid: int, sender_nid: int, relates_to: str, key: str | None, type: str
) -> bool:
    """Whether this user has annotated that event so, in an event of that type that is not redacted."""
    found: bool = await conn.fetchval(
        "SELECT EXISTS (SELECT 1 FROM event_relations l JOIN events e USING (event_nid) WHERE l.relates_to = $3 "
        "AND l.rel_type = 'm.annotation' AND l.room_nid = $1 AND l.sender_nid = $2 AND l.key IS NOT DISTINCT FROM $4 "
        "AND e.type = $5 AND e.status = 0)",
        room_nid,
        sender_nid,
        relates_to,
        key,
        type,
    )
    return found
