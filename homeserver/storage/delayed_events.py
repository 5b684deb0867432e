"""Events that are to be sent later, and what became of them.

Whoever sends one claims it for a moment first. The claim only keeps others from trying at the same time: that an event
is sent once is ensured by the transaction id it is sent with, which is its delay_id.
"""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class DelayedEvent:
    """`content` and `error` are JSON objects; times are in milliseconds since 1970. Finalised are those that were sent
    (`event_id`), could not be sent (`error`) or were cancelled (neither). `txn_id` is that of the request, after what
    else its path says."""

    delay_id: str
    user_nid: int
    device_id: str
    room_nid: int
    txn_id: str | None
    type: str
    state_key: str | None
    content: bytes
    origin_server_ts: int | None
    rate_limited: bool
    delay_ms: int
    scheduled_ts: int
    send_ts: int
    claimed_until: int = 0
    event_id: str | None = None
    error: bytes | None = None
    finalised_ts: int | None = None


_COLUMNS = ", ".join(DelayedEvent.__slots__)


def _delayed(row: asyncpg.Record | None) -> DelayedEvent | None:
    return None if row is None else DelayedEvent(*row.values())


async def insert_delayed(conn: Connection, event: DelayedEvent) -> str:
    """Enters it. Returns its delay_id, or that of the one which the same transaction of the client made before."""
    values = [getattr(event, name) for name in DelayedEvent.__slots__]
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    made: str | None = await conn.fetchval(
        f"INSERT INTO delayed_events ({_COLUMNS}) VALUES ({places}) "  # noqa: S608
        "ON CONFLICT (user_nid, device_id, room_nid, txn_id) DO NOTHING RETURNING delay_id",
        *values,
    )
    if made is None:
        made = await find_by_transaction(conn, event.user_nid, event.device_id, event.room_nid, event.txn_id or "")
    assert made is not None
    return made


async def find_by_transaction(
    conn: Connection, user_nid: int, device_id: str, room_nid: int, txn_id: str
) -> str | None:
    """The delay_id that this transaction of the client got."""
    found: str | None = await conn.fetchval(
        "SELECT delay_id FROM delayed_events WHERE user_nid = $1 AND device_id = $2 AND room_nid = $3 AND txn_id = $4",
        user_nid,
        device_id,
        room_nid,
        txn_id,
    )
    return found


async def count_scheduled(conn: Connection, user_nid: int) -> tuple[int, int | None]:
    """How many the user has scheduled, and when the next of them is sent."""
    row = await conn.fetchrow(
        "SELECT count(*) AS number, min(send_ts) AS next FROM delayed_events "
        "WHERE user_nid = $1 AND finalised_ts IS NULL",
        user_nid,
    )
    assert row is not None
    return row["number"], row["next"]


async def find_delayed(conn: Connection, user_nid: int, delay_id: str) -> DelayedEvent | None:
    """That one, if it is the user's."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM delayed_events WHERE delay_id = $1 AND user_nid = $2",  # noqa: S608
        delay_id,
        user_nid,
    )
    return _delayed(row)


async def list_scheduled(conn: Connection, user_nid: int, after: tuple[int, str], limit: int) -> list[DelayedEvent]:
    """Those of the user that are still to be sent, in the order of (send_ts, delay_id), above `after`."""
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM delayed_events WHERE user_nid = $1 AND finalised_ts IS NULL "  # noqa: S608
        "AND (send_ts, delay_id) > ($2, $3) ORDER BY send_ts, delay_id LIMIT $4",
        user_nid,
        *after,
        limit,
    )
    return [DelayedEvent(*row.values()) for row in rows]


async def claim_due(conn: Connection, now: int, until: int, limit: int) -> list[DelayedEvent]:
    """Claims those that are due, in the order in which they are."""
    rows = await conn.fetch(
        f"UPDATE delayed_events SET claimed_until = $2 WHERE delay_id IN ("  # noqa: S608
        "SELECT delay_id FROM delayed_events WHERE finalised_ts IS NULL AND send_ts <= $1 AND claimed_until <= $1 "
        f"ORDER BY send_ts LIMIT $3 FOR UPDATE SKIP LOCKED) RETURNING {_COLUMNS}",
        now,
        until,
        limit,
    )
    return sorted((DelayedEvent(*row.values()) for row in rows), key=lambda event: event.send_ts)


async def claim_one(conn: Connection, user_nid: int, delay_id: str, now: int, until: int) -> DelayedEvent | None:
    """Claims that one, if it is the user's, still to be sent and not claimed."""
    row = await conn.fetchrow(
        "UPDATE delayed_events SET claimed_until = $4 WHERE delay_id = $1 AND user_nid = $2 "  # noqa: S608
        f"AND finalised_ts IS NULL AND claimed_until <= $3 RETURNING {_COLUMNS}",
        delay_id,
        user_nid,
        now,
        until,
    )
    return _delayed(row)


