"""Events that a user wants sent later, unless they say otherwise until then (MSC4140).

They are rows: what is due is found there by one loop, after a restart too. Rules, limits and power levels are applied
when an event is sent. An event is sent with its delay_id as its transaction id, so that one whose sending was cut short
is not sent twice: the second attempt finds the event that the first one made.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import asyncpg

from homeserver.protocol.canonical_json import decode_json, encode_json
from homeserver.protocol.errors import Forbidden, LimitExceeded, MatrixError, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.rooms.membership import Membership
from homeserver.rooms.timeline import NewEvent
from homeserver.storage import delayed_events as rows
from homeserver.storage.delayed_events import DelayedEvent
from homeserver.storage.names import Room
from homeserver.storage.transactions import DELAYED_DEVICE, ClientTransaction

log = logging.getLogger(__name__)

_AT_ONCE = 100
_CLAIM_MS = 60_000
_LONGEST_SLEEP = 60.0  # seconds
_CLEAN_EVERY_MS = 3600_000
_KEEP_MS = 7 * 24 * 3600_000
_KEEP_EACH = 1000
_FOREVER = 2**63

UseLimit = Callable[[str], None]
"""Counts one event that this user sends. Raises LimitExceeded."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a user may schedule: how far ahead (milliseconds), and how many at once."""

    max_delay_ms: int
    max_scheduled: int


