"""Deleting what is kept of a room, or of its older history, in batches: no transaction is long.

The row in `rooms` stays, without head or state: its number may be remembered anywhere, and the room be joined again.
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.storage.destinations import FEDERATION_READER
from homeserver.storage.stream import Connection

_BATCH = 2_000  # events

# What is deleted by room, before its events are. A test holds this against the schema.
ROOM_TABLES = (
    "account_data",
    "delayed_events",
    "destination_rooms",
    "missing_prev_events",
    "network_rooms",
    "notified_threads",
    "push_queue",
    "quiet_spans",
    "read_marks",
    "receipts",
    "room_aliases",
    "room_members",
    "room_notifications",
    "room_plain_keys",
    "room_state",
    "room_summaries",
    "sliding_rooms",
    "thread_subscriptions",
    "user_notifications",
)
# What is deleted with each event.
EVENT_TABLES = ("event_relations", "event_search", "event_transactions", "redactions", "handed_over_events")


async def empty_room(conn: Connection, room_nid: int) -> None:
    """Deletes all that is kept of a room but its events, and takes its head away. Inside a transaction."""
    await conn.execute(
        "UPDATE rooms SET head_version = head_version + 1, extremities = '{}', depth = 0, snapshot_nid = NULL "
        "WHERE room_nid = $1",
        room_nid,
    )
    for table in ROOM_TABLES:
        await conn.execute(f"DELETE FROM {table} WHERE room_nid = $1", room_nid)  # noqa: S608 - names from above


async def delete_some_events(conn: Connection, room_nid: int) -> int:
    """Deletes some events of a room with what hangs on them. Inside a transaction. Returns how many."""
    rows = await conn.fetch(
        "SELECT event_nid, snapshot_nid FROM events WHERE room_nid = $1 ORDER BY depth LIMIT $2", room_nid, _BATCH
    )
    await _delete_events(conn, [row["event_nid"] for row in rows])
    await _delete_snapshots(conn, list({row["snapshot_nid"] for row in rows if row["snapshot_nid"] is not None}))
    return len(rows)


async def _delete_events(conn: Connection, nids: Sequence[int]) -> None:
    for table in EVENT_TABLES:
        await conn.execute(f"DELETE FROM {table} WHERE event_nid = ANY($1)", nids)  # noqa: S608 - names from above
    await conn.execute("DELETE FROM events WHERE event_nid = ANY($1)", nids)


async def _delete_snapshots(conn: Connection, nids: Sequence[int]) -> None:
    await conn.execute(
        """
        WITH RECURSIVE chain (nid) AS (
            SELECT unnest($1::bigint[])
            UNION
            SELECT s.base_nid FROM chain JOIN state_snapshots s ON s.snapshot_nid = chain.nid
             WHERE s.base_nid IS NOT NULL
        )
        DELETE FROM state_snapshots WHERE snapshot_nid IN (SELECT nid FROM chain)
        """,
        nids,
    )


async def place_before(conn: Connection, room_nid: int, ts: int) -> int | None:
    """The place of the last event of a room that is older than a moment (ms)."""
    found: int | None = await conn.fetchval(
        "SELECT ord FROM events WHERE room_nid = $1 AND origin_server_ts < $2 AND ord IS NOT NULL "
        "ORDER BY origin_server_ts DESC LIMIT 1",
        room_nid,
        ts,
    )
    return found


async def delete_some_history(
    conn: Connection, room_nid: int, server: str, *, after: int, below: int, delete_own: bool
) -> tuple[int, int | None]:
    """Deletes messages in the stretch of the timeline that begins after a place. Inside a transaction.

    State stays, and so does what nothing follows yet: the room lives on from there.

    :param below: nothing from that place on is deleted
    :param delete_own: what users of `server`, this one, sent too; nobody else may have it
    :returns: how many were deleted, and where the next stretch begins; None: there is no more
    """
    rows = await conn.fetch(
        "SELECT e.event_nid, e.ord, e.state_key_nid IS NULL AND NOT e.event_nid = ANY(r.extremities) "
        "AND ($5 OR u.server <> $4) AS goes FROM events e JOIN rooms r USING (room_nid) "
        "JOIN users u ON u.user_nid = e.sender_nid "
        "WHERE e.room_nid = $1 AND e.ord > $2 AND e.ord < $3 ORDER BY e.ord LIMIT $6",
        room_nid,
        after,
        below,
        server,
        delete_own,
        _BATCH,
    )
    gone = [row["event_nid"] for row in rows if row["goes"]]
    await _delete_events(conn, gone)
    return len(gone), rows[-1]["ord"] if len(rows) == _BATCH else None


async def is_owed(conn: Connection, room_nid: int, own_server: str) -> bool:
    """Whether servers that can be reached have still to be sent something of the room, or it is not noted yet which."""
    owed: bool = await conn.fetchval(
        """
        SELECT EXISTS (SELECT FROM destination_rooms o LEFT JOIN destinations d USING (destination)
                        WHERE o.room_nid = $1 AND d.failing_since_ts IS NULL)
            OR (EXISTS (SELECT FROM room_members m JOIN users u USING (user_nid)
                         WHERE m.room_nid = $1 AND m.membership = 'join' AND u.server <> $2)
                AND EXISTS (SELECT FROM events e JOIN users u ON u.user_nid = e.sender_nid
                             WHERE e.room_nid = $1 AND e.live AND u.server = $2 AND e.event_nid >
                                   coalesce((SELECT pos FROM stream_readers WHERE reader = $3), 0)))
        """,
        room_nid,
        own_server,
        FEDERATION_READER,
    )
    return owed
