"""Receipts: how far users have read, in each room, thread and kind of receipt. One row each, moved forwards."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """`thread_id` is "" for a receipt without thread; `data` is JSON: what the receipt says besides (ts)."""

    room_nid: int
    receipt_type: str
    user_id: str
    thread_id: str
    event_id: str
    data: bytes


async def receipts_between(
    conn: Connection, user_nid: int, room_nids: Collection[int], after: int, until: int, whole_rooms: Collection[int]
) -> list[ReceiptRow]:
    """Receipts in `room_nids` set after position `after`, and all in `whole_rooms`; up to `until`, and as user
    `user_nid` may know them: without the private ones of others.

    # spec: client-server-api/#private-read-receipts
    """
    rows = await conn.fetch(
        """
        SELECT p.room_nid, p.receipt_type, u.user_id, p.thread_id, p.event_id, p.data
          FROM (SELECT * FROM receipts WHERE room_nid = ANY($2) AND pos > $3 AND pos <= $4
                UNION ALL
                SELECT * FROM receipts WHERE room_nid = ANY($5) AND pos <= $4) p
          JOIN users u USING (user_nid)
         WHERE p.receipt_type <> 'm.read.private' OR p.user_nid = $1
         ORDER BY p.pos
        """,
        user_nid,
        list(room_nids),
        after,
        until,
        list(whole_rooms),
    )
    return [ReceiptRow(*row) for row in rows]


async def receipt_target(
    conn: Connection, room_nid: int, receipt_type: str, user_nid: int, thread_id: str
) -> tuple[str, int | None] | None:
    """The event that a receipt is at now, and its place (None: not in the timeline here). Locks the row."""
    row = await conn.fetchrow(
        "SELECT p.event_id, (SELECT e.ord FROM events e WHERE e.event_id = p.event_id AND e.room_nid = $1) AS ord "
        "FROM receipts p WHERE p.room_nid = $1 AND p.receipt_type = $2 AND p.user_nid = $3 AND p.thread_id = $4 "
        "FOR UPDATE",
        room_nid,
        receipt_type,
        user_nid,
        thread_id,
    )
    return None if row is None else (row["event_id"], row["ord"])


async def event_ord(conn: Connection, room_nid: int, event_id: str) -> int | None:
    """The event's place in the room's timeline; None if it has none."""
    ord: int | None = await conn.fetchval(
        "SELECT ord FROM events WHERE event_id = $1 AND room_nid = $2", event_id, room_nid
    )
    return ord


async def write_receipt(
    conn: Connection,
    room_nid: int,
    receipt_type: str,
    user_nid: int,
    thread_id: str,
    event_id: str,
    data: bytes,
    pos: int,
) -> None:
    """Moves a receipt."""
    await conn.execute(
        "INSERT INTO receipts (room_nid, receipt_type, user_nid, thread_id, event_id, data, pos) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (room_nid, receipt_type, user_nid, thread_id) "
        "DO UPDATE SET event_id = excluded.event_id, data = excluded.data, pos = excluded.pos",
        room_nid,
        receipt_type,
        user_nid,
        thread_id,
        event_id,
        data,
        pos,
    )


async def thread_of(conn: Connection, room_nid: int, event_id: str, hops: int = 3) -> str | None:
    """The root of the thread that an event is in, following at most `hops` relations; None: the main timeline.

    # spec: client-server-api/#threaded-read-receipts
    """
    for _ in range(hops):
        row = await conn.fetchrow(
            "SELECT l.relates_to, l.rel_type FROM events e JOIN event_relations l USING (event_nid) "
            "WHERE e.event_id = $1 AND e.room_nid = $2",
            event_id,
            room_nid,
        )
        if row is None:
            return None
        event_id = row["relates_to"]
        if row["rel_type"] == "m.thread":
            return event_id
    return None
