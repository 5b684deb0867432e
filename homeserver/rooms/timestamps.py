"""The event next to a moment, with the help of other servers where our history has a gap there.

# spec: client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from homeserver.protocol.errors import Forbidden, Unavailable
from homeserver.remote import Remote
from homeserver.rooms.backfill import Backfiller
from homeserver.rooms.timeline import Timeline
from homeserver.storage.event_times import events_near, ord_above
from homeserver.storage.events import StoredEvent
from homeserver.storage.gaps import gaps_between
from homeserver.storage.members import joined_servers
from homeserver.storage.names import Room

logger = logging.getLogger(__name__)

_SERVERS_ASKED = 3
_ROUNDS = 20  # of fetching what lies between the gap and the event that another server found
_SECONDS = 20.0

Ranges = Sequence[tuple[int, int]]


async def event_near(
    timeline: Timeline,
    backfiller: Backfiller,
    remote: Remote,
    room: Room,
    ts: int,
    *,
    backwards: bool,
    ranges: Ranges,
) -> StoredEvent | None:
    """The nearest event at or after `ts` (at or before, if `backwards`) that lies in one of `ranges`.

    Next to a gap other servers are asked whether they have a nearer one, and what lies between is fetched as far as
    that can be done while somebody waits.
    """
    found, gap = await _look(timeline, room, ts, backwards, ranges)
    if gap is None or not await _is_nearer_elsewhere(timeline, remote, room, ts, backwards, found):
        return found
    try:
        async with asyncio.timeout(_SECONDS):
            for _ in range(_ROUNDS):
                if gap is None or not await backfiller.fill(room, gap[0], gap[1]):
                    break
                found, gap = await _look(timeline, room, ts, backwards, ranges)
    except TimeoutError:
        logger.info("Fetching the history of %s around %d takes long", room.room_id, ts)
    return found


async def _look(
    timeline: Timeline, room: Room, ts: int, backwards: bool, ranges: Ranges
) -> tuple[StoredEvent | None, tuple[int | None, int] | None]:
    """The nearest event that is here, and the stretch (above, until) next to it in which something is missing."""
    async with timeline.stream.pool.acquire() as conn:
        near = await events_near(conn, room.nid, ts, backwards=backwards, ranges=ranges)
        found = near[0] if near else None
        at = found.ord if found is not None else None
        if backwards:
            until = await ord_above(conn, room.nid, at)
            above = at
        else:
            # After the newest event nothing is missing.
            until, above = at, at - 1 if at is not None else None
        if until is None or not await gaps_between(conn, room.nid, above, until):
            return found, None
        return found, (above, until)


async def _is_nearer_elsewhere(
    timeline: Timeline, remote: Remote, room: Room, ts: int, backwards: bool, found: StoredEvent | None
) -> bool:
    async with timeline.stream.pool.acquire() as conn:
        servers = [server for server in await joined_servers(conn, room.nid) if server != timeline.server_name]
    for server in sorted(servers[: 2 * _SERVERS_ASKED], key=remote.recently_failed)[:_SERVERS_ASKED]:
        try:
            event_id, sent = await remote.timestamp_to_event(server, room.room_id, ts, "b" if backwards else "f")
        except (Unavailable, Forbidden) as error:
            logger.info("%s knows no event of %s around %d: %s", server, room.room_id, ts, error)
            continue
        if (sent <= ts) if backwards else (sent >= ts):
            known = found is not None and (
                found.event.event_id == event_id or abs(found.event.origin_server_ts - ts) <= abs(sent - ts)
            )
            return not known
    return False
