"""What goes to other servers: every event of ours, to every server of its room, once it is known to be committed.

The events table is the queue. A fan-out reads it in the order of the stream and notes for each destination which
stretch of which room it lacks; the notes and the reader's position move in one transaction. For each destination one
task at a time takes what is noted, sends it, and deletes the note when the other server has acknowledged. Whatever
crashes where, the worst is that something is sent twice, which the other server doesn't mind.

EDUs that must not get lost (messages between devices, changes of their keys) stand in a queue of their own and are
deleted when they have been acknowledged; those that are ephemeral are only in memory.

A destination that fails is left alone for ever longer, until it is heard from. It costs nobody else anything.
# spec: server-server-api/#transactions
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from federation.room_servers import RoomServers, destinations_of, meant_for
from federation.user_devices import completed_edus
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.storage.destinations import (
    FEDERATION_READER,
    Backoff,
    acknowledge,
    add_pending,
    backoff_of,
    forget_handed_over,
    move_reader,
    outgoing_events,
    pending_events,
    pending_rooms,
    reader_position,
    waiting_destinations,
    write_backoff,
)
from homeserver.storage.outgoing_edus import delete_edus, destinations_since, next_edus, trim_edus
from homeserver.storage.stream import Connection, Stream
from homeserver.stream_work import DATABASE_GONE, cancel_work, follow_stream

logger = logging.getLogger(__name__)

MOST_PDUS = 50
MOST_EDUS = 100
_FAN_OUT = 200  # events in one step of the fan-out
_CATCH_UP = 50  # of more events than this in one room a destination that was away gets the newest only
_MOST_ROOMS = 50  # in one transaction
_MOST_KEPT_EDUS = 1_000  # for one destination, in memory …
_MOST_DURABLE_EDUS = 10_000  # … and in the database, where it fails: it asks for whole device lists later
_AT_ONCE = 500  # destinations that are sent to at once …
_FAILING_AT_ONCE = 50  # … of which so many may be failing ones
_RETRY_MS = 10_000  # doubles with every further failure …
_LONGEST_RETRY_MS = 3_600_000  # … up to this
_PAUSE_AFTER_ERROR = 5.0  # seconds, after an error of our own
_SAVE_AFTER = 10_000  # positions
_SEND_SECONDS = 60.0


class Sender(Protocol):
    """The one request that the outbox makes."""

    async def send_transaction(
        self, destination: str, txn_id: str, transaction: JsonObject, *, timeout: float | None = None
    ) -> JsonObject: ...


@dataclass(slots=True)
class _Destination:
    """What is known of a destination while it matters. `edus` holds the newest for each key."""

    edus: dict[object, JsonObject] = field(default_factory=dict)
    backoff: Backoff | None = None  # None: not read yet
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None  # set while it is left alone
    failed_ms: int = 0
    more: bool = False  # something came while the task was at work


@dataclass(frozen=True, slots=True)
class _Batch:
    """Some of what a destination lacks. `sent` says for each room up to which position it goes.

    `edus` are those that are kept in the database, `edu_positions` where they stand there.
    """

    pdus: Sequence[JsonObject]
    sent: Sequence[tuple[int, int]]
    edus: Sequence[JsonObject]
    edu_positions: Sequence[int]


class Outbox:
    """One for the process. `run` works until it is cancelled."""

    def __init__(
        self,
        stream: Stream,
        sender: Sender,
        *,
        server_name: str,
        retry_ms: int = _RETRY_MS,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self.retry_ms = retry_ms
        self._stream = stream
        self._sender = sender
        self._own = server_name
        self._now_ms = now_ms
        self._wake = asyncio.Event()
        self._room_servers = RoomServers()
        self._destinations: dict[str, _Destination] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._failing_at_once = asyncio.Semaphore(_FAILING_AT_ONCE)
        # Of another process: another time; of this one: another number.
        self._txn_prefix = f"{now_ms()}-"
        self._txn_count = 0
        self._closed = False
        self._read: int | None = None
        self._saved = 0

    def wake(self) -> None:
        """Something was committed."""
        self._wake.set()

    def heard_from(self, server: str) -> None:
        """A server that asks us for something is there: what waits for it need not wait longer."""
        known = self._destinations.get(server)
        if known is None or known.timer is None:
            return
        # It may ask often and still not be reachable.
        wait_ms = known.failed_ms + self.retry_ms - self._now_ms()
        self._set_timer(server, known, max(0, min(wait_ms, self.retry_ms)))

    def retry_now(self, destination: str) -> None:
        """A server that fails is to be tried again at once, as if it had never failed."""
        known = self._destinations.get(destination)
        if known is not None:
            known.backoff = Backoff()
            self._set_timer(destination, known, 0)

    def queue_edu(self, destination: str, key: object, edu: JsonObject) -> None:
        """Sends an EDU as soon as possible, in place of an earlier one with the same key that has not gone yet.

        To a destination that fails it is not sent at all: what is ephemeral would be stale by then.
        """
        if destination == self._own:
            return
        known = self._destinations.setdefault(destination, _Destination())
        if known.timer is not None or len(known.edus) >= _MOST_KEPT_EDUS:
            return
        known.edus.pop(key, None)
        known.edus[key] = edu
        self._start(destination, known)

    async def run(self) -> None:
        """Fans out and sends until cancelled."""
        try:
            await follow_stream("federation sender", self._wake, self._resume, self._fan_out)
        finally:
            await self._close()

    async def _resume(self) -> None:
        """Takes up what an earlier process left."""
        async with self._stream.pool.acquire() as conn:
            waiting = await waiting_destinations(conn)
        for destination, backoff in waiting.items():
            known = self._destinations[destination] = _Destination(backoff=backoff)
            self._start_when_due(destination, known)

    async def _close(self) -> None:
        self._closed = True
        known = self._destinations.values()
        await cancel_work([one.task for one in known], [one.timer for one in known])

    # Fan-out

    async def _fan_out(self) -> bool:
        """Notes what is new for everyone whom it concerns; whether it concerns anyone."""
        found = False
        while True:
            until = self._stream.position
            async with self._stream.pool.acquire() as conn:
                destinations, is_all = await self._fan_out_step(conn, until)
            for destination in destinations:
                self._start(destination, self._destinations.setdefault(destination, _Destination()))
            found = found or bool(destinations)
            if is_all:
                return found

    async def _fan_out_step(self, conn: Connection, until: int) -> tuple[set[str], bool]:
        """Notes who lacks the next events; those destinations, and whether these were the last events."""
        if self._read is None:
            self._read = self._saved = await reader_position(conn, FEDERATION_READER)
        after = self._read
        if after >= until:
            return set(), True
        events = await outgoing_events(conn, self._own, after, until, _FAN_OUT)
        positions: defaultdict[int, list[int]] = defaultdict(list)
        for event in events:
            positions[event.stored.room_nid].append(event.pos)
        in_room = {nid: await self._room_servers.at(conn, nid, of_room) for nid, of_room in positions.items()}
        pending: dict[tuple[str, int], tuple[int, int]] = {}
        for event in events:
            servers = in_room[event.stored.room_nid][event.pos]
            for destination in destinations_of(event, servers, self._own):
                key = (destination, event.stored.room_nid)
                first, _ = pending.get(key, (event.pos, 0))
                pending[key] = (first, event.pos)
        is_all = len(events) < _FAN_OUT
        read = until if is_all else events[-1].pos
        # What nobody lacks may be looked at again after a restart, so its position need not be written each time.
        if pending or read - self._saved > _SAVE_AFTER:
            async with conn.transaction():
                await add_pending(conn, pending)
                if any(event.handed_over is not None for event in events):
                    await forget_handed_over(conn, after)
                await move_reader(conn, FEDERATION_READER, read)
            self._saved = read
        self._read = read
        waiting = await destinations_since(conn, after, read)
        return {*waiting, *(destination for destination, _ in pending)}, is_all

    # Sending

    def _start(self, destination: str, known: _Destination) -> None:
        if self._closed or known.timer is not None:
            return
        if known.task is not None:
            known.more = True
            return
        known.task = asyncio.create_task(self._work_on(destination, known))

    def _start_when_due(self, destination: str, known: _Destination) -> None:
        assert known.backoff is not None
        self._set_timer(destination, known, max(0, known.backoff.retry_at_ts - self._now_ms()))

    def _set_timer(self, destination: str, known: _Destination, wait_ms: int) -> None:
        def due() -> None:
            known.timer = None
            self._start(destination, known)

        if known.timer is not None:
            known.timer.cancel()
        known.timer = asyncio.get_running_loop().call_later(wait_ms / 1000, due)

    async def _work_on(self, destination: str, known: _Destination) -> None:
        """Sends to one destination until it lacks nothing, or fails."""
        failed = False
        try:
            while not failed:
                known.more = False
                failed = not await self._send_next(destination, known)
                if not failed and not known.more and not known.edus and not await self._lacks_something(destination):
                    break
        except DATABASE_GONE as error:
            logger.warning("Sending to %s waits for the database: %s", destination, error)
            known.backoff = Backoff(None, self._now_ms() + int(_PAUSE_AFTER_ERROR * 1000), 0)
            failed = True
        finally:
            known.task = None
        if failed and not self._closed:
            self._start_when_due(destination, known)
        elif known.more:
            self._start(destination, known)
        elif not known.edus:
            self._destinations.pop(destination, None)

    async def _lacks_something(self, destination: str) -> bool:
        async with self._stream.pool.acquire() as conn:
            return bool(
                await pending_rooms(conn, destination, 1)
                or await next_edus(conn, destination, self._stream.position, 1)
            )

    async def _send_next(self, destination: str, known: _Destination) -> bool:
        """Sends one transaction, if there is anything to send. Whether that went well."""
        if known.backoff is None:
            async with self._stream.pool.acquire() as conn:
                known.backoff = await backoff_of(conn, destination)
        failing = known.backoff.failing_since_ts is not None
        async with self._failing_at_once if failing else self._at_once:
            async with self._stream.pool.acquire() as conn:
                batch = await self._next_batch(conn, destination, failing)
            keys = list(known.edus)[: MOST_EDUS - len(batch.edus)]
            edus = [known.edus[key] for key in keys]
            if batch.pdus or batch.edus or edus:
                try:
                    await self._send(destination, batch.pdus, [*batch.edus, *edus])
                except (MatrixError, ValueError) as error:
                    await self._failed(destination, known, error)
                    return False
            for key, edu in zip(keys, edus, strict=True):
                if known.edus.get(key) is edu:
                    del known.edus[key]
            await self._succeeded(destination, known, batch)
        return True

    async def _next_batch(self, conn: Connection, destination: str, failing: bool) -> _Batch:
        pdus: list[JsonObject] = []
        sent: list[tuple[int, int]] = []
        for pending in await pending_rooms(conn, destination, _MOST_ROOMS):
            left = MOST_PDUS - len(pdus)
            if left <= 0:
                break
            events = await pending_events(conn, self._own, pending, _CATCH_UP + 1)
            if len(events) > _CATCH_UP and failing:
                # It asks for what lies between. That is less work for both than a hundred transactions.
                events = await pending_events(conn, self._own, pending, 1, newest=True)
            going = await meant_for(conn, destination, pending, events[:left], self._own)
            pdus += [event.stored.event.json for event in going]
            sent.append((pending.room_nid, pending.last_pos if len(events) <= left else events[left - 1].pos))
        kept = await next_edus(conn, destination, self._stream.position, MOST_EDUS)
        return _Batch(pdus, sent, await completed_edus(conn, kept), [edu.pos for edu in kept])

    async def _send(self, destination: str, pdus: Sequence[JsonObject], edus: Sequence[JsonObject]) -> None:
        self._txn_count += 1
        transaction: JsonObject = {"origin": self._own, "origin_server_ts": self._now_ms(), "pdus": list(pdus)}
        if edus:
            transaction["edus"] = list(edus)
        txn_id = f"{self._txn_prefix}{self._txn_count}"
        answer = await self._sender.send_transaction(destination, txn_id, transaction, timeout=_SEND_SECONDS)
        results = answer.get("pdus")
        for event_id, result in results.items() if isinstance(results, dict) else ():
            if isinstance(result, dict) and "error" in result:
                logger.info("%s did not take %s: %.200s", destination, event_id, result["error"])

    async def _succeeded(self, destination: str, known: _Destination, batch: _Batch) -> None:
        recovered = known.backoff != Backoff()
        known.backoff = Backoff()
        if not batch.sent and not batch.edu_positions and not recovered:
            return
        async with self._stream.pool.acquire() as conn, conn.transaction():
            if batch.edu_positions:
                await delete_edus(conn, destination, batch.edu_positions)
            if batch.sent:
                await acknowledge(conn, destination, batch.sent)
            if recovered:
                await write_backoff(conn, destination, known.backoff)

    async def _failed(self, destination: str, known: _Destination, error: Exception) -> None:
        previous = known.backoff or Backoff()
        interval = min(previous.retry_interval_ms * 2 or self.retry_ms, _LONGEST_RETRY_MS)
        now_ms = self._now_ms()
        # With jitter: servers that fell silent together must not all be asked at once for ever.
        wait_ms = int(interval * random.uniform(0.7, 1.3))  # noqa: S311
        known.backoff = Backoff(previous.failing_since_ts or now_ms, now_ms + wait_ms, interval)
        known.failed_ms = now_ms
        known.edus.clear()
        logger.info("Sending to %s failed, again in %d s: %s", destination, wait_ms // 1000, error)
        async with self._stream.pool.acquire() as conn:
            await write_backoff(conn, destination, known.backoff)
            await trim_edus(conn, destination, _MOST_DURABLE_EDUS)
