"""Finding events by words, or parts of words, of what they say.

A text is found if it has every word of the search, as the word itself, in another form of it (English is stemmed), or
as a part of a longer one.

# spec: client-server-api/#server-side-search
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from homeserver.protocol.filters import EventFilter
from homeserver.storage.event_search import Key
from homeserver.storage.events import COLUMNS, StoredEvent, stored_event
from homeserver.storage.search_terms import SearchWord
from homeserver.storage.stream import Connection
from homeserver.storage.timeline_reads import filter_condition


@dataclass(frozen=True, slots=True)
class TermQuery:
    """A search term made ready: `query` and `ranking` are tsqueries, `stems` one for each of `patterns` ("": none)."""

    query: str
    ranking: str
    stems: list[str]
    patterns: list[str]


async def prepare_term(conn: Connection, words: Sequence[SearchWord]) -> TermQuery | None:
    """What finds texts with all of these words; None if nothing can."""
    if not words:
        return None
    rows = await conn.fetch(
        "SELECT plainto_tsquery('english', w.word)::text AS stem "
        "FROM unnest($1::text[]) WITH ORDINALITY AS w (word, at) ORDER BY w.at",
        [word.word for word in words],
    )
    stems = [row["stem"] for row in rows]
    each = [
        " | ".join(f"({part})" for part in (stem, word.pieces) if part) for stem, word in zip(stems, words, strict=True)
    ]
    return TermQuery(
        query=" & ".join(f"({part})" for part in each if part),
        ranking=" | ".join(f"({stem})" for stem in stems if stem),
        stems=stems,
        patterns=[word.pattern for word in words],
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """A stretch of a room's timeline, from ord `low` to `high`, both included."""

    room_nid: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of results ended: what the next one begins after."""

    rank: float
    ord: int
    event_nid: int


@dataclass(frozen=True, slots=True)
class Hit:
    """An event that a search found."""

    event_nid: int
    room_nid: int
    ord: int
    rank: float


@dataclass(frozen=True, slots=True)
class Search:
    """What to search for and where: in `seen`, which does not overlap. What `ignored` users sent is left out."""

    term: TermQuery
    keys: Collection[Key]
    seen: Sequence[Seen]
    filter: EventFilter
    ignored: Collection[int]
    by_rank: bool
    after: Place | None


async def find_events(conn: Connection, search: Search, count: int) -> tuple[list[Hit], int]:
    """The first `count` of what matches, the best or the newest first, and how many match in all.

    Rooms in the filter are not looked at; `seen` says where.
    """
    term = search.term
    arguments: list[Any] = [
        [seen.room_nid for seen in search.seen],
        [seen.low for seen in search.seen],
        [seen.high for seen in search.seen],
        term.query,
        term.stems,
        term.patterns,
        term.ranking,
        [int(key) for key in search.keys],
        count,
    ]
    condition = filter_condition(search.filter, search.ignored, arguments)
    order, place = ("rank, ord, event_nid", "$%d::float8, $%d::bigint, $%d::bigint")
    mark: list[Any] = []
    if search.after is not None:
        mark = [search.after.rank, search.after.ord, search.after.event_nid]
    if not search.by_rank:
        order, place, mark = "ord, event_nid", "$%d::bigint, $%d::bigint", mark[1:]
    after = ""
    if mark:
        numbers = range(len(arguments) + 1, len(arguments) + 1 + len(mark))
        after = f"WHERE ({order}) < ({place % tuple(numbers)})"
    rows = await conn.fetch(
        f"""
        SELECT * FROM (
            SELECT s.event_nid, s.room_nid, s.ord, (ts_rank(s.terms, $7::tsquery)
                   + (SELECT count(*) FROM unnest($6::text[]) AS w (pattern) WHERE s.text LIKE w.pattern) * 0.1
                   )::float8 AS rank, count(*) OVER () AS total
              FROM event_search s
              JOIN unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS seen (room_nid, low, high)
                ON s.room_nid = seen.room_nid AND s.ord BETWEEN seen.low AND seen.high
              JOIN events e ON e.event_nid = s.event_nid
             WHERE s.terms @@ $4::tsquery AND s.key = ANY($8::smallint[]) AND {condition}
               AND NOT EXISTS (SELECT 1 FROM unnest($5::text[], $6::text[]) AS w (stem, pattern)
                                WHERE NOT (s.text LIKE w.pattern OR (w.stem <> '' AND s.terms @@ w.stem::tsquery)))
        ) found {after} ORDER BY {order.replace(",", " DESC,")} DESC LIMIT $9
        """,  # noqa: S608
        *arguments,
        *mark,
    )
    hits = [Hit(row["event_nid"], row["room_nid"], row["ord"], row["rank"]) for row in rows]
    return hits, rows[0]["total"] if rows else 0


async def stemmed_words(conn: Connection, event_nids: Collection[int], ranking: str) -> set[str]:
    """The words of these texts that are another form of a word that was searched for."""
    if not ranking or not event_nids:
        return set()
    rows = await conn.fetch(
        "SELECT DISTINCT m.found[1] AS word FROM event_search s, regexp_matches(ts_headline('english', s.text, "
        "$2::tsquery, 'HighlightAll=true, StartSel=' || chr(2) || ', StopSel=' || chr(3)), "
        "chr(2) || '([^' || chr(3) || ']+)' || chr(3), 'g') AS m (found) WHERE s.event_nid = ANY($1) LIMIT 100",
        list(event_nids),
        ranking,
    )
    return {row["word"] for row in rows}


@dataclass(frozen=True, slots=True)
class Stretch:
    """An event, and from which ord to which (both included) its reader sees what is around it."""

    event_nid: int
    room_nid: int
    ord: int
    low: int
    high: int


async def events_around(
    conn: Connection, stretches: Sequence[Stretch], count: int, ignored: Collection[int], *, backwards: bool
) -> dict[int, list[StoredEvent]]:
    """The `count` events next to each of these, the nearest first: event_nid -> events."""
    if not stretches or not count:
        return {}
    arguments: list[Any] = [
        [stretch.event_nid for stretch in stretches],
        [stretch.room_nid for stretch in stretches],
        [stretch.low if backwards else stretch.ord + 1 for stretch in stretches],
        [stretch.ord - 1 if backwards else stretch.high for stretch in stretches],
        count,
    ]
    condition = filter_condition(EventFilter(), ignored, arguments)
    order = "DESC" if backwards else "ASC"
    rows = await conn.fetch(
        f"""
        SELECT {COLUMNS}, w.event_nid AS around
          FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS w (event_nid, room_nid, low, high)
          CROSS JOIN LATERAL (
            SELECT * FROM events e
             WHERE e.room_nid = w.room_nid AND e.ord BETWEEN w.low AND w.high AND {condition}
             ORDER BY e.ord {order} LIMIT $5
          ) e JOIN rooms r ON r.room_nid = e.room_nid
         ORDER BY e.ord {order}
        """,  # noqa: S608
        *arguments,
    )
    found: dict[int, list[StoredEvent]] = {}
    for row in rows:
        found.setdefault(row["around"], []).append(stored_event(row))
    return found
