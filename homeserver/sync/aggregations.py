"""Bundled aggregations: what relates to an event, summed up in its `unsigned` as one reader may know it.

A response of any length takes the same number of queries: one if nothing relates to its events, some eight otherwise.

# spec: client-server-api/#aggregations-of-child-events
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from homeserver.protocol.events import JsonObject
from homeserver.rooms.visibility import LAST_ORD, Sight
from homeserver.storage.events import StoredEvent, relation_of
from homeserver.storage.ignored_users import ignored_user_nids
from homeserver.storage.relations import (
    Range,
    ThreadSummary,
    events_at,
    latest_replacements,
    references_to,
    related_ids,
    thread_summaries,
)
from homeserver.storage.stream import Connection


@dataclass(slots=True)
class Aggregations:
    """What was found, by the id of the event that it relates to."""

    reader_id: str
    replacements: dict[str, StoredEvent] = field(default_factory=dict)
    references: dict[str, list[str]] = field(default_factory=dict)
    threads: dict[str, tuple[ThreadSummary, StoredEvent]] = field(default_factory=dict)

    @property
    def latest_in_threads(self) -> list[StoredEvent]:
        return [latest for _, latest in self.threads.values()]

    def with_children(self, events: Iterable[StoredEvent]) -> list[StoredEvent]:
        """The events and those that their aggregations show, each once."""
        every = [*events, *self.replacements.values(), *self.latest_in_threads]
        return list({event.nid: event for event in every}.values())

    def of(self, event: StoredEvent, show: Callable[[StoredEvent], JsonObject]) -> JsonObject:
        """The `m.relations` of an event; `show` gives the events in it their client format."""
        event_id = event.event.event_id
        relations: JsonObject = {}
        if event_id in self.replacements:
            relations["m.replace"] = show(self.replacements[event_id])
        if event_id in self.references:
            relations["m.reference"] = {"chunk": [{"event_id": child} for child in self.references[event_id]]}
        if event_id in self.threads:
            summary, latest = self.threads[event_id]
            relations["m.thread"] = {
                "latest_event": show(latest),
                "count": summary.count,
                "current_user_participated": summary.own or event.event.sender == self.reader_id,
            }
        return relations


async def aggregations(
    conn: Connection, reader_id: str, reader_nid: int, events: Sequence[StoredEvent], sights: Mapping[int, Sight]
) -> Aggregations:
    """The aggregations of these events: of what the reader may see and nobody whom the reader ignores has sent.

    :param sights: by room, where the user's membership may not have been "join" all along the events
    """
    found = Aggregations(reader_id)
    # spec: client-server-api/#aggregations-of-child-events State events do not currently receive bundled aggregations
    parents = [event for event in events if not event.event.is_state and event.ord is not None]
    related = await related_ids(conn, [parent.event.event_id for parent in parents]) if parents else {}
    if not related:
        return found
    ignored = await ignored_user_nids(conn, reader_nid)
    ranges = _ranges(parents, sights)
    # It is not possible to thread off an event that relates to another.  # spec: client-server-api/#threading
    roots = [
        parent
        for parent in parents
        if "m.thread" in related.get(parent.event.event_id, ()) and relation_of(parent.event.content) is None
    ]
    if roots:
        summaries = await thread_summaries(conn, roots, ranges, reader_nid=reader_nid, ignored=ignored)
        rooms = {root.event.event_id: root.room_nid for root in roots}
        latest = await events_at(conn, [(rooms[each.relates_to], each.latest_ord) for each in summaries])
        found.threads = {
            each.relates_to: (each, event)
            for each in summaries
            if (event := latest.get((rooms[each.relates_to], each.latest_ord))) is not None
        }
        below = [event for event in found.latest_in_threads if not event.event.is_state]
        related |= await related_ids(conn, [event.event.event_id for event in below]) if below else {}
        parents = list({event.nid: event for event in [*parents, *below]}.values())
    referred = [parent for parent in parents if "m.reference" in related.get(parent.event.event_id, ())]
    if referred:
        found.references = await references_to(conn, referred, ranges, ignored)
    replaced = [
        parent for parent in parents if "m.replace" in related.get(parent.event.event_id, ()) and _replaceable(parent)
    ]
    if replaced:
        found.replacements = await latest_replacements(conn, replaced, ranges)
    return found


def _replaceable(event: StoredEvent) -> bool:
    # spec: client-server-api/#validity-of-replacement-events
    # spec: client-server-api/#server-side-aggregation-of-mreplace-relationships
    relation = relation_of(event.event.content)
    return event.redacted_by is None and not (relation is not None and relation[1] == "m.replace")


def _ranges(parents: Iterable[StoredEvent], sights: Mapping[int, Sight]) -> list[Range]:
    """The stretches of these events' rooms that may be told of."""
    first: dict[int, int] = {}
    for parent in parents:
        assert parent.ord is not None
        first[parent.room_nid] = min(first.get(parent.room_nid, LAST_ORD), parent.ord)
    ranges: list[Range] = []
    for room_nid, ord in first.items():
        sight = sights.get(room_nid)
        if sight is None:  # a member all along: sees what came after, whatever the visibility
            ranges.append((room_nid, ord, LAST_ORD))
        else:
            ranges.extend((room_nid, low, high) for low, high in sight.ranges)
    return ranges
