"""The timelines of rooms: what is new, or as many of the newest events as the client wants to have.

The number of queries depends on how many different limits there are, not on the number of rooms.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from homeserver.protocol.filters import EventFilter
from homeserver.storage.events import StoredEvent
from homeserver.storage.timeline_reads import Window, newest_events, rooms_known_from_the_start
from homeserver.sync.room_section import visible_end
from homeserver.sync.sliding.plan import RoomPlan
from homeserver.sync.view import View

_ALL_EVENTS = EventFilter()
_BELOW_ALL = -(2**63)


@dataclass(slots=True)
class RoomTimeline:
    """`events` are told. `seen` are they and what the client has just before them. `first_ord` and `limit` are what
    the client has then, as `Told` says it. `expanded`: there are events among them that are older than what it had.
    """

    events: list[StoredEvent] = field(default_factory=list)
    seen: list[StoredEvent] = field(default_factory=list)
    limited: bool = False
    expanded: bool = False
    first_ord: int = 0
    limit: int = 0


async def room_timelines(view: View, plans: Collection[RoomPlan]) -> dict[int, RoomTimeline]:
    """room_nid -> timeline, for every plan."""
    read = await _read(view, [plan for plan in plans if plan.initial or plan.news or plan.more_timeline])
    whole = [plan.room_nid for plan in plans if plan.initial or plan.more_timeline]
    from_the_start = await rooms_known_from_the_start(view.conn, whole) if whole else set()
    timelines: dict[int, RoomTimeline] = {}
    for plan in plans:
        events = read.get(plan.room_nid, [])
        limit = plan.config.timeline_limit
        more = len(events) > limit
        events = events[len(events) - limit :] if more else events
        visible = visible_end(events, view.sights.get(plan.room_nid))
        more = more or len(visible) < len(events)
        if plan.initial or plan.more_timeline:
            more = more or plan.room_nid not in from_the_start
        is_new = bool(read.get(plan.room_nid)) and _ord(read[plan.room_nid][-1]) > plan.since_ord
        timelines[plan.room_nid] = _timeline(plan, visible, more=more, is_new=is_new)
    return timelines


async def _read(view: View, plans: Collection[RoomPlan]) -> dict[int, list[StoredEvent]]:
    """For each room the events of its window, one more than wanted if there are so many, oldest first."""
    by_limit: dict[int, list[Window]] = {}
    for plan in plans:
        after = _BELOW_ALL if plan.initial or plan.more_timeline else plan.since_ord
        if after < plan.until_ord:
            window = Window(plan.room_nid, after, plan.until_ord)
            by_limit.setdefault(plan.config.timeline_limit, []).append(window)
    found: dict[int, list[StoredEvent]] = {}
    for limit, windows in by_limit.items():
        found |= await newest_events(view.conn, windows, limit + 1, _ALL_EVENTS, view.ignored)
    return found


def _timeline(plan: RoomPlan, events: list[StoredEvent], *, more: bool, is_new: bool) -> RoomTimeline:
    """:param more: whether there is more before the events that the client could have
    :param is_new: whether anything happened that it has not been told
    """
    limit = plan.config.timeline_limit
    first = _ord(events[0]) if events else plan.until_ord + 1
    told = plan.told
    if plan.initial or told is None:
        return RoomTimeline(events, events, more, False, first, limit)
    if not plan.more_timeline:
        if more:
            return RoomTimeline(events, events, True, False, first, limit)
        return RoomTimeline(events, events, False, False, min(told.first_ord, first), told.limit)
    if is_new and first > plan.since_ord and more:
        return RoomTimeline(events, events, True, False, first, limit)
    if first < told.first_ord and any(_ord(event) < told.first_ord for event in events):
        return RoomTimeline(events, events, more, True, first, limit)
    new: Sequence[StoredEvent] = [event for event in events if _ord(event) > plan.since_ord]
    return RoomTimeline(list(new), events, False, False, min(told.first_ord, first), max(told.limit, limit))


def _ord(event: StoredEvent) -> int:
    assert event.ord is not None
    return event.ord
