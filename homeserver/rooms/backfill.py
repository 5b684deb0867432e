"""History that this server has not seen, fetched from servers that have when somebody scrolls there.

It goes where it belongs in the timeline, between what is known above and below the gap, and is told to nobody: who
pages through the room finds it. Each call does a bounded piece of work, however long the history.

# spec: server-server-api/#backfilling-and-retrieving-missing-events
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence

from homeserver.protocol.errors import Forbidden, InvalidEvent, Unavailable
from homeserver.protocol.identifiers import domain_of
from homeserver.rooms.checked_pdus import CheckedPdu, by_dependency, check_pdus
from homeserver.rooms.receive import Receiver
from homeserver.storage.events import ORD_SHIFT, Status, event_by_id, statuses_of
from homeserver.storage.gaps import Gap, citing_events, gaps_between, ord_below, record_missing
from homeserver.storage.members import joined_servers
from homeserver.storage.names import BoundedCache, Room
from homeserver.storage.state_snapshots import State

logger = logging.getLogger(__name__)

_ASKED_FOR = 100  # events at once
_MOST_SERVERS = 3  # asked for one gap
_MOST_STATES = 5  # fetched for the events at the far end of what came
_SECONDS = 20.0  # for all of it: somebody waits
_FAILED_SECONDS = 300.0  # until a gap that nobody could fill is tried again
_CAPACITY_SHIFT = 16  # the free places of a gap are handed out so that it takes 2^16 events


class Backfiller:
    """Fills gaps."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._timeline = receiver.timeline
        self._remote = receiver.remote
        self._failed: BoundedCache[tuple[int, str], float] = BoundedCache(10_000)

    async def fill(self, room: Room, above: int | None, until: int) -> bool:
        """Fetches part of what is missing below events whose place is above `above` (None: any) and not above `until`;
        whether something was found.

        Cheap where nothing is missing. Call it again as long as it finds something and more is wanted.
        """
        async with self._receiver.locks.hold(("backfill", room.nid)):
            async with self._timeline.stream.pool.acquire() as conn:
                gaps = await gaps_between(conn, room.nid, above, until)
            gaps = [gap for gap in gaps if not self._failed_lately(room, gap)]
            if not gaps:
                return False
            uppermost = [gap for gap in gaps if gap.event_nid == gaps[0].event_nid]
            try:
                async with asyncio.timeout(_SECONDS):
                    return await self._fill(room, uppermost)
            except TimeoutError:
                self._remember_failure(room, uppermost)
                return False

    def _failed_lately(self, room: Room, gap: Gap) -> bool:
        failed = self._failed.get((room.nid, gap.missing))
        return failed is not None and time.monotonic() - failed < _FAILED_SECONDS

    def _remember_failure(self, room: Room, gaps: Sequence[Gap]) -> None:
        for gap in gaps:
            self._failed.set((room.nid, gap.missing), time.monotonic())

    async def _fill(self, room: Room, gaps: Sequence[Gap]) -> bool:
        """Fills the gap below one event, which may have several ends."""
        wanted = [gap.missing for gap in gaps]
        for server in await self._servers(room, gaps[0]):
            try:
                pdus = await self._remote.backfill(server, room.room_id, wanted, _ASKED_FOR)
                checked = await check_pdus(self._remote, pdus, room.version, room.room_id)
                new = await self._connected(room, wanted, checked)
                if not new:
                    continue
                states = await self._prepare(server, room, new)
                if await self._store(room, gaps[0], new, states):
                    return True
            except (Unavailable, Forbidden, InvalidEvent) as error:
                logger.info("%s gave no history of %s: %s", server, room.room_id, error)
        self._remember_failure(room, gaps)
        return False

    async def _servers(self, room: Room, gap: Gap) -> list[str]:
        async with self._timeline.stream.pool.acquire() as conn:
            servers = await joined_servers(conn, room.nid)
            citing = await event_by_id(conn, gap.event_id)
        first = domain_of(citing.event.sender) if citing is not None else ""
        others = [server for server in servers if server != self._timeline.server_name]
        others.sort(key=lambda server: (self._remote.recently_failed(server), server != first))
        return others[:_MOST_SERVERS]

    async def _connected(
        self, room: Room, wanted: Sequence[str], checked: Mapping[str, CheckedPdu]
    ) -> dict[str, CheckedPdu]:
        """Those of these events that lie behind the gap and whose place is not known yet."""
        async with self._timeline.stream.pool.acquire() as conn:
            known = await self._receiver.in_dag(conn, checked.keys())
        found: dict[str, CheckedPdu] = {}
        behind = list(wanted)
        while behind:
            event_id = behind.pop()
            if event_id in checked and event_id not in known and event_id not in found:
                found[event_id] = checked[event_id]
                behind.extend(checked[event_id].event.prev_events)
        return found

    async def _prepare(self, server: str, room: Room, new: Mapping[str, CheckedPdu]) -> dict[str, State]:
        """Fetches what must be here before the events can be entered; the state before those at the far end."""
        states: dict[str, State] = {}
        async with self._timeline.stream.pool.acquire() as conn:
            cited = {prev for pdu in new.values() for prev in pdu.event.prev_events}
            known = await self._receiver.in_dag(conn, cited - new.keys())
            cited_auth = {auth for pdu in new.values() for auth in pdu.event.auth_events}
            at_hand = {*await statuses_of(conn, cited_auth), *new}
        for event_id, pdu in new.items():
            event = pdu.event
            if event.type == "m.room.create":
                continue
            if any(prev not in new and prev not in known for prev in event.prev_events):
                if len(states) >= _MOST_STATES:
                    continue
                states[event_id] = await self._receiver.fetch_state_before(server, room, event_id)
        for pdu in new.values():
            if not at_hand.issuperset(pdu.event.auth_events):
                await self._receiver.ensure_auth_events(server, room, pdu.event)
        return states

    async def _store(self, room: Room, gap: Gap, new: dict[str, CheckedPdu], states: Mapping[str, State]) -> bool:
        """Enters the events, the oldest first, below the one that cites them."""
        behind_rejected: dict[str, list[str]] = {}
        stored_any = False
        async with self._timeline.locked(room, 1) as append:
            conn = append.write.conn
            order = by_dependency(new, auth=False)
            ords = _places(gap.ord, await ord_below(conn, room.nid, gap.ord, 1), len(order))
            for pdu, ord in zip(order, ords, strict=True):
                event = pdu.event
                in_dag = await self._receiver.in_dag(conn, [event.event_id, *event.prev_events])
                complete = all(prev in in_dag for prev in event.prev_events)
                if event.event_id in in_dag or not (complete or event.event_id in states):
                    continue
                stored, missing = await self._receiver.append_history(append, pdu, states.get(event.event_id), ord)
                stored_any = True
                for prev in event.prev_events:
                    missing += behind_rejected.get(prev, [])
                citing = await citing_events(conn, room.nid, event.event_id)
                if stored.status is Status.ACCEPTED:
                    await record_missing(conn, room.nid, stored.nid, missing)
                else:
                    # It has no place in the timeline, so whoever follows it must say that something is missing.
                    behind_rejected[event.event_id] = missing
                    for nid in citing:
                        await record_missing(conn, room.nid, nid, missing)
        return stored_any


def _places(above: int, below: int | None, count: int) -> list[int]:
    """Places for `count` events, the oldest first, close below `above`; some left for what is found later."""
    step = 1 << ORD_SHIFT
    if below is not None:
        step = max(1, min(step, (above - below) >> _CAPACITY_SHIFT))
        count_that_fits = (above - below - 1) // step
        if count_that_fits < count:
            raise InvalidEvent("There is no place left in the timeline between two events")
    return [above - step * index for index in range(count, 0, -1)]
