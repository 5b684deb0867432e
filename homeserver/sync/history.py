"""Pages of a room's history, and what stood around one event, as one user may see them.

Where the history that is here has a gap or ends, more is asked of other servers before a page is given.

# spec: client-server-api/#getting-events-for-a-room
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from homeserver.protocol.errors import NotFound
from homeserver.protocol.events import JsonObject, StateKey
from homeserver.protocol.filters import EventFilter
from homeserver.rooms.visibility import LAST_ORD, Access, access
from homeserver.storage.events import ORD_SHIFT, Status, StoredEvent, contains_url, event_by_id, events_by_nid
from homeserver.storage.gaps import Gap, gaps_between
from homeserver.storage.names import Names, Room
from homeserver.storage.stream import Connection, Pool
from homeserver.storage.sync_reads import StateRange, ignored_user_list, known_user_nids, state_of_keys, whole_state
from homeserver.storage.timeline_reads import Page, Window, any_event_between, page_of_events
from homeserver.sync.client_events import Reader, state_events, timeline_events
from homeserver.sync.tokens import place_token
from homeserver.sync.view import ignored_users

FIRST_ORD = -(2**63)
_MOST_FILLS = 3  # times that other servers are asked for one page

FillGaps = Callable[[Room, int | None, int], Awaitable[bool]]
"""Asks other servers for what is missing below events of the room whose ords are above the second argument (None: any)
and not above the third; whether anything was found. It must not take long, nor raise because others don't answer."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page: the places from which and to which, and how many events at most."""

    backwards: bool
    start: int
    stop: int
    limit: int
    filter: EventFilter = field(default_factory=EventFilter)

    @property
    def window(self) -> tuple[int, int]:
        """(after, until)"""
        return (self.stop, self.start) if self.backwards else (self.start, self.stop)


async def messages(
    pool: Pool,
    names: Names,
    reader: Reader,
    room: Room,
    request: PageRequest,
    fill_gaps: FillGaps | None,
    *,
    allowed: Access | None = None,
) -> JsonObject:
    """The answer to /messages.

    :param allowed: what the user may see, where that does not follow from the room's state
    :raises Forbidden: if the user may not read the room
    # spec: client-server-api/#get_matrixclientv3roomsroomidmessages
    """
    async with pool.acquire() as conn:
        allowed = allowed or await access(conn, names, room, reader.user_id)
        ignored = await ignored_nids(conn, reader)
        page = await _page(conn, room, allowed, ignored, request)
        gap = await _uppermost_gap(conn, room, request, page)
    for _ in range(_MOST_FILLS):
        # What nobody has is passed over.
        if gap is None or fill_gaps is None or not await fill_gaps(room, _lowest(request, page), _highest(request)):
            break
        async with pool.acquire() as conn:
            # Where the reader was invited is only known once that part of the history is here.
            allowed = await access(conn, names, room, reader.user_id)
            page = await _page(conn, room, allowed, ignored, request)
            gap = await _uppermost_gap(conn, room, request, page)
    else:
        page = _down_to(page, gap)
    async with pool.acquire() as conn:
        shown = await timeline_events(conn, reader, page.events, {room.nid: allowed.sight})
        answer: JsonObject = {
            "start": place_token(request.start),
            "chunk": [shown[event.nid] for event in page.events],
        }
        end = await _end(conn, room, allowed, request, page, gap)
        if end is not None:
            answer["end"] = place_token(end)
        if request.filter.lazy_load_members and page.events:
            state = await _members_of_senders(conn, names, room, allowed, page.events, page.events[0])
            answer["state"] = await state_events(conn, state)
    return answer


async def ignored_nids(conn: Connection, reader: Reader) -> list[int]:
    """The numbers of the users whom the reader ignores."""
    ids = ignored_users(await ignored_user_list(conn, reader.user_nid))
    return await known_user_nids(conn, ids) if ids else []


async def _page(conn: Connection, room: Room, allowed: Access, ignored: Sequence[int], request: PageRequest) -> Page:
    if not request.filter.includes_room(room.room_id):
        return Page([], None)
    after, until = request.window
    return await page_of_events(
        conn,
        Window(room.nid, after, until),
        backwards=request.backwards,
        count=request.limit,
        filter=request.filter,
        ignored=ignored,
        ranges=allowed.sight.ranges,
    )


def _lowest(request: PageRequest, page: Page) -> int:
    """Below events above this place gaps matter to the page. That below its last event is for the next page."""
    return request.stop if page.next_ord is None else page.next_ord


def _highest(request: PageRequest) -> int:
    """The place of the event that a page read backwards goes on from: what is missing below it would come first."""
    return min(request.start + 1, LAST_ORD)


async def _uppermost_gap(conn: Connection, room: Room, request: PageRequest, page: Page) -> Gap | None:
    """The first place in the page where events are missing. Reading forwards doesn't look for any."""
    if not request.backwards:
        return None
    gaps = await gaps_between(conn, room.nid, _lowest(request, page), _highest(request))
    return gaps[0] if gaps else None


def _down_to(page: Page, gap: Gap | None) -> Page:
    """The page up to where events are still missing."""
    if gap is None:
        return page
    return Page([event for event in page.events if event.ord is not None and event.ord >= gap.ord], gap.ord)