class DelayedEvents:
    """The delayed events of one server."""

    def __init__(self, membership: Membership, limits: Limits, use_limit: UseLimit) -> None:
        self.limits = limits
        self._membership = membership
        self._timeline = membership.timeline
        self._pool = membership.timeline.stream.pool
        self._use_limit = use_limit
        self._wake = asyncio.Event()
        self._sleeps_until = 0
        self._cleaned = 0

    async def schedule(self, event: DelayedEvent) -> str:
        """Schedules an event: all but its `delay_id`, `scheduled_ts` and `send_ts`. Its delay_id.

        :raises Forbidden: if the delay is too long, or nobody may schedule
        :raises LimitExceeded: if the user has scheduled too many
        """
        if event.delay_ms > self.limits.max_delay_ms or not self.limits.max_scheduled:
            error = Forbidden("The delay is longer than this server allows")
            # As older clients know it.
            error.extra["org.matrix.msc4140.errcode"] = "M_MAX_DELAY_EXCEEDED"
            error.extra["org.matrix.msc4140.max_delay"] = self.limits.max_delay_ms
            raise error
        now = self._timeline.clock()
        # Whoever knows the id and is the user may manage the event, so it is no secret; but nobody can guess it.
        event = replace(
            event, delay_id=secrets.token_urlsafe(18), scheduled_ts=now, send_ts=now + event.delay_ms, claimed_until=0
        )
        async with self._pool.acquire() as conn, conn.transaction():
            if event.txn_id is not None:
                known = await rows.find_by_transaction(
                    conn, event.user_nid, event.device_id, event.room_nid, event.txn_id
                )
                if known is not None:
                    return known
            number, next_ts = await rows.count_scheduled(conn, event.user_nid)
            if number >= self.limits.max_scheduled:
                raise LimitExceeded(
                    "You have scheduled as many delayed events as this server allows",
                    retry_after_ms=max(1000, (next_ts or now) - now),
                )
            delay_id = await rows.insert_delayed(conn, event)
        if event.send_ts < self._sleeps_until:
            self._wake.set()
        return delay_id

    async def find(self, user_nid: int, delay_id: str) -> DelayedEvent:
        """The user's delayed event of that id.

        :raises NotFound: if the user has none
        """
        async with self._pool.acquire() as conn:
            event = await rows.find_delayed(conn, user_nid, delay_id)
        if event is None:
            raise NotFound("You have no such delayed event")
        return event

    async def scheduled(self, user_nid: int, after: tuple[int, str], limit: int) -> list[DelayedEvent]:
        """The user's events that are still to be sent, the next first; from behind (send_ts, delay_id)."""
        async with self._pool.acquire() as conn:
            return await rows.list_scheduled(conn, user_nid, after, limit)

    async def restart(self, user_nid: int, delay_id: str) -> None:
        """Lets the delay begin anew.

        :raises NotFound: if there is no such event
        :raises MatrixError: 409 if it has been sent or cancelled
        """
        async with self._pool.acquire() as conn:
            if await rows.restart(conn, user_nid, delay_id, self._timeline.clock()):
                return
        raise _conflict(await self.find(user_nid, delay_id))

    async def cancel(self, user_nid: int, delay_id: str) -> None:
        """Cancels the event, for good; one that has been cancelled stays so.

        :raises NotFound: if there is no such event
        :raises MatrixError: 409 if it has been sent
        """
        async with self._pool.acquire() as conn:
            if await rows.cancel(conn, user_nid, delay_id, self._timeline.clock()):
                return
        event = await self.find(user_nid, delay_id)
        if event.finalised_ts is None or event.event_id is not None:
            raise _conflict(event)

    async def send(self, user_nid: int, delay_id: str) -> None:
        """Sends the event now; one that has been sent stays so.

        :raises NotFound: if there is no such event
        :raises MatrixError: 409 if it has been cancelled; whatever sending it raises, and it stays scheduled then
        """
        now = self._timeline.clock()
        async with self._pool.acquire() as conn:
            claimed = await rows.claim_one(conn, user_nid, delay_id, now, now + _CLAIM_MS)
        if claimed is None:
            event = await self.find(user_nid, delay_id)
            if event.finalised_ts is not None and event.event_id is None:
                raise _conflict(event)
            return
        try:
            event_id = await self._send(claimed)
        except BaseException:
            async with self._pool.acquire() as conn:
                await rows.release(conn, delay_id)
            raise
        async with self._pool.acquire() as conn:
            await rows.finalise(conn, delay_id, self._timeline.clock(), event_id=event_id)

    async def run(self) -> None:
        """Sends what becomes due, until cancelled."""
        while True:
            self._wake.clear()
            try:
                seconds = await self.send_due()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                log.warning("Delayed events wait for the database: %s", error)
                seconds = 1.0
            if seconds > 0:
                try:
                    async with asyncio.timeout(seconds):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def send_due(self) -> float:
        """Sends what is due. Returns how many seconds there is nothing to do, if nothing more is scheduled."""
        now = self._timeline.clock()
        async with self._pool.acquire() as conn:
            if now - self._cleaned > _CLEAN_EVERY_MS:
                self._cleaned = now
                await rows.forget_finalised(conn, now - _KEEP_MS, _KEEP_EACH)
            due = await rows.claim_due(conn, now, now + _CLAIM_MS, _AT_ONCE)
        by_room: dict[int, list[DelayedEvent]] = {}
        for event in due:
            by_room.setdefault(event.room_nid, []).append(event)
        # Rooms side by side, because some wait for a policy server; each of them in order.
        await asyncio.gather(*(self._send_in_order(events) for events in by_room.values()))
        if len(due) == _AT_ONCE:
            return 0.0
        self._sleeps_until = _FOREVER  # whatever is scheduled while this looks, wakes it
        async with self._pool.acquire() as conn:
            next_ts = await rows.next_due(conn)
        now = self._timeline.clock()
        wait = _LONGEST_SLEEP if next_ts is None else min(_LONGEST_SLEEP, (next_ts - now) / 1000)
        self._sleeps_until = now + int(wait * 1000)
        return wait

    async def _send_in_order(self, events: Sequence[DelayedEvent]) -> None:
        for event in events:
            event_id, error = None, None
            try:
                if event.rate_limited:
                    self._use_limit(await self._user_id(event))
                event_id = await self._send(event)
            except MatrixError as refused:
                error = encode_json(refused.body())
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                raise
            except Exception:  # a bug; the event must not be tried for ever
                log.exception("Could not send the delayed event %s", event.delay_id)
                error = encode_json(MatrixError("Internal error").body())
            async with self._pool.acquire() as conn:
                await rows.finalise(conn, event.delay_id, self._timeline.clock(), event_id=event_id, error=error)

    async def _user_id(self, event: DelayedEvent) -> str:
        return (await self._timeline.names.user_ids([event.user_nid]))[event.user_nid]

    async def _send(self, event: DelayedEvent) -> str:
        async with self._pool.acquire() as conn:
            if await rows.is_owner_gone(conn, event.user_nid):
                raise Forbidden("The account may not send events any more")
        room = (await self._timeline.names.rooms([event.room_nid]))[event.room_nid]
        sender = await self._user_id(event)
        content: JsonObject = decode_json(event.content)
        if event.type == "m.room.member" and event.state_key is not None:
            return await self._send_membership(room, sender, event.state_key, content)
        redacts = content.get("redacts") if event.type == "m.room.redaction" else None
        return await self._timeline.send_event(
            room,
            NewEvent(
                event.type,
                sender,
                content,
                state_key=event.state_key,
                redacts=redacts if isinstance(redacts, str) else None,
                origin_server_ts=event.origin_server_ts,
                transaction=ClientTransaction(event.user_nid, DELAYED_DEVICE, event.delay_id),
            ),
        )

    async def _send_membership(self, room: Room, sender: str, target: str, content: JsonObject) -> str:
        """What is done twice here changes nothing the second time."""
        await self._membership.set_membership(room, sender, target, content)
        async with self._pool.acquire() as conn:
            head = await self._timeline.head(conn, room)
            member = await head.state_event(conn, self._timeline.names, "m.room.member", target)
        return member.event_id if member is not None else ""


def _conflict(event: DelayedEvent) -> MatrixError:
    if event.finalised_ts is None:
        said = "is being sent"
    else:
        said = "has been cancelled" if event.event_id is None else "has been sent"
    return MatrixError(f"The delayed event {said}", status=409)
