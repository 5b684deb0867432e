"""What came before: the answers to servers that lack part of a room's history.

# spec: server-server-api/#backfilling-and-retrieving-missing-events
"""

from __future__ import annotations

import heapq
from collections.abc import Collection

from federation.events import room_for, transaction_of
from federation.peers import Federation, PeerRequest
from federation.visible_events import as_seen_by, was_joined
from homeserver.http.bodies import array_of_strings, integer
from homeserver.protocol.errors import Forbidden, InvalidParam
from homeserver.protocol.events import JsonObject
from homeserver.storage.events import StoredEvent, events_by_id
from homeserver.storage.federation_reads import events_not_deeper
from homeserver.storage.names import Room
from homeserver.storage.stream import Connection

_MOST_BACKFILLED = 100
_MOST_MISSING = 100
_MOST_STARTS = 50
_MOST_ROUNDS = 20  # of reading; each brings what lies next by depth


async def get_backfill(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1backfillroomid"""
    starts = request.query.all("v")
    if not 0 < len(starts) <= _MOST_STARTS:
        raise InvalidParam(f"1 to {_MOST_STARTS} event ids are needed")
    limit = request.query.integer("limit", default=_MOST_BACKFILLED, minimum=1)
    room = await room_for(federation, request)
    async with federation.services.pool.acquire() as conn:
        known = await _allowed(federation, conn, room, request, starts)
        events = await ancestors(conn, room.nid, known, limit=min(limit, _MOST_BACKFILLED))
        pdus = await as_seen_by(federation, conn, room, request.origin, events)
    return transaction_of(federation, pdus)


async def post_missing_events(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#post_matrixfederationv1get_missing_eventsroomid"""
    body = request.body
    earliest = array_of_strings(body, "earliest_events", required=True, max_items=1_000)
    latest = array_of_strings(body, "latest_events", required=True, max_items=_MOST_STARTS)
    limit = integer(body, "limit", minimum=1)
    min_depth = integer(body, "min_depth") or 0
    room = await room_for(federation, request)
    async with federation.services.pool.acquire() as conn:
        known = await _allowed(federation, conn, room, request, latest)
        events = await ancestors(
            conn,
            room.nid,
            known,
            limit=min(limit or 10, _MOST_MISSING),
            stop_at={*earliest, *latest},
            min_depth=min_depth,
            without_starts=True,
        )
        pdus = await as_seen_by(federation, conn, room, request.origin, events)
    return {"events": pdus[::-1]}


async def _allowed(
    federation: Federation, conn: Connection, room: Room, request: PeerRequest, event_ids: Collection[str]
) -> dict[str, StoredEvent]:
    """Those of these events that are here, if the asking server is in the room or was at one of them."""
    known = await events_by_id(conn, list(event_ids), room.nid)
    for stored in known.values():
        if await was_joined(federation, conn, room, request.origin, stored):
            return known
    if known:
        raise Forbidden(f"{request.origin} is not in that room")
    return {}


async def ancestors(
    conn: Connection,
    room_nid: int,
    starts: dict[str, StoredEvent],
    *,
    limit: int,
    stop_at: Collection[str] = (),
    min_depth: int = 0,
    without_starts: bool = False,
) -> list[StoredEvent]:
    """At most `limit` events that `starts` follow, and these themselves unless told otherwise; the deepest first.

    What was rejected is passed through and left out; what is in `stop_at` is not passed.
    """
    known = dict(starts)
    heap = [(-stored.event.depth, event_id) for event_id, stored in starts.items()]
    heapq.heapify(heap)
    seen, rounds = set(starts), 0
    found: list[StoredEvent] = []
    while heap and len(found) < limit:
        depth, event_id = heapq.heappop(heap)
        stored = known[event_id]
        if not (without_starts and event_id in starts) and not stored.status.rejected and not stored.status.outlier:
            found.append(stored)
        cited = [id for id in stored.event.prev_events if id not in seen and id not in stop_at]
        unknown = [id for id in cited if id not in known]
        if unknown and rounds < _MOST_ROUNDS:
            rounds += 1
            likely = await events_not_deeper(conn, room_nid, -depth, 2 * limit)
            known.update((one.event.event_id, one) for one in likely)
            known.update(await events_by_id(conn, [id for id in unknown if id not in known], room_nid))
        for id in cited:
            if id in known and known[id].event.depth >= min_depth:
                seen.add(id)
                heapq.heappush(heap, (-known[id].event.depth, id))
    return found