async def _end(
    conn: Connection, room: Room, allowed: Access, request: PageRequest, page: Page, gap: Gap | None
) -> int | None:
    """The place from which to go on, None if there is nothing left that the user may see."""
    after, until = request.window
    if page.next_ord is None:
        # Where the history that is here ends, someone may have more next time; but only if that gets the client on.
        last = page.events[-1].ord if page.events else None
        return last - 1 if last is not None and gap is not None and gap.ord == last else None
    if request.backwards:
        end = page.next_ord - 1
        rest = Window(room.nid, after, end)
    else:
        end = page.next_ord
        rest = Window(room.nid, end, until)
    if gap is not None or await any_event_between(conn, rest, allowed.sight.ranges):
        return end
    # Nothing more is here, but something may be missing just there.
    return end if request.backwards and await gaps_between(conn, room.nid, end, page.next_ord) else None


def _state_pos(allowed: Access, ord: int) -> int:
    """The position of the state around an event, as near as this server knows it and the user may."""
    pos = max(ord >> ORD_SHIFT, allowed.sight.known_from or 0)
    return pos if allowed.state_pos is None else min(pos, allowed.state_pos)


async def _members_of_senders(
    conn: Connection,
    names: Names,
    room: Room,
    allowed: Access,
    events: Iterable[StoredEvent],
    at: StoredEvent,
) -> list[StoredEvent]:
    """The member events of those who sent the events.  # spec: client-server-api/#lazy-loading-room-members"""
    keys: set[StateKey] = {("m.room.member", event.event.sender) for event in events}
    nids = await names.state_key_nids(keys)
    pos = _state_pos(allowed, at.ord or 0)
    spans = await state_of_keys(conn, [(StateRange(room.nid, pos, pos), nid) for nid in nids.values()])
    return list((await events_by_nid(conn, [span.event_nid for span in spans])).values())


async def one_event(conn: Connection, names: Names, reader: Reader, room: Room, event_id: str) -> JsonObject:
    """The answer to /event.

    :raises Forbidden: if the user may not read the room
    :raises NotFound: if there is no such event in the room that the user may see
    # spec: client-server-api/#get_matrixclientv3roomsroomideventeventid
    """
    allowed = await access(conn, names, room, reader.user_id)
    event = await _visible_event(conn, room, allowed, event_id)
    return (await timeline_events(conn, reader, [event], {room.nid: allowed.sight}))[event.nid]


async def _visible_event(conn: Connection, room: Room, allowed: Access, event_id: str) -> StoredEvent:
    event = await event_by_id(conn, event_id, room.nid)
    if event is not None and event.ord is not None and event.status is Status.ACCEPTED:
        if allowed.sight.sees(event.ord):
            return event
    elif event is not None and event.status is Status.OUTLIER and event.state_key_nid is not None:
        # Part of the state in which this server found the room, without a place in the timeline.
        pos = _state_pos(allowed, LAST_ORD)
        spans = await state_of_keys(
            conn, [(StateRange(room.nid, allowed.sight.known_from or 0, pos), event.state_key_nid)]
        )
        if any(span.event_nid == event.nid for span in spans):
            return event
    raise NotFound("There is no such event in that room")


async def context(
    conn: Connection,
    names: Names,
    reader: Reader,
    room: Room,
    event_id: str,
    *,
    limit: int,
    filter: EventFilter,
    allowed: Access | None = None,
) -> JsonObject:
    """The answer to /context.

    :param allowed: what the user may see, where that does not follow from the room's state
    :raises Forbidden: if the user may not read the room
    :raises NotFound: if there is no such event in the room that the user may see
    # spec: client-server-api/#get_matrixclientv3roomsroomidcontexteventid
    """
    allowed = allowed or await access(conn, names, room, reader.user_id)
    event = await _visible_event(conn, room, allowed, event_id)
    if event.ord is None:
        raise NotFound("The event has no place in the room's timeline")
    ignored = await ignored_nids(conn, reader)
    back = PageRequest(True, event.ord - 1, FIRST_ORD, limit // 2, filter)
    forth = PageRequest(False, event.ord, LAST_ORD, limit - limit // 2, filter)
    before = (await _page(conn, room, allowed, ignored, back)).events
    after = (await _page(conn, room, allowed, ignored, forth)).events
    shown = await timeline_events(conn, reader, [event, *before, *after], {room.nid: allowed.sight})
    state = await _context_state(conn, names, room, allowed, [event, *before, *after], (after or [event])[-1], filter)
    first = before[-1].ord if before else event.ord
    last = after[-1].ord if after else event.ord
    assert first is not None
    assert last is not None
    return {
        "start": place_token(first - 1),
        "end": place_token(last),
        "event": shown[event.nid],
        "events_before": [shown[each.nid] for each in before],
        "events_after": [shown[each.nid] for each in after],
        "state": await state_events(conn, state),
    }


async def _context_state(
    conn: Connection,
    names: Names,
    room: Room,
    allowed: Access,
    events: Sequence[StoredEvent],
    last: StoredEvent,
    filter: EventFilter,
) -> list[StoredEvent]:
    """The state at the last event, as the filter wants it."""
    pos = _state_pos(allowed, last.ord or 0)
    spans = await whole_state(conn, [StateRange(room.nid, pos, pos)], members=not filter.lazy_load_members)
    state = list((await events_by_nid(conn, [span.event_nid for span in spans])).values())
    if filter.lazy_load_members:
        state += await _members_of_senders(conn, names, room, allowed, events, last)
    return [
        each
        for each in state
        if filter.matches(type=each.event.type, sender=each.event.sender, contains_url=contains_url(each.event))
    ]
