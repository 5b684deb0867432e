"""Timeline, state and summary of rooms, as sections of joined and left rooms have them; many rooms at once.

The number of queries doesn't depend on the number of rooms.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from homeserver.protocol.events import JsonObject
from homeserver.protocol.filters import EventFilter
from homeserver.rooms.visibility import Sight
from homeserver.storage.events import ORD_SHIFT, StoredEvent
from homeserver.storage.timeline_reads import (
    MOST_SCANNED_OF_A_ROOM,
    Window,
    ends_of_scans,
    newest_events,
    rooms_known_from_the_start,
)
from homeserver.sync.client_events import Shape, state_events, timeline_events
from homeserver.sync.notification_counts import hides_events
from homeserver.sync.room_state_delta import StatePart, changes_summary, read_spans, state_sections
from homeserver.sync.room_summary import summaries
from homeserver.sync.shared_reads import shared_reads
from homeserver.sync.tokens import place_token
from homeserver.sync.view import View

_BELOW_ALL = -(2**63)


@dataclass(frozen=True, slots=True)
class RoomWindow:
    """What of a room a section is to tell: from `since` (None: the client knows nothing of it) to `until`.

    `rejoined`: it is told as new to a client that may have it from an earlier stay, up to `known_until`.
    """

    room_nid: int
    since: int | None
    until: int
    rejoined: bool = False
    known_until: int | None = None


@dataclass(slots=True)
class RoomSection:
    """`state` is that before the timeline, or after it if the request asked for that."""

    timeline: list[JsonObject] = field(default_factory=list)
    limited: bool = False
    prev_batch: str = ""
    state: list[JsonObject] = field(default_factory=list)
    summary: JsonObject = field(default_factory=dict)

    @property
    def tells_something(self) -> bool:
        return bool(self.timeline or self.limited or self.state or self.summary)

    def json(self, view: View) -> JsonObject:
        """The part of the section that joined and left rooms have alike."""
        return {
            "timeline": {"events": self.timeline, "limited": self.limited, "prev_batch": self.prev_batch},
            view.state_after or "state": {"events": self.state},
        }


def shape_of(view: View) -> Shape:
    """The form in which the request's filter wants events."""
    return Shape(room_id=False, fields=view.filter.event_fields, federation=view.filter.event_format == "federation")


async def room_sections(view: View, windows: Sequence[RoomWindow], *, with_summary: bool) -> dict[int, RoomSection]:
    """room_nid -> section, for every window."""
    if not windows:
        return {}
    sections = {window.room_nid: RoomSection() for window in windows}
    timelines = await _timelines(view, windows, sections)
    parts = [_part(view, window, timelines[window.room_nid], sections[window.room_nid].limited) for window in windows]
    keys = await read_spans(view, parts)
    if with_summary:
        changed = [part for part in parts if changes_summary(part, keys)]
        summary = await summaries(view, changed)
        for part in changed:
            section = sections[part.room_nid]
            section.summary = summary[part.room_nid]
            part.heroes = section.summary.get("m.heroes", ())
    shape = shape_of(view)
    states = await state_sections(view, parts, keys)
    shown_state = iter(await state_events(view.conn, [event for state in states.values() for event in state], shape))
    for room_nid, state in states.items():
        sections[room_nid].state = list(itertools.islice(shown_state, len(state)))
    shown = await timeline_events(
        view.conn,
        view.reader,
        [event for part in parts for event in part.timeline],
        view.sights,
        shape,
        # spec: client-server-api/#aggregations-of-child-events Without a gap the client has the children themselves.
        bundled={room_nid for room_nid, section in sections.items() if section.limited},
    )
    for part in parts:
        sections[part.room_nid].timeline = [shown[event.nid] for event in part.timeline]
    return sections


def _part(view: View, window: RoomWindow, timeline: list[StoredEvent], gap: bool) -> StatePart:
    start = window.until
    if timeline:
        assert timeline[0].ord is not None
        start = (timeline[0].ord >> ORD_SHIFT) - 1
    since = None if view.full_state else window.since
    return StatePart(window.room_nid, since, start, window.until, timeline, gap, window.known_until)


async def _timelines(
    view: View, windows: Sequence[RoomWindow], sections: dict[int, RoomSection]
) -> dict[int, list[StoredEvent]]:
    filter = view.filter.timeline
    read, ends = await _newest(view, windows)
    new = [window.room_nid for window in windows if window.since is None]
    from_the_start = await rooms_known_from_the_start(view.conn, new) if new else set()
    timelines: dict[int, list[StoredEvent]] = {}
    for window in windows:
        events = read.get(window.room_nid, [])
        more = len(events) > filter.limit
        events = events[len(events) - filter.limit :] if more else events
        visible = visible_end(events, view.sights.get(window.room_nid))
        section = sections[window.room_nid]
        end = None if more else ends.get(window.room_nid)
        section.limited = more or window.rejoined or len(visible) < len(events) or end is not None
        events = visible
        if window.since is None and window.room_nid not in from_the_start:
            section.limited = True
        before = events[0].ord - 1 if events and events[0].ord is not None else window.until << ORD_SHIFT
        section.prev_batch = place_token(before if end is None else end - 1)
        timelines[window.room_nid] = events
    return timelines


async def _newest(view: View, windows: Sequence[RoomWindow]) -> tuple[dict[int, list[StoredEvent]], dict[int, int]]:
    """One event more than a timeline has of each window, newest last; those who wait for the same share the reading.

    Through a filter that few events pass it may be fewer: then the place down to which there was looked.
    """
    filter = view.filter.timeline
    places = [
        Window(
            window.room_nid,
            _BELOW_ALL if window.since is None else window.since << ORD_SHIFT,
            window.until << ORD_SHIFT,
        )
        for window in windows
        if filter.includes_room(view.rooms[window.room_nid].room_id)
    ]
    most = MOST_SCANNED_OF_A_ROOM if hides_events(filter) else None

    async def read(keys: list[tuple[Window, EventFilter]]) -> dict[tuple[Window, EventFilter], list[StoredEvent]]:
        found = await newest_events(
            view.conn, [place for place, _ in keys], filter.limit + 1, filter, view.ignored, most_scanned=most
        )
        return {key: found.get(key[0].room_nid, []) for key in keys}

    keys = [(place, filter) for place in places]
    if view.ignored or any(window.since is None for window in windows):
        found = await read(keys)
    else:
        found = await shared_reads(view.sources.stream).get(view.until, keys, read)
    events = {place.room_nid: events for (place, _), events in found.items()}
    if most is None:
        return events, {}
    short = [place for place in places if len(events[place.room_nid]) <= filter.limit]
    return events, await ends_of_scans(view.conn, short, most)


def visible_end(events: list[StoredEvent], sight: Sight | None) -> list[StoredEvent]:
    """The newest events up to one that the user may not see: a timeline has no holes."""
    hidden = [
        place
        for place, event in enumerate(events)
        if sight is not None and event.ord is not None and not sight.sees(event.ord)
    ]
    return events[hidden[-1] + 1 :] if hidden else events
