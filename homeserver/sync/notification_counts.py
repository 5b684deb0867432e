"""How many unread notifications a user has in each room, and in each of its threads.

What counts is what came after the user's last read position: a receipt, public or private, an event of the user's own
in that thread, or the join. A position without thread is for all of them; one with a thread, for that thread where it
is further. The counts are differences of running totals, so they cost the same whether 3 or 30,000 events are unread.

# spec: client-server-api/#receiving-notifications  client-server-api/#threaded-read-receipts
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from homeserver.protocol.events import JsonObject
from homeserver.protocol.filters import EventFilter
from homeserver.storage.events import ORD_SHIFT
from homeserver.storage.notifications import (
    ALL_THREADS,
    MAIN,
    Counts,
    Stretch,
    counts_between,
    rooms_with_changed_counts,
    threads_after,
)
from homeserver.storage.stream import Connection
from homeserver.storage.sync_reads import readings_of
from homeserver.sync.view import View

_NOTHING_READ = -(2**63)
_NONE = Counts()


@dataclass(slots=True)
class UnreadCounts:
    """The counts of one room; `threads` is None where they were not asked for apart, and `room` has them too then."""

    room: Counts = _NONE
    threads: dict[str, Counts] | None = None

    def json(self) -> JsonObject:
        """The keys of a joined room's section in /sync."""
        json: JsonObject = {
            "unread_notifications": _counts_json(self.room),
            "org.matrix.msc2654.unread_count": max(self.room.unread, 0),
        }
        if self.threads is not None:
            json["unread_thread_notifications"] = {
                thread_id: _counts_json(counts) for thread_id, counts in self.threads.items()
            }
        return json


def _counts_json(counts: Counts) -> JsonObject:
    return {"highlight_count": max(counts.highlight, 0), "notification_count": max(counts.notify, 0)}


async def room_counts(view: View, room_nids: Collection[int]) -> dict[int, UnreadCounts]:
    """The reader's counts in these rooms, threads apart if the filter asks for that."""
    by_thread = view.filter.timeline.unread_thread_notifications
    return await unread_counts(view.conn, view.reader.user_nid, room_nids, view.until, by_thread=by_thread)


async def changed_rooms(view: View, room_nids: Collection[int], since: int) -> set[int]:
    """Those of the rooms whose counts may have changed since, though the filter lets nothing through that shows it."""
    if not room_nids or not (hides_events(view.filter.timeline) or _hides_receipts(view.filter.ephemeral)):
        return set()
    return await rooms_with_changed_counts(view.conn, view.reader.user_nid, room_nids, since, view.until)


def hides_events(filter: EventFilter) -> bool:
    """Whether the filter may leave out events."""
    included = (filter.types, filter.senders, filter.rooms, filter.contains_url)
    related = (filter.related_by_rel_types, filter.related_by_senders)
    excluded = (filter.not_types, filter.not_senders, filter.not_rooms)
    return any(value is not None for value in (*included, *related)) or any(excluded)


def _hides_receipts(filter: EventFilter) -> bool:
    shown = filter.matches(type="m.receipt", sender=(filter.senders or ("",))[0], contains_url=False)
    return not shown or filter.rooms is not None or bool(filter.not_rooms)


@dataclass(slots=True)
class _Part:
    """A stretch that adds to (`sign` 1) or takes from (-1) the counts of a thread (None: of the room)."""

    room_nid: int
    thread_id: str | None
    sign: int
    stretches: list[Stretch] = field(default_factory=list)


async def unread_counts(
    conn: Connection, user_nid: int, room_nids: Collection[int], until: int, *, by_thread: bool
) -> dict[int, UnreadCounts]:
    """room_nid -> what is unread there for the user, of what came up to position `until`.

    :param by_thread: count each thread by itself, and the main timeline alone as the room
    """
    if not room_nids:
        return {}
    readings = await readings_of(conn, user_nid, room_nids)
    positions = {room_nid: reading.positions for room_nid, reading in readings.items()}
    last = until << ORD_SHIFT
    parts = list(_whole_rooms(positions, last))
    if by_thread:
        places = {room_nid: read.get(ALL_THREADS, _NOTHING_READ) for room_nid, read in positions.items()}
        active = [
            (room_nid, thread_id)
            for room_nid, thread_id, last_ord in await threads_after(conn, places)
            if last_ord > positions[room_nid].get(thread_id, _NOTHING_READ)
        ]
        threads = [*((room_nid, MAIN) for room_nid in room_nids), *active]
        parts = [
            _Part(
                room_nid, thread_id, 1, [Stretch(room_nid, thread_id, read_up_to(positions[room_nid], thread_id), last)]
            )
            for room_nid, thread_id in threads
        ]
    for part in parts:
        part.stretches = list(_split(part.stretches, readings[part.room_nid].quiet))
    found = iter(await counts_between(conn, user_nid, [stretch for part in parts for stretch in part.stretches]))
    counts = {room_nid: UnreadCounts(threads={} if by_thread else None) for room_nid in room_nids}
    for part in parts:
        of_room = counts[part.room_nid]
        total = _NONE
        for _ in part.stretches:
            total = total.plus(next(found))
        if part.thread_id is None or part.thread_id == MAIN or of_room.threads is None:
            of_room.room = of_room.room.plus(total, part.sign)
        elif total.notify > 0 or total.highlight > 0:
            of_room.threads[part.thread_id] = total
    return counts


def read_up_to(read: dict[str, int], thread_id: str) -> int:
    """The ord up to which a user with these read positions in a room has read that thread."""
    return max(read.get(ALL_THREADS, _NOTHING_READ), read.get(thread_id, _NOTHING_READ))


def _whole_rooms(positions: dict[int, dict[str, int]], last: int) -> Iterator[_Part]:
    """Every room as what is after the position for all threads, less what was read further in single threads."""
    for room_nid, read in positions.items():
        start = read.get(ALL_THREADS, _NOTHING_READ)
        yield _Part(room_nid, None, 1, [Stretch(room_nid, None, start, last)])
        for thread_id, ord in read.items():
            if ord > start:
                yield _Part(room_nid, thread_id, -1, [Stretch(room_nid, thread_id, start, min(ord, last))])


def _split(stretches: Sequence[Stretch], spans: Sequence[tuple[int, int]]) -> Iterator[Stretch]:
    """The stretches cut where the user silenced the room or let it be heard again."""
    for stretch in stretches:
        start = stretch.after
        for from_ord, to_ord in spans:
            first, end = max(from_ord - 1, start), min(to_ord - 1, stretch.until)
            if first >= end:
                continue
            if start < first:
                yield stretch._replace(after=start, until=first)
            yield stretch._replace(after=first, until=end, quiet=True)
            start = end
        if start < stretch.until:
            yield stretch._replace(after=start)


def audible_stretches(room_nid: int, after: int, until: int, spans: Sequence[tuple[int, int]]) -> list[Stretch]:
    """The room's timeline in that range without what the user had silenced."""
    return [stretch for stretch in _split([Stretch(room_nid, None, after, until)], spans) if not stretch.quiet]
