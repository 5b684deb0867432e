"""How far users have read: receipts and the fully-read marker, which move forwards only.

# spec: client-server-api/#receipts  client-server-api/#fully-read-markers
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import orjson

from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.errors import InvalidParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.rooms.visibility import sights
from homeserver.storage.account_data import find_account_data, put_account_data
from homeserver.storage.events import Status, StoredEvent, event_by_id
from homeserver.storage.names import Names, Room
from homeserver.storage.receipts import event_ord, receipt_target, thread_of, write_receipt
from homeserver.storage.stream import Connection, Stream

READ = "m.read"
READ_PRIVATE = "m.read.private"
FULLY_READ = "m.fully_read"
MAIN_THREAD = "main"


@dataclass(frozen=True, slots=True)
class Receipt:
    """One user's receipt at one event. `thread_id` is None for one that is about all threads."""

    room: Room
    receipt_type: str
    user_id: str
    event_id: str
    thread_id: str | None
    ts: int

    def data(self) -> JsonObject:
        """What receipts say beside user and event, as in m.receipt."""
        return {"ts": self.ts} if self.thread_id is None else {"ts": self.ts, "thread_id": self.thread_id}


OnLocalReceipt = Callable[[Receipt], None]


class Receipts:
    """The receipts of all rooms, and who is told of those that our users set."""

    def __init__(self, stream: Stream, names: Names) -> None:
        self._stream = stream
        self._names = names
        self._listeners: list[OnLocalReceipt] = []

    def on_local_receipt(self, listener: OnLocalReceipt) -> None:
        """Calls `listener` after a user of this server has moved a receipt that others may know of (m.read)."""
        self._listeners.append(listener)

    async def set_local(self, receipt: Receipt) -> None:
        """Moves the receipt of one of our users, unless it is further already.

        :raises NotFound: if the event is not in the room's timeline here, or not for the user to see
        :raises InvalidParam: if it is not in the thread
        # spec: client-server-api/#post_matrixclientv3roomsroomidreceiptreceipttypeeventid
        """
        async with self._stream.pool.acquire() as conn:
            await self._check_target(conn, receipt)
        if await set_receipt(self._stream, self._names, receipt) and receipt.receipt_type == READ:
            for listener in self._listeners:
                listener(receipt)

    async def set_remote(self, receipt: Receipt) -> None:
        """Moves the receipt of another server's user, as an EDU of that server says.

        # spec: server-server-api/#receipts
        """
        if receipt.receipt_type == READ:
            await set_receipt(self._stream, self._names, receipt)

    async def set_fully_read(self, room: Room, user_nid: int, event_id: str) -> None:
        """Moves the user's fully-read marker, unless it is further already.

        :raises NotFound: if the event is not in the room's timeline here, or not for the user to see
        # spec: client-server-api/#post_matrixclientv3roomsroomidread_markers
        """
        async with self._stream.write() as write:
            user_id = (await self._names.user_ids([user_nid]))[user_nid]
            event = await self._target(write.conn, room, user_id, event_id)
            content = await find_account_data(write.conn, user_nid, FULLY_READ, room_nid=room.nid)
            current = orjson.loads(content).get("event_id") if content is not None else None
            if isinstance(current, str) and not _is_further(event.ord, await event_ord(write.conn, room.nid, current)):
                return
            await put_account_data(
                write.conn,
                user_nid,
                FULLY_READ,
                encode_json({"event_id": event_id}),
                await write.next_position(),
                room_nid=room.nid,
            )
            write.changed(users=[user_nid])

    async def _target(self, conn: Connection, room: Room, user_id: str, event_id: str) -> StoredEvent:
        event = await event_by_id(conn, event_id, room.nid)
        if event is not None and event.status is Status.ACCEPTED and event.ord is not None:
            # What is not for them to see must look as if it weren't there; and others would be told of the receipt.
            sight = (await sights(conn, self._names, user_id, [room.nid]))[room.nid]
            if sight.sees(event.ord):
                return event
        raise NotFound("There is no such event in that room")

    async def _check_target(self, conn: Connection, receipt: Receipt) -> None:
        event = await self._target(conn, receipt.room, receipt.user_id, receipt.event_id)
        # A redacted event no longer says which thread it was in. The root of a thread may be cited in either.
        if receipt.thread_id is None or event.redacted_by is not None or receipt.thread_id == receipt.event_id:
            return
        thread_id = await thread_of(conn, receipt.room.nid, receipt.event_id) or MAIN_THREAD
        if thread_id != receipt.thread_id:
            raise InvalidParam("The event is not in that thread")


async def set_receipt(stream: Stream, names: Names, receipt: Receipt) -> bool:
    """Moves a receipt forwards; whether it moved.

    Of a receipt at an event that is not in the timeline here (yet) nothing is known but that it is the newest.
    """
    room, thread_id = receipt.room, receipt.thread_id or ""
    data = encode_json({"ts": receipt.ts})
    user_nid = await names.user_nid(receipt.user_id)
    async with stream.write() as write:
        current = await receipt_target(write.conn, room.nid, receipt.receipt_type, user_nid, thread_id)
        if current is not None:
            event_id, ord = current
            if event_id == receipt.event_id or not _is_further(
                await event_ord(write.conn, room.nid, receipt.event_id), ord
            ):
                return False
        pos = await write.next_position()
        await write_receipt(
            write.conn, room.nid, receipt.receipt_type, user_nid, thread_id, receipt.event_id, data, pos
        )
        # A private one is of interest to its own user alone.
        if receipt.receipt_type == READ_PRIVATE:
            write.changed(users=[user_nid])
        else:
            write.changed(rooms=[room.nid], users=[user_nid])
    return True


def _is_further(ord: int | None, than: int | None) -> bool:
    return ord is None or than is None or ord > than
