"""Which state events the sections of rooms have: what a client had, plus these, plus the timeline, is the state.

Two ways to say it. In the older one a client applies `state` and then the timeline, so `state` is what changed up to
the start of the timeline. In the newer (`use_state_after`) it applies `state_after` alone: what changed up to its end.
The older way can't say everything: where the timeline lacks a change (a filter left it out, or a fork of the DAG was
resolved without an event of its own), the change is put into `state` unless the timeline would overwrite it.

# spec: client-server-api/#syncing  client-server-api/#lazy-loading-room-members
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from homeserver.protocol.events import StateKey
from homeserver.protocol.filters import EventFilter
from homeserver.storage.events import StoredEvent, contains_url, events_by_nid
from homeserver.storage.sync_reads import StateRange, StateSpan, state_begun, state_of_keys, whole_state
from homeserver.sync.shared_reads import shared_reads
from homeserver.sync.view import View

_NAMING = frozenset(("m.room.member", "m.room.name", "m.room.canonical_alias"))


@dataclass(slots=True)
class StatePart:
    """What decides the state section of one room.

    `since` is the position whose state the client has, None if it has none; `start` and `until` are where the timeline
    starts and ends, and with a `gap` there are events that it leaves out. `heroes` are members that a lazily loading
    client must get. One that has members from an earlier stay, as they were at `known_until`, must hear of changes.
    """

    room_nid: int
    since: int | None
    start: int
    until: int
    timeline: Sequence[StoredEvent]
    gap: bool = False
    known_until: int | None = None
    spans: list[StateSpan] = field(default_factory=list)
    heroes: Sequence[str] = ()

    @property
    def range(self) -> StateRange:
        return StateRange(self.room_nid, self.start, self.until)


async def read_spans(view: View, parts: Sequence[StatePart]) -> dict[int, StateKey]:
    """Reads into each part what its state is made of, lazily loaded members aside; the keys behind the numbers."""
    lazy = view.filter.state.lazy_load_members
    by_room = {part.room_nid: part for part in parts}
    members = not lazy and _by_type(view).matches(type="m.room.member", sender="", contains_url=False)
    spans = await whole_state(view.conn, [part.range for part in parts if part.since is None], members=members)
    spans += await _begun(view, parts)
    if lazy:
        spans += await _changed_since_earlier_stay(view, parts)
    for span in spans:
        part = by_room[span.room_nid]
        if span.from_pos <= part.until and (part.since is None or span.from_pos > part.since):
            part.spans.append(span)
    return await view.names.state_keys({span.state_key_nid for span in spans})


async def _begun(view: View, parts: Sequence[StatePart]) -> list[StateSpan]:
    """What has begun to be state of the rooms that the client knows. Those who wait for the same share the reading."""

    async def read(keys: list[tuple[int, int, int]]) -> dict[tuple[int, int, int], list[StateSpan]]:
        rooms = [room_nid for room_nid, _, _ in keys]
        spans = await state_begun(view.conn, rooms, min(since for _, since, _ in keys), max(end for _, _, end in keys))
        by_room: dict[int, list[StateSpan]] = {}
        for span in spans:
            by_room.setdefault(span.room_nid, []).append(span)
        return {key: by_room.get(key[0], []) for key in keys}

    changed = view.standing.restated if view.standing is not None else {part.room_nid for part in parts}
    keys = [
        (part.room_nid, part.since, part.until) for part in parts if part.since is not None and part.room_nid in changed
    ]
    found = await shared_reads(view.sources.stream).get(view.until, keys, read)
    return [span for spans in found.values() for span in spans]


async def _changed_since_earlier_stay(view: View, parts: Sequence[StatePart]) -> list[StateSpan]:
    known = {part.room_nid: part.known_until for part in parts if part.known_until is not None}
    if not known:
        return []
    spans = await state_begun(view.conn, known, min(known.values()), view.until)
    return [span for span in spans if span.from_pos > known[span.room_nid]]


def changes_summary(part: StatePart, keys: Mapping[int, StateKey]) -> bool:
    """Whether the room's summary may be another than the client has."""
    if part.since is None or part.gap:
        return True
    # A redaction takes the name out of the event that stays the state.
    return any(keys[span.state_key_nid][0] in _NAMING for span in part.spans) or any(
        event.event.type == "m.room.redaction" for event in part.timeline
    )


