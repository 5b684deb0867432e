"""Events of our own users: made to follow the head of their room, checked, and appended.

All sends that wait for one room go into one transaction: while a batch commits, the next gathers. Each is still judged
alone, in order; one that the rules refuse fails by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

import asyncpg

from homeserver.protocol.auth_rules import auth_event_keys, check_auth
from homeserver.protocol.errors import BadJson, InvalidEvent, MatrixError, NotFound, TooLarge
from homeserver.protocol.event_builder import build_event, build_template
from homeserver.protocol.events import MAX_PREV_EVENTS, Event, EventTooLarge, JsonObject, StateKey
from homeserver.protocol.hashing import encode_base64, reference_hash
from homeserver.protocol.room_versions import EventIdFormat, RoomVersion
from homeserver.protocol.signing import SigningKey
from homeserver.rooms.append import RoomAppend
from homeserver.rooms.head import RoomHead, StateEntry
from homeserver.rooms.notifications import Notifications
from homeserver.rooms.relations import check_relation
from homeserver.storage.events import events_by_id
from homeserver.storage.names import BoundedCache, Names, Room
from homeserver.storage.room_heads import create_room_row, read_head
from homeserver.storage.state_snapshots import StateSnapshots
from homeserver.storage.stream import Connection, Stream, Write
from homeserver.storage.transactions import ClientTransaction, event_of_transaction

_LARGEST_BATCH = 64


def now_ms() -> int:
    return int(time.time() * 1000)


@dataclass(slots=True)
class NewEvent:
    """What one of our users wants to say, before it has a place in the room."""

    type: str
    sender: str
    content: JsonObject
    state_key: str | None = None
    redacts: str | None = None
    origin_server_ts: int | None = None
    transaction: ClientTransaction | None = None

    @property
    def key(self) -> StateKey | None:
        return None if self.state_key is None else (self.type, self.state_key)


@dataclass(slots=True)
class _Waiting:
    new: NewEvent
    sent: asyncio.Future[str]


class _Arguments(TypedDict):
    """What `build_event` and `build_template` both take."""

    room_version: RoomVersion
    room_id: str
    type: str
    sender: str
    content: JsonObject
    state_key: str | None
    prev_events: list[str]
    auth_events: list[str]
    depth: int
    origin_server_ts: int
    redacts: str | None
    reference_hashes: dict[str, str]


class _NeedsPolicyServer(Exception):
    """The room's policy server must sign the event, which can't be waited for under the room's lock."""


UsesPolicyServer = Callable[[Connection, RoomHead, NewEvent], Awaitable[bool]]
SendSigned = Callable[[Room, NewEvent], Awaitable[str]]


