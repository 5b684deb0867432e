"""Transaction ids of clients: which event a device's request made, so that repeating it makes no second one."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from zlib import crc32

from homeserver.storage.stream import Connection

DELAYED_DEVICE = "org.matrix.msc4140.delayed_event"
"""What stands for the device where an event was sent later, with its delay_id as the transaction id."""


@dataclass(frozen=True, slots=True)
class ClientTransaction:
    """A device's transaction id for one room. `endpoint` is what else the path says: whether something is sent or
    redacted, and of what type or which event that is.

    # spec: client-server-api/#transaction-identifiers
    """

    user_nid: int
    device_id: str
    txn_id: str
    endpoint: str = ""

    @property
    def endpoint_hash(self) -> int:
        """A number to tell endpoints apart, in four bytes: nobody but the device itself could make two alike."""
        return crc32(self.endpoint.encode()) - 2**31


async def insert_transactions(
    conn: Connection, room_nid: int, transactions: Sequence[tuple[ClientTransaction, int]]
) -> None:
    """Remembers which events these made.

    :raises asyncpg.UniqueViolationError: if one was used before
    """
    await conn.execute(
        "INSERT INTO event_transactions (user_nid, device_id, room_nid, endpoint, txn_id, event_nid, created_ts) "
        "SELECT t.user_nid, t.device, $1, t.endpoint, t.txn, t.event, $2 FROM unnest($3::bigint[], $4::text[], "
        "$5::integer[], $6::text[], $7::bigint[]) AS t (user_nid, device, endpoint, txn, event)",
        room_nid,
        int(time.time() * 1000),
        [transaction.user_nid for transaction, _ in transactions],
        [transaction.device_id for transaction, _ in transactions],
        [transaction.endpoint_hash for transaction, _ in transactions],
        [transaction.txn_id for transaction, _ in transactions],
        [event_nid for _, event_nid in transactions],
    )


async def event_of_transaction(conn: Connection, room_nid: int, transaction: ClientTransaction) -> str | None:
    """The id of the event that this transaction made in the room before, if it did."""
    event_id: str | None = await conn.fetchval(
        "SELECT e.event_id FROM event_transactions t JOIN events e USING (event_nid) "
        "WHERE t.user_nid = $1 AND t.device_id = $2 AND t.room_nid = $3 AND t.endpoint = $4 AND t.txn_id = $5",
        transaction.user_nid,
        transaction.device_id,
        room_nid,
        transaction.endpoint_hash,
        transaction.txn_id,
    )
    return event_id


async def own_transactions(
    conn: Connection, user_nid: int, device_id: str | None, event_nids: Collection[int]
) -> tuple[dict[int, str], dict[int, str]]:
    """For those of the user's events: event_nid -> txn_id if this device sent it, and event_nid -> delay_id."""
    rows = await conn.fetch(
        "SELECT event_nid, device_id, txn_id FROM event_transactions "
        "WHERE event_nid = ANY($1) AND user_nid = $2 AND device_id = ANY($3)",
        list(event_nids),
        user_nid,
        [DELAYED_DEVICE] if device_id is None else [device_id, DELAYED_DEVICE],
    )
    sent = {row["event_nid"]: row["txn_id"] for row in rows if row["device_id"] == device_id}
    delayed = {row["event_nid"]: row["txn_id"] for row in rows if row["device_id"] == DELAYED_DEVICE}
    return sent, delayed
