"""Search in the rooms that a user is or was in: of each only what the user may see.

# spec: client-server-api/#server-side-search
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import orjson

from homeserver.protocol.errors import InvalidParam, MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.protocol.filters import EventFilter
from homeserver.rooms.visibility import Sight, sights
from homeserver.storage.event_search import Key
from homeserver.storage.events import ORD_SHIFT, StoredEvent, events_by_nid
from homeserver.storage.ignored_users import ignored_user_nids
from homeserver.storage.members import memberships_of
from homeserver.storage.names import Names, Room
from homeserver.storage.room_state import FOREVER
from homeserver.storage.search_reads import (
    Hit,
    Place,
    Search,
    Seen,
    Stretch,
    events_around,
    find_events,
    prepare_term,
    stemmed_words,
)
from homeserver.storage.search_terms import search_words
from homeserver.storage.stream import Connection
from homeserver.storage.sync_reads import StateRange, state_of_keys, whole_state
from homeserver.sync.client_events import Reader, state_events, timeline_events
from homeserver.sync.tokens import place_token

_MOST_SECONDS = 15
_NOW = 2**62  # later than every position
_GROUPS = ("room_id", "sender")


@dataclass(frozen=True, slots=True)
class Context:
    """How many events before and after each result are wanted, and whether what their senders were called then."""

    before: int
    after: int
    profiles: bool


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """The criteria of the category `room_events`. `group_by` has some of "room_id" and "sender"."""

    term: str
    keys: Collection[Key] = tuple(Key)
    filter: EventFilter = field(default_factory=EventFilter)
    by_rank: bool = True
    context: Context | None = None
    include_state: bool = False
    group_by: Sequence[str] = ()
    token: str | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    """Where a page ended, and within which group, if it is one: ("room_id", its id), say."""

    place: Place
    group: tuple[str, str] | None = None

    def __str__(self) -> str:
        place = self.place
        raw = orjson.dumps([self.group, place.rank, place.ord, place.event_nid])
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _parse_token(token: str) -> _Token:
    try:
        value: Any = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        group, rank, ord, nid = value
        place = Place(float(rank), int(ord), int(nid))
        if group is not None:
            kind, name = group
            if kind not in _GROUPS or not isinstance(name, str) or "\0" in name:
                raise ValueError
            group = (kind, name)
        if max(abs(place.ord), abs(place.event_nid)) >= 2**63:
            raise ValueError
    except (ValueError, TypeError, OverflowError, binascii.Error):
        raise InvalidParam("next_batch is not a token of this server") from None
    return _Token(place, group)


async def search_events(conn: Connection, names: Names, reader: Reader, request: SearchRequest) -> JsonObject:
    """The results of the category `room_events`.

    :raises InvalidParam: if the token is none of ours
    :raises MatrixError: with status 503, if the search takes too long
    # spec: client-server-api/#post_matrixclientv3search
    """
    token = None if request.token is None else _parse_token(request.token)
    rooms, seen = await _searched(conn, names, reader, request, token)
    words = search_words(request.term)
    term = await prepare_term(conn, words)
    hits: list[Hit] = []
    total = 0
    limit = request.filter.limit
    if term is not None and seen and limit:
        search = Search(
            term=term,
            keys=request.keys,
            seen=[Seen(room_nid, low, high) for room_nid, sight in seen.items() for low, high in sight.ranges],
            filter=_narrowed(request.filter, token),
            ignored=await ignored_user_nids(conn, reader.user_nid),
            by_rank=request.by_rank,
            after=None if token is None else token.place,
        )
        hits, total = await _find(conn, search, limit + 1)
    page = hits[:limit]
    events = await events_by_nid(conn, [hit.event_nid for hit in page])
    page = [hit for hit in page if hit.event_nid in events]
    answer: JsonObject = {
        "count": total,
        "highlights": [word.word for word in words],
        "results": await _results(conn, names, reader, request, page, events, seen),
    }
    if term is not None:
        more = await stemmed_words(conn, [hit.event_nid for hit in page], term.ranking)
        answer["highlights"] += sorted(more - set(answer["highlights"]))
    if request.include_state:
        answer["state"] = await _states(conn, rooms, {hit.room_nid for hit in page}, seen)
    has_more = len(hits) > limit
    if has_more and page:
        answer["next_batch"] = str(_Token(_place(page[-1]), None if token is None else token.group))
    if request.group_by:
        answer["groups"] = {kind: _groups(kind, page, events, has_more=has_more) for kind in request.group_by}
    return answer


async def _searched(
    conn: Connection, names: Names, reader: Reader, request: SearchRequest, token: _Token | None
) -> tuple[Mapping[int, Room], dict[int, Sight]]:
    """The rooms that the user is or was in and has not forgotten, as far as they are asked for, and what is seen."""
    memberships = await memberships_of(conn, reader.user_nid)
    rooms = await names.rooms([each.room_nid for each in memberships if not each.forgotten])
    wanted = {nid: room for nid, room in rooms.items() if request.filter.includes_room(room.room_id)}
    if token is not None and token.group is not None and token.group[0] == "room_id":
        wanted = {nid: room for nid, room in wanted.items() if room.room_id == token.group[1]}
    found = await sights(conn, names, reader.user_id, wanted)
    return wanted, {nid: sight for nid, sight in found.items() if sight.joins}


def _narrowed(filter: EventFilter, token: _Token | None) -> EventFilter:
    if token is None or token.group is None or token.group[0] != "sender":
        return filter
    sender = token.group[1]
    return replace(filter, senders=(sender,) if filter.senders is None or sender in filter.senders else ())


async def _find(conn: Connection, search: Search, count: int) -> tuple[list[Hit], int]:
    try:
        async with conn.transaction(readonly=True):
            await conn.execute(f"SET LOCAL statement_timeout = '{_MOST_SECONDS}s'")
            return await find_events(conn, search, count)
    except asyncpg.QueryCanceledError:
        raise MatrixError("The search takes too long; say more precisely what you look for", status=503) from None


def _place(hit: Hit) -> Place:
    return Place(hit.rank, hit.ord, hit.event_nid)


def _groups(kind: str, page: Sequence[Hit], events: Mapping[int, StoredEvent], *, has_more: bool) -> JsonObject:
    """# spec: client-server-api/#groups"""
    groups: dict[str, JsonObject] = {}
    for hit in page:
        event = events[hit.event_nid].event
        name = event.room_id if kind == "room_id" else event.sender
        group = groups.setdefault(name, {"results": [], "order": len(groups) + 1})
        group["results"].append(event.event_id)
        if has_more:
            group["next_batch"] = str(_Token(_place(hit), (kind, name)))
    return groups