async def release(conn: Connection, delay_id: str) -> None:
    """Gives a claim up."""
    await conn.execute("UPDATE delayed_events SET claimed_until = 0 WHERE delay_id = $1", delay_id)


async def restart(conn: Connection, user_nid: int, delay_id: str, now: int) -> bool:
    """Lets the delay begin anew, if the event is still to be sent and not being sent. Whether it was."""
    done = await conn.fetchval(
        "UPDATE delayed_events SET scheduled_ts = $3, send_ts = $3 + delay_ms WHERE delay_id = $1 AND user_nid = $2 "
        "AND finalised_ts IS NULL AND claimed_until <= $3 RETURNING true",
        delay_id,
        user_nid,
        now,
    )
    return bool(done)


async def cancel(conn: Connection, user_nid: int, delay_id: str, now: int) -> bool:
    """Ends it unsent, if it is still to be sent and not being sent. Whether it was."""
    done = await conn.fetchval(
        "UPDATE delayed_events SET finalised_ts = $3 WHERE delay_id = $1 AND user_nid = $2 "
        "AND finalised_ts IS NULL AND claimed_until <= $3 RETURNING true",
        delay_id,
        user_nid,
        now,
    )
    return bool(done)


async def finalise(
    conn: Connection, delay_id: str, now: int, *, event_id: str | None = None, error: bytes | None = None
) -> None:
    """Notes what became of it."""
    await conn.execute(
        "UPDATE delayed_events SET finalised_ts = $2, event_id = $3, error = $4 "
        "WHERE delay_id = $1 AND finalised_ts IS NULL",
        delay_id,
        now,
        event_id,
        error,
    )


async def next_due(conn: Connection) -> int | None:
    """When there is one to send next: its time, or the end of its claim."""
    found: int | None = await conn.fetchval(
        "SELECT min(at) FROM (SELECT greatest(send_ts, claimed_until) AS at FROM delayed_events "
        "WHERE finalised_ts IS NULL ORDER BY send_ts LIMIT 200) first"
    )
    return found


async def forget_finalised(conn: Connection, before: int, keep: int) -> None:
    """Forgets those that ended before `before`, and of each user all but the last `keep`."""
    await conn.execute("DELETE FROM delayed_events WHERE finalised_ts < $1", before)
    await conn.execute(
        "DELETE FROM delayed_events WHERE delay_id IN (SELECT delay_id FROM (SELECT delay_id, "
        "row_number() OVER (PARTITION BY user_nid ORDER BY finalised_ts DESC) AS place FROM delayed_events "
        "WHERE finalised_ts IS NOT NULL) ended WHERE place > $1)",
        keep,
    )


async def is_owner_gone(conn: Connection, user_nid: int) -> bool:
    """Whether that user may not send any more: deactivated, locked, suspended or shadow-banned."""
    gone: bool | None = await conn.fetchval(
        "SELECT deactivated OR locked OR suspended OR shadow_banned FROM accounts WHERE user_nid = $1", user_nid
    )
    return gone is not False
