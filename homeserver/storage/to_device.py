"""Messages from device to device, kept until the client that they are for has them, and which requests made them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.storage.stream import Connection

ALL_DEVICES = "*"
MOST_KEPT = 10_000
"""Messages for one device. Of more the oldest go: what is new is what a device that comes back can still use."""

_FORGOTTEN_AT_ONCE = 100


class Addressed(NamedTuple):
    """A message (JSON as /sync shows it) for one device of a user, or for `ALL_DEVICES`."""

    user_id: str
    device_id: str
    message: bytes


class Waiting(NamedTuple):
    """A message that its device has not had. `message` is JSON."""

    pos: int
    message: bytes


async def put_messages(conn: Connection, pos: int, addressed: Sequence[Addressed]) -> set[int]:
    """Keeps at `pos` one message for each device that is named, and for no device that isn't there.

    :returns: the users who got any
    """
    rows = await conn.fetch(
        """
        INSERT INTO to_device_messages (user_nid, device_id, pos, message)
        SELECT d.user_nid, d.device_id, $1, m.message
          FROM unnest($2::text[], $3::text[], $4::bytea[]) AS m (user_id, device_id, message)
          JOIN users u ON u.user_id = m.user_id
          JOIN devices d ON d.user_nid = u.user_nid AND (m.device_id = '*' OR d.device_id = m.device_id)
         ORDER BY m.device_id = '*'  -- what is for one device alone comes first, and one is all that it gets
           FOR KEY SHARE OF d        -- a device that is being deleted is waited for, and passed over
        ON CONFLICT DO NOTHING RETURNING user_nid, device_id
        """,
        pos,
        *([one[column] for one in addressed] for column in range(3)),
    )
    await _trim(conn, [(row["user_nid"], row["device_id"]) for row in rows])
    return {row["user_nid"] for row in rows}


async def _trim(conn: Connection, devices: Sequence[tuple[int, str]]) -> None:
    await conn.execute(
        """
        DELETE FROM to_device_messages t USING (
            SELECT m.user_nid, m.device_id, m.pos FROM unnest($1::bigint[], $2::text[]) AS w (user_nid, device_id)
              JOIN to_device_messages m ON m.user_nid = w.user_nid AND m.device_id = w.device_id AND m.pos <= (
                   SELECT n.pos FROM to_device_messages n WHERE n.user_nid = w.user_nid AND n.device_id = w.device_id
                    ORDER BY n.pos DESC OFFSET $3 LIMIT 1)
               FOR UPDATE OF m SKIP LOCKED  -- somebody else is deleting those
        ) gone WHERE t.user_nid = gone.user_nid AND t.device_id = gone.device_id AND t.pos = gone.pos
        """,
        [user_nid for user_nid, _ in devices],
        [device_id for _, device_id in devices],
        MOST_KEPT,
    )


async def delete_messages(conn: Connection, user_nid: int, device_id: str, until: int) -> None:
    """Takes note that a device has had everything up to position `until`."""
    await conn.execute(
        "DELETE FROM to_device_messages WHERE user_nid = $1 AND device_id = $2 AND pos <= $3",
        user_nid,
        device_id,
        until,
    )


async def waiting_messages(
    conn: Connection, user_nid: int, device_id: str, after: int, until: int, limit: int
) -> list[Waiting]:
    """The oldest messages for a device above position `after`, up to `until`."""
    rows = await conn.fetch(
        "SELECT pos, message FROM to_device_messages "
        "WHERE user_nid = $1 AND device_id = $2 AND pos > $3 AND pos <= $4 ORDER BY pos LIMIT $5",
        user_nid,
        device_id,
        after,
        until,
        limit,
    )
    return [Waiting(*row) for row in rows]


async def is_new_request(
    conn: Connection, user_nid: int, device_id: str, type: str, txn_id: str, *, now_ms: int, kept_ms: int
) -> bool:
    """Remembers a request of a client, for `kept_ms`; whether it is the first with this transaction id.

    A repetition waits until the transaction of the first one has ended.
    """
    new = await conn.fetchval(
        "INSERT INTO to_device_transactions (user_nid, device_id, type, txn_id, created_ts) "
        "VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING true",
        user_nid,
        device_id,
        type,
        txn_id,
        now_ms,
    )
    await conn.execute(
        "DELETE FROM to_device_transactions WHERE ctid = ANY (ARRAY (SELECT ctid FROM to_device_transactions "
        "WHERE created_ts < $1 ORDER BY created_ts LIMIT $2 FOR UPDATE SKIP LOCKED))",
        now_ms - kept_ms,
        _FORGOTTEN_AT_ONCE,
    )
    return bool(new)


async def is_new_edu(conn: Connection, origin: str, message_id: str, *, now_ms: int, kept_ms: int) -> bool:
    """The same for a message of another server."""
    new = await conn.fetchval(
        "INSERT INTO received_to_device (origin, message_id, created_ts) VALUES ($1, $2, $3) "
        "ON CONFLICT DO NOTHING RETURNING true",
        origin,
        message_id,
        now_ms,
    )
    await conn.execute(
        "DELETE FROM received_to_device WHERE ctid = ANY (ARRAY (SELECT ctid FROM received_to_device "
        "WHERE created_ts < $1 ORDER BY created_ts LIMIT $2 FOR UPDATE SKIP LOCKED))",
        now_ms - kept_ms,
        _FORGOTTEN_AT_ONCE,
    )
    return bool(new)