async def _results(
    conn: Connection,
    names: Names,
    reader: Reader,
    request: SearchRequest,
    page: Sequence[Hit],
    events: Mapping[int, StoredEvent],
    seen: Mapping[int, Sight],
) -> list[JsonObject]:
    context = request.context
    before: dict[int, list[StoredEvent]] = {}
    after: dict[int, list[StoredEvent]] = {}
    profiles: dict[int, JsonObject] = {}
    if context is not None:
        stretches = [_stretch(hit, seen[hit.room_nid]) for hit in page]
        ignored = await ignored_user_nids(conn, reader.user_nid)
        before = await events_around(conn, stretches, context.before, ignored, backwards=True)
        after = await events_around(conn, stretches, context.after, ignored, backwards=False)
    around = [event for side in (before, after) for found in side.values() for event in found]
    every = {event.nid: event for event in [*(events[hit.event_nid] for hit in page), *around]}
    shown = await timeline_events(conn, reader, list(every.values()), seen)
    if context is not None and context.profiles:
        profiles = await _profiles(conn, names, page, events, before, after, seen)
    results: list[JsonObject] = []
    for hit in page:
        result: JsonObject = {"rank": hit.rank, "result": shown[hit.event_nid]}
        if context is not None:
            earlier, later = before.get(hit.event_nid, []), after.get(hit.event_nid, [])
            result["context"] = {
                "events_before": [shown[event.nid] for event in earlier],
                "events_after": [shown[event.nid] for event in later],
                "start": place_token((_ord(earlier[-1]) if earlier else hit.ord) - 1),
                "end": place_token(_ord(later[-1]) if later else hit.ord),
            }
            if context.profiles:
                result["context"]["profile_info"] = profiles[hit.event_nid]
        results.append(result)
    return results


def _ord(event: StoredEvent) -> int:
    assert event.ord is not None
    return event.ord


def _stretch(hit: Hit, sight: Sight) -> Stretch:
    """The stretch around a result that the user sees without a break."""
    low, high = next((low, high) for low, high in sight.ranges if low <= hit.ord <= high)
    return Stretch(hit.event_nid, hit.room_nid, hit.ord, low, high)


async def _profiles(
    conn: Connection,
    names: Names,
    page: Sequence[Hit],
    events: Mapping[int, StoredEvent],
    before: Mapping[int, list[StoredEvent]],
    after: Mapping[int, list[StoredEvent]],
    seen: Mapping[int, Sight],
) -> dict[int, JsonObject]:
    """event_nid of each result -> what the senders of it and of what is around it were called then."""
    senders = {
        hit.event_nid: {
            event.event.sender
            for event in (events[hit.event_nid], *before.get(hit.event_nid, ()), *after.get(hit.event_nid, ()))
        }
        for hit in page
    }
    keys = await names.state_key_nids({("m.room.member", sender) for all_of in senders.values() for sender in all_of})
    positions = {hit.event_nid: max(hit.ord >> ORD_SHIFT, seen[hit.room_nid].known_from or 0) for hit in page}
    wanted = [
        (StateRange(hit.room_nid, positions[hit.event_nid], positions[hit.event_nid]), keys["m.room.member", sender])
        for hit in page
        for sender in senders[hit.event_nid]
    ]
    spans = await state_of_keys(conn, wanted)
    members = await events_by_nid(conn, {span.event_nid for span in spans})
    profiles: dict[int, JsonObject] = {}
    for hit in page:
        pos = positions[hit.event_nid]
        profiles[hit.event_nid] = {
            member.key[1]: _profile(member.content)
            for span in spans
            if span.room_nid == hit.room_nid and span.from_pos <= pos < span.to_pos
            for member in [members[span.event_nid].event]
            if member.state_key in senders[hit.event_nid]
        }
    return profiles


def _profile(content: JsonObject) -> JsonObject:
    return {key: content[key] for key in ("displayname", "avatar_url") if isinstance(content.get(key), str)}


async def _states(
    conn: Connection, rooms: Mapping[int, Room], room_nids: Collection[int], seen: Mapping[int, Sight]
) -> JsonObject:
    """room_id -> the state of each room: as it is now, or of those that the user has left, as it was then."""
    ranges = []
    for room_nid in room_nids:
        last = seen[room_nid].last_join(FOREVER)
        assert last is not None
        pos = _NOW if last[1] == FOREVER else last[1]
        ranges.append(StateRange(room_nid, pos, pos))
    spans = await whole_state(conn, ranges, members=True)
    events = await events_by_nid(conn, {span.event_nid for span in spans})
    states: dict[str, list[StoredEvent]] = {rooms[room_nid].room_id: [] for room_nid in room_nids}
    for event in events.values():
        states[event.event.room_id].append(event)
    return {room_id: await state_events(conn, state) for room_id, state in states.items()}