async def state_sections(
    view: View, parts: Sequence[StatePart], keys: dict[int, StateKey]
) -> dict[int, list[StoredEvent]]:
    """room_nid -> the state events of the room's section. `read_spans` must have been called."""
    lazy: dict[int, dict[int, int]] = {}
    if view.filter.state.lazy_load_members:
        lazy = await _lazy_members(view, parts, keys)
    chosen: dict[int, dict[int, int]] = {}
    for part in parts:
        if view.filter.state.includes_room(view.rooms[part.room_nid].room_id):
            chosen[part.room_nid] = _choose(part, part.spans, state_after=view.state_after is not None)
            chosen[part.room_nid].update(lazy.get(part.room_nid, {}))
    by_type = _by_type(view)
    for room_nid, entries in chosen.items():
        chosen[room_nid] = {
            key: nid
            for key, nid in entries.items()
            if by_type.matches(type=keys[key][0], sender="", contains_url=False)
        }
    if view.filter.state.lazy_load_members:
        _remember_sent(view, parts, chosen, keys)
    events = await events_by_nid(view.conn, {nid for entries in chosen.values() for nid in entries.values()})
    return {
        room_nid: [event for nid in entries.values() if (event := events.get(nid)) and _passes(view, event)]
        for room_nid, entries in chosen.items()
    }


def _by_type(view: View) -> EventFilter:
    """What the filter of state says of types alone: what that rules out need not be read."""
    return EventFilter(types=view.filter.state.types, not_types=view.filter.state.not_types)


def _choose(part: StatePart, spans: Iterable[StateSpan], *, state_after: bool) -> dict[int, int]:
    """state_key_nid -> event_nid of what the section says, in the order in which it became state."""
    told = {event.nid for event in part.timeline}
    overwritten = {event.state_key_nid for event in part.timeline if event.state_key_nid is not None}
    entries: dict[int, int] = {}
    for span in sorted(spans, key=lambda span: span.from_pos):
        at_end = span.from_pos <= part.until < span.to_pos
        if state_after:
            if at_end:
                entries[span.state_key_nid] = span.event_nid
            continue
        at_start = span.from_pos <= part.start < span.to_pos
        missed = at_end and span.event_nid not in told and span.state_key_nid not in overwritten
        if at_start or missed:
            entries[span.state_key_nid] = span.event_nid
    return entries


async def _lazy_members(view: View, parts: Sequence[StatePart], keys: dict[int, StateKey]) -> dict[int, dict[int, int]]:
    """room_nid -> the entries of those members whom the client needs to show the room, and may not have."""
    wanted = {part.room_nid: {("m.room.member", user_id) for user_id in _needed(view, part)} for part in parts}
    key_nids = await view.names.state_key_nids(set().union(*wanted.values()))
    keys.update((nid, key) for key, nid in key_nids.items())
    spans = await state_of_keys(
        view.conn, [(part.range, key_nids[key]) for part in parts for key in wanted[part.room_nid]]
    )
    by_room: dict[int, list[StateSpan]] = {}
    for span in spans:
        by_room.setdefault(span.room_nid, []).append(span)
    reader = (view.reader.user_nid, view.reader.device_id or "")
    found: dict[int, dict[int, int]] = {}
    for part in parts:
        entries = _choose(part, by_room.get(part.room_nid, []), state_after=view.state_after is not None)
        if not view.filter.state.include_redundant_members:
            sent = view.sources.sent_members
            entries = {
                key: nid for key, nid in entries.items() if not sent.has(reader, part.room_nid, key, nid, part.since)
            }
        found[part.room_nid] = entries
    return found


def _needed(view: View, part: StatePart) -> set[str]:
    """Senders, unless the timeline itself shows them beforehand; heroes; and the reader where all state is told."""
    needed = set(part.heroes)
    shown: set[str] = set()
    for event in part.timeline:
        sender = event.event.sender
        if event.event.type == "m.room.member" and event.event.state_key is not None:
            shown.add(event.event.state_key)
        if view.state_after or sender not in shown:
            needed.add(sender)
    if part.since is None:
        needed.add(view.reader.user_id)
    return needed


def _remember_sent(
    view: View, parts: Sequence[StatePart], chosen: Mapping[int, Mapping[int, int]], keys: Mapping[int, StateKey]
) -> None:
    reader = (view.reader.user_nid, view.reader.device_id or "")
    for part in parts:
        members = {key: nid for key, nid in chosen.get(part.room_nid, {}).items() if keys[key][0] == "m.room.member"}
        for event in part.timeline:
            if event.event.type == "m.room.member" and event.state_key_nid is not None:
                members[event.state_key_nid] = event.nid
        if members:
            view.sources.sent_members.add(reader, part.room_nid, members, view.until)


def _passes(view: View, event: StoredEvent) -> bool:
    return view.filter.state.matches(
        type=event.event.type, sender=event.event.sender, contains_url=contains_url(event.event)
    )
