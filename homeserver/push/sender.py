"""Tells devices what notifies their users: each event once, in order, each pusher on its own.

What notified whom is kept since the event was written. A fan-out reads it in the order of the stream and enters for
each pusher which events it has to send; the entries and the reader's position are written in one transaction, so that
each event is entered once whatever crashes. For each pusher one task at a time takes the next entry, sends it, and
deletes it when the other side has taken it.

Between the other side's answer and that deletion lies a moment in which a crash has one request sent again: no server
can know whether an answer that it did not live to read was given. Every request names its event, and push gateways
must tell their device of each event once (`event_id`, "duplicate suppression"), so a device rings once for each. The
other way round, to take note first and send then, a crash would swallow a notification, and nobody would ever know.

A pusher that fails is left alone for ever longer, in its row; it costs others nothing: for each gateway there are a few
requests at once, and those that fail share a few of all. What could not be told within a day is not told any more.

One process does this, the one that writes to the database.
# spec: push-gateway-api/#homeserver-behaviour
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.push.gateway import Outcome, post_notification
from homeserver.push.notification import badge_notification, event_notification, unread_messages, what_to_tell
from homeserver.push.web_push import Signer, message_text, post_message
from homeserver.secrets import load_or_create_vapid_key
from homeserver.services import Services
from homeserver.storage.destinations import move_reader, reader_position
from homeserver.storage.events import ORD_SHIFT
from homeserver.storage.notifications import notified_among, notifying_events
from homeserver.storage.pushers import (
    Pusher,
    QueuedEvent,
    any_pusher,
    clear_ack_due,
    delete_old_queued,
    delete_queued,
    delete_rejected,
    find_pusher,
    mark_badges_due,
    next_events,
    pushers_set,
    queue_event,
    set_badge,
    users_with_pushers,
    waiting_pushers,
    write_failure,
)
from homeserver.storage.stream import Connection
from homeserver.stream_work import DATABASE_GONE, cancel_work, follow_stream

logger = logging.getLogger(__name__)

_READER = "push"
_WEB_PUSH = "webpush"
_FAN_OUT = 200  # events in one step of the fan-out
_AT_ONCE = 200  # requests at once …
_FAILING_AT_ONCE = 40  # … of which so many by pushers that failed last time …
_AT_ONCE_TO_ONE = 8  # … and so many to one gateway
RETRY_MS = 10_000  # doubles with every further failure …
_LONGEST_RETRY_MS = 3_600_000  # … up to this
_GIVE_UP_MS = 24 * 3_600_000
_BADGE_PAUSE_MS = 1_000  # who reads one room may read another at once
_GIVE_UP_BADGE = 30  # failures: about a day
_MOST_QUEUED = 1_000  # events of one pusher that fails
_REFUSED_TIMES = 4  # after that the next event is tried
_PAUSE_AFTER_ERROR = 5.0  # seconds, after an error of our own
_SAVE_AFTER = 10_000  # positions


@dataclass(slots=True)
class _Work:
    """What is known of a pusher that has something to send."""

    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None  # set while it waits
    more: bool = False  # something came while the task was at work


@dataclass(slots=True)
class _Gateway:
    """A gateway that is asked, or waited for, just now."""

    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE_TO_ONE))
    users: int = 0


@dataclass(frozen=True, slots=True)
class _Request:
    """What a pusher sends next: about an event, or (None) about the number of unread messages alone, or (`is_ack`) the
    token that its client must say back.

    Without `notification` there is nothing to be said after all.
    """

    pusher: Pusher
    queued: QueuedEvent | None
    unread: int | None = None
    notification: JsonObject | None = None
    is_ack: bool = False


class PushSender:
    """One for the process. `run` works until it is cancelled."""

    def __init__(
        self,
        services: Services,
        *,
        retry_ms: int | None = None,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self.retry_ms = retry_ms or RETRY_MS
        self._services = services
        self._stream = services.stream
        self._now_ms = now_ms
        self._wake = asyncio.Event()
        self._works: dict[int, _Work] = {}
        self._gateways: defaultdict[str, _Gateway] = defaultdict(_Gateway)
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._failing_at_once = asyncio.Semaphore(_FAILING_AT_ONCE)
        self._closed = False
        self._read: int | None = None
        self._saved = 0
        config = services.config
        self._signer = Signer(
            load_or_create_vapid_key(config.data_dir), config.public_baseurl or f"https://{config.server_name}"
        )
        services.changes.add_listener(self._wake.set)

    async def run(self) -> None:
        """Fans out and sends until cancelled."""
        try:
            await follow_stream("push sender", self._wake, self._resume, self._fan_out)
        finally:
            await self._close()

    async def _resume(self) -> None:
        """Takes up what an earlier process left."""
        async with self._stream.pool.acquire() as conn:
            waiting = await waiting_pushers(conn)
        for pusher_id in waiting:
            self._start(pusher_id)

    async def _close(self) -> None:
        self._closed = True
        works = self._works.values()
        await cancel_work([work.task for work in works], [work.timer for work in works])

    # Fan-out

    async def _fan_out(self) -> bool:
        """Enters what is new for everyone whom it concerns; whether it concerns anyone."""
        found = False
        while True:
            until = self._stream.position
            async with self._stream.pool.acquire() as conn:
                pushers, badges, is_all = await self._fan_out_step(conn, until)
            for pusher_id in pushers:
                self._start(pusher_id)
            for pusher_id in badges:
                self._start(pusher_id, wait_ms=_BADGE_PAUSE_MS)
            found = found or bool(pushers)
            if is_all:
                return found

    async def _fan_out_step(self, conn: Connection, until: int) -> tuple[set[int], set[int], bool]:
        """Enters the next events; the pushers that have something to send, those whose badge alone may have changed,
        and whether these were the last events."""
        if self._read is None:
            self._read = self._saved = await reader_position(conn, _READER)
        after = self._read
        if after >= until:
            return set(), set(), True
        if not await any_pusher(conn):
            self._read = until
            return set(), set(), True
        events = await notifying_events(conn, after, until, _FAN_OUT)
        is_all = len(events) < _FAN_OUT
        read = until if is_all else events[-1].ord >> ORD_SHIFT
        pushers: set[int] = set()
        async with conn.transaction():
            members: dict[int, list[int]] = {}
            for event in events:
                if event.room_nid not in members:
                    members[event.room_nid] = await users_with_pushers(conn, event.room_nid)
                if members[event.room_nid]:
                    notified = await notified_among(conn, event, members[event.room_nid])
                    if notified:
                        pushers |= await queue_event(conn, event, notified, self._now_ms())
            badges = await mark_badges_due(conn, after, read)
            # What concerns nobody may be looked at again after a restart: its position need not be written each time.
            must_save = bool(pushers or badges) or read - self._saved > _SAVE_AFTER
            if must_save:
                await move_reader(conn, _READER, read)
        self._read = read
        if must_save:
            self._saved = read
        pushers |= await pushers_set(conn, after, read)
        return pushers, badges - pushers, is_all

    # Sending

    def _start(self, pusher_id: int, *, wait_ms: int = 0) -> None:
        """Has a pusher look for what it has to send. One that is left alone finds that in its row."""
        if self._closed:
            return
        work = self._works.setdefault(pusher_id, _Work())
        if work.task is not None:
            work.more = True
        elif wait_ms:
            self._start_later(pusher_id, work, wait_ms)
        else:
            if work.timer is not None:
                work.timer.cancel()
                work.timer = None
            work.task = asyncio.create_task(self._work_on(pusher_id, work))

    def _start_later(self, pusher_id: int, work: _Work, wait_ms: int) -> None:
        def due() -> None:
            work.timer = None
            self._start(pusher_id)

        if work.timer is None:
            work.timer = asyncio.get_running_loop().call_later(wait_ms / 1000, due)

    async def _work_on(self, pusher_id: int, work: _Work) -> None:
        """Sends what one pusher has to send until there is nothing left, or it fails."""
        wait_ms: int | None = 0
        try:
            while wait_ms == 0 or (wait_ms is None and work.more):
                work.more = False
                wait_ms = await self._send_next(pusher_id)
        except DATABASE_GONE as error:
            logger.warning("Pusher %d waits for the database: %s", pusher_id, error)
            wait_ms = int(_PAUSE_AFTER_ERROR * 1000)
        finally:
            work.task = None
        if self._closed:
            return
        if wait_ms is None:
            self._works.pop(pusher_id, None)
        elif work.more:
            self._start(pusher_id)
        else:
            self._start_later(pusher_id, work, wait_ms)

    async def _send_next(self, pusher_id: int) -> int | None:
        """Sends one request, if there is anything to send.

        :returns: for how many ms the pusher is to be left alone; None: there is nothing more
        """
        async with self._stream.pool.acquire() as conn:
            pusher = await find_pusher(conn, pusher_id)
        if pusher is None or not pusher.enabled:
            return None
        wait_ms = pusher.retry_at_ts - self._now_ms()
        if wait_ms > 0:
            return wait_ms
        async with self._slot(urlsplit(str(pusher.fields.data["url"])).netloc, failing=pusher.failures > 0):
            # Waiting for one's turn may take long enough for the device to be signed out, or the event to be read.
            async with self._stream.pool.acquire() as conn:
                request = await self._next_request(conn, pusher_id)
                if request is None:
                    return None
                if request.notification is None:
                    await self._succeeded(conn, request)
                    return 0
            outcome, reason = await self._post(request.pusher, request.notification, is_ack=request.is_ack)
        async with self._stream.pool.acquire() as conn:
            return await self._conclude(conn, request, outcome, reason)

    async def _post(self, pusher: Pusher, notification: JsonObject, *, is_ack: bool) -> tuple[Outcome, str]:
        fields, outbound = pusher.fields, self._services.outbound
        if fields.kind != _WEB_PUSH:
            return await post_notification(outbound, str(fields.data["url"]), fields.pushkey, notification)
        text = encode_json(notification) if is_ack else message_text(pusher, notification)
        topic = str(notification.get("event_id", "ack"))
        urgent = is_ack or notification.get("prio") == "high"
        return await post_message(outbound, self._signer, pusher, text, topic=topic, urgent=urgent)

    @asynccontextmanager
    async def _slot(self, gateway: str, *, failing: bool) -> AsyncIterator[None]:
        """A turn to ask that gateway."""
        known = self._gateways[gateway]
        known.users += 1
        try:
            async with known.slots, self._failing_at_once if failing else self._at_once:
                yield
        finally:
            known.users -= 1
            if not known.users:
                del self._gateways[gateway]

    async def _next_request(self, conn: Connection, pusher_id: int) -> _Request | None:
        pusher = await find_pusher(conn, pusher_id)
        if pusher is None or not pusher.enabled:
            return None
        if pusher.ack_token is not None:
            if not pusher.ack_due:
                return None
            message = {"app_id": pusher.fields.app_id, "ack_token": pusher.ack_token}
            in_time = pusher.ack_expires_ts > self._now_ms()
            return _Request(pusher, None, notification=message if in_time else None, is_ack=True)
        queued = await next_events(conn, pusher_id, 1)
        if queued:
            if queued[0].queued_ts < self._now_ms() - _GIVE_UP_MS:
                return _Request(pusher, queued[0])
            try:
                told = await what_to_tell(self._services, conn, pusher, queued[0])
            except (MatrixError, LookupError, ValueError):
                # One event that can't be told, whatever is wrong with it, must not keep the device from all others.
                logger.exception("Pusher %d passes over event number %d", pusher_id, queued[0].event_nid)
                told = None
            if told is None:
                return _Request(pusher, queued[0])
            return _Request(pusher, queued[0], told.unread, event_notification(pusher, told))
        if not pusher.badge_due:
            return None
        unread = await unread_messages(self._services, conn, pusher.user_nid)
        # Browsers take it ill if a message shows nothing.
        if unread == (pusher.badge or 0) or pusher.fields.kind == _WEB_PUSH:
            return _Request(pusher, None, unread)
        return _Request(pusher, None, unread, badge_notification(pusher, unread))

    async def _succeeded(self, conn: Connection, request: _Request) -> None:
        """Takes note that a request was taken, or that there was none to be made."""
        async with conn.transaction():
            if request.is_ack:
                await clear_ack_due(conn, request.pusher)
            if request.queued is not None:
                await delete_queued(conn, request.pusher.pusher_id, [request.queued])
            if request.unread is not None:
                await set_badge(conn, request.pusher, request.unread, sent=request.notification is not None)

    async def _conclude(self, conn: Connection, request: _Request, outcome: Outcome, reason: str) -> int | None:
        """Takes note of an outcome; as `_send_next` returns."""
        pusher = request.pusher
        match outcome:
            case Outcome.TAKEN:
                await self._succeeded(conn, request)
                return 0
            case Outcome.REJECTED:
                if await delete_rejected(conn, pusher):
                    logger.info("Pusher %d is gone: %s", pusher.pusher_id, reason)
                return 0
        failures = pusher.failures + 1
        if outcome is Outcome.REFUSED and failures >= _REFUSED_TIMES:
            logger.info("Pusher %d passes over what is refused: %s", pusher.pusher_id, reason)
            await self._succeeded(conn, request)
            return 0
        if request.queued is None and failures >= _GIVE_UP_BADGE:
            await self._succeeded(conn, request)
            return 0
        interval = min(self.retry_ms * 2 ** min(failures - 1, 30), _LONGEST_RETRY_MS)
        # With jitter: pushers of a gateway that fell silent must not all ask it at once for ever.
        wait_ms = int(interval * random.uniform(0.7, 1.3))  # noqa: S311
        logger.info("Pusher %d failed, again in %d s: %s", pusher.pusher_id, wait_ms // 1000, reason)
        now_ms = self._now_ms()
        async with conn.transaction():
            await write_failure(conn, pusher, failures, now_ms + wait_ms)
            await delete_old_queued(conn, pusher.pusher_id, now_ms - _GIVE_UP_MS, _MOST_QUEUED)
        return wait_ms