class Timeline:
    """The rooms of this server as places to write to."""

    def __init__(
        self,
        *,
        stream: Stream,
        names: Names,
        snapshots: StateSnapshots,
        server_name: str,
        signing_key: SigningKey,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self.stream = stream
        self.names = names
        self.snapshots = snapshots
        self.server_name = server_name
        self.signing_key = signing_key
        self.notifications = Notifications(server_name)
        self.clock = clock
        self._heads: BoundedCache[int, RoomHead] = BoundedCache(10_000)
        self._waiting: dict[int, deque[_Waiting]] = {}
        self._senders: set[asyncio.Task[None]] = set()
        self._created_ts = 0
        self._uses_policy_server: UsesPolicyServer | None = None
        self._send_signed: SendSigned | None = None
        self._guests_shut_out: Callable[[Room], None] | None = None

    def use_policy_servers(self, uses: UsesPolicyServer, send: SendSigned) -> None:
        """From now on events for rooms with a policy server are sent by `send` (see rooms.policy_server)."""
        self._uses_policy_server, self._send_signed = uses, send

    def on_guests_shut_out(self, listener: Callable[[Room], None]) -> None:
        """Calls `listener` after whether guests may join a room has changed (see rooms.guest_access)."""
        self._guests_shut_out = listener

    async def room(self, room_id: str) -> Room:
        """The room of that id.

        :raises NotFound: if this server doesn't know it
        """
        room = await self.names.room(room_id)
        if room is None:
            raise NotFound("This server does not know that room")
        return room

    async def head(self, conn: Connection, room: Room) -> RoomHead:
        """The room's head as it is now, to read from; it may have moved on by the time it is used."""
        row = await read_head(conn, room.nid)
        known = self._heads.get(room.nid)
        if known is not None and known.version == row.version:
            return known
        head = RoomHead(room, row.version, row.extremities, row.depth, row.snapshot_nid)
        self._heads.set(room.nid, head)
        return head

    @asynccontextmanager
    async def locked(self, room: Room, count: int) -> AsyncIterator[RoomAppend]:
        """A transaction that holds the room's lock and has `count` positions to append at. It is flushed at the end."""
        async with self.stream.write() as write, self.appending(write, room, count) as append:
            yield append

    @asynccontextmanager
    async def appending(self, write: Write, room: Room, count: int) -> AsyncIterator[RoomAppend]:
        """The same, inside a transaction that does more."""
        known = self._heads.get(room.nid)
        # Until the commit is known to have happened, what the append does to the head is nobody else's to see.
        self._heads.discard(room.nid)
        append = await RoomAppend.locked(write, room, count, known, self.names, self.snapshots, self.notifications)
        yield append
        await append.flush()
        write.after_commit(lambda: self._heads.set(room.nid, append.head))
        if append.guest_access and self._guests_shut_out is not None:
            write.after_commit(partial(self._guests_shut_out, room))

    async def send_event(self, room: Room, new: NewEvent) -> str:
        """Sends an event into a room; its event id. Repeating a transaction gives the id of the event it made before,
        and setting state to what it is gives the id of the event that set it.

        :raises AuthRuleError: if the rules refuse it
        :raises BadJson, TooLarge: if the event is malformed or over the size limits
        """
        waiting = _Waiting(new, asyncio.get_running_loop().create_future())
        queue = self._waiting.get(room.nid)
        if queue is not None:
            queue.append(waiting)
        else:
            self._waiting[room.nid] = deque([waiting])
            task = asyncio.create_task(self._send_waiting(room))
            self._senders.add(task)
            task.add_done_callback(self._senders.discard)
        try:
            # A client that hangs up cancels this future, but does not undo what is already under way.
            return await waiting.sent
        except _NeedsPolicyServer:
            assert self._send_signed is not None
            return await self._send_signed(room, new)

    async def _send_waiting(self, room: Room) -> None:
        queue = self._waiting[room.nid]
        while queue:
            batch = [queue.popleft() for _ in range(min(len(queue), _LARGEST_BATCH))]
            try:
                await self._send_batch(room, batch)
            except asyncpg.UniqueViolationError:
                # A transaction id that was used before. Alone, each can be told which event it made.
                for waiting in batch:
                    try:
                        await self._send_batch(room, [waiting], look_up=True)
                    except Exception as error:  # whatever it is, the sender is told
                        _fail([waiting], error)
            except Exception as error:  # as above: the database may be gone, this loop must not be
                _fail(batch, error)
        del self._waiting[room.nid]

    async def _send_batch(self, room: Room, batch: Sequence[_Waiting], *, look_up: bool = False) -> None:
        sent: list[tuple[_Waiting, str]] = []
        in_batch: dict[ClientTransaction, str] = {}
        async with self.locked(room, len(batch)) as append:
            for waiting in batch:
                transaction = waiting.new.transaction
                try:
                    event_id = in_batch.get(transaction) if transaction is not None else None
                    if event_id is None and look_up and transaction is not None:
                        event_id = await event_of_transaction(append.write.conn, room.nid, transaction)
                    if event_id is None:
                        if self._uses_policy_server is not None and await self._uses_policy_server(
                            append.write.conn, append.head, waiting.new
                        ):
                            raise _NeedsPolicyServer
                        event_id = await self.append_new(append, waiting.new)
                except NotFound:
                    raise
                except (MatrixError, _NeedsPolicyServer) as error:  # refused: the others are not concerned
                    _fail([waiting], error)
                    continue
                if transaction is not None:
                    in_batch[transaction] = event_id
                sent.append((waiting, event_id))
        for waiting, event_id in sent:
            if not waiting.sent.done():
                waiting.sent.set_result(event_id)

    async def append_new(self, append: RoomAppend, new: NewEvent) -> str:
        """Makes, checks and appends an event under a lock that is held; its event id.

        :raises AuthRuleError, BadJson, TooLarge: as `send_event`
        """
        conn, head = append.write.conn, append.head
        known = await self.unchanged_state(conn, head, new)
        if known is not None:
            return known
        event = await self.build(conn, head, new)
        await check_relation(conn, self.names, head.room, new, append.rows.events)
        await append.append_to_head(event, new.transaction)
        return event.event_id

    async def unchanged_state(self, conn: Connection, head: RoomHead, new: NewEvent) -> str | None:
        """The id of the event that has set the state to just what `new` wants, if it is that."""
        if new.key is None:
            return None
        current = (await head.state(conn, self.names, [new.key])).get(new.key)
        if current and current.event.content == new.content and current.event.sender == new.sender:
            return current.event.event_id
        return None

    async def build(self, conn: Connection, head: RoomHead, new: NewEvent) -> Event:
        """The event that `new` is at this head: authorized, hashed and signed, but not appended.

        :raises AuthRuleError, BadJson, TooLarge: as `send_event`
        """
        auth = await self._auth_events(conn, head, new)
        arguments = await self._arguments(conn, head, new, auth)
        try:
            event = build_event(**arguments, server_name=self.server_name, signing_key=self.signing_key)
        except EventTooLarge as error:
            raise TooLarge(str(error)) from None
        except InvalidEvent as error:
            raise BadJson(str(error)) from None
        await self.check(conn, head, event, auth)
        return event

    async def template(self, conn: Connection, head: RoomHead, new: NewEvent) -> JsonObject:
        """The event that another server's user may make of this head, for that server to sign.

        :raises AuthRuleError: if the rules refuse it
        """
        auth = await self._auth_events(conn, head, new)
        template = build_template(**await self._arguments(conn, head, new, auth))
        unsigned = template | {"hashes": {}, "signatures": {}}
        await self.check(conn, head, Event(unsigned, head.room.version, "$template"), auth)
        return template

    async def check(
        self, conn: Connection, head: RoomHead, event: Event, auth: dict[StateKey, StateEntry] | None = None
    ) -> None:
        """Checks an event against the current state.

        :raises AuthRuleError: if the rules refuse it
        """
        if event.type == "m.room.create":
            check_auth(event, {}, create=event)
            return
        if auth is None:
            auth = await self._auth_events(conn, head, event)
        create = await head.state_event(conn, self.names, "m.room.create")
        if create is None:
            raise NotFound("This server is not in that room")
        levels = await head.power_levels(conn, self.names)
        check_auth(event, {key: entry.event for key, entry in auth.items()}, create=create, power_levels=levels)

    async def _auth_events(self, conn: Connection, head: RoomHead, new: NewEvent | Event) -> dict[StateKey, StateEntry]:
        keys = auth_event_keys(
            head.room.version, type=new.type, sender=new.sender, state_key=new.state_key, content=new.content
        )
        return await head.state(conn, self.names, keys)

    async def _arguments(
        self, conn: Connection, head: RoomHead, new: NewEvent, auth: dict[StateKey, StateEntry]
    ) -> _Arguments:
        prev_events = list(head.extremities.values())[-MAX_PREV_EVENTS:]
        auth_events = [entry.event.event_id for entry in auth.values()]
        return {
            "room_version": head.room.version,
            "room_id": head.room.room_id,
            "type": new.type,
            "sender": new.sender,
            "content": new.content,
            "state_key": new.state_key,
            "prev_events": prev_events,
            "auth_events": auth_events,
            "depth": head.depth + 1,
            "origin_server_ts": self.clock() if new.origin_server_ts is None else new.origin_server_ts,
            "redacts": new.redacts,
            "reference_hashes": await _reference_hashes(conn, head.room.version, [*prev_events, *auth_events]),
        }

    async def create_room(
        self, version: RoomVersion, create: NewEvent, room_id: str | None, *, published: bool, write: Write
    ) -> Room:
        """Makes a room with its create event, inside a transaction that then sends the rest (`appending`).

        :param room_id: its id, in room versions that choose one
        """
        try:
            event = build_event(
                room_version=version,
                room_id=room_id,
                type="m.room.create",
                sender=create.sender,
                content=create.content,
                state_key="",
                prev_events=[],
                auth_events=[],
                depth=1,
                origin_server_ts=self._creation_ts(),
                server_name=self.server_name,
                signing_key=self.signing_key,
            )
        except InvalidEvent as error:
            raise BadJson(str(error)) from None
        check_auth(event, {}, create=event)
        nid = await create_room_row(
            write.conn, event.room_id, version.identifier, event.origin_server_ts, published=published
        )
        room = Room(nid, event.room_id, version)
        append = await RoomAppend.locked(write, room, 1, None, self.names, self.snapshots, self.notifications)
        await append.append_to_head(event)
        await append.flush()
        return room

    def _creation_ts(self) -> int:
        # A room may be named by the hash of its create event: two that are alike must not be of one moment.
        self._created_ts = max(self.clock(), self._created_ts + 1)
        return self._created_ts

    async def close(self) -> None:
        """Waits for the sends under way."""
        await asyncio.gather(*self._senders, return_exceptions=True)


async def _reference_hashes(conn: Connection, version: RoomVersion, event_ids: Sequence[str]) -> dict[str, str]:
    # Only room versions 1 and 2 cite events with their hashes.
    if version.event_id_format is not EventIdFormat.CHOSEN:
        return {}
    cited = await events_by_id(conn, event_ids)
    return {id: encode_base64(reference_hash(stored.event.json, version)) for id, stored in cited.items()}


def _fail(waiting: Sequence[_Waiting], error: BaseException) -> None:
    for each in waiting:
        if not each.sent.done():
            each.sent.set_exception(error)
