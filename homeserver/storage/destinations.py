"""What other servers have still to be sent, and how sending to them goes.

A destination owes its events to the events table: a row here says only which stretch of a room it has not had yet.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from homeserver.storage.events import COLUMNS, FROM, ORD_SHIFT, StoredEvent, stored_event
from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class OutgoingEvent:
    """An event that goes out. `handed_over` is the server it was exchanged with outside of transactions, if it was."""

    stored: StoredEvent
    handed_over: str | None

    @property
    def pos(self) -> int:
        return self.stored.nid


@dataclass(frozen=True, slots=True)
class PendingRoom:
    """Events of a room from `first_pos` to `last_pos` that a destination has not had."""

    room_nid: int
    first_pos: int
    last_pos: int


@dataclass(frozen=True, slots=True)
class Backoff:
    """How a destination fails: since when, until when it is left alone, and for how long (ms); 0 and None if not."""

    failing_since_ts: int | None = None
    retry_at_ts: int = 0
    retry_interval_ms: int = 0


FEDERATION_READER = "federation"
"""The reader of the stream that notes for each destination what it lacks. Its position moves with those notes."""

# What goes out: events made here, at the position that is their number; and those that others handed over.
_OUTGOING = (
    f"SELECT {COLUMNS}, h.server AS handed_over FROM {FROM} JOIN users u ON u.user_nid = e.sender_nid "  # noqa: S608
    "LEFT JOIN handed_over_events h ON h.event_nid = e.event_nid "
    f"WHERE e.live AND e.ord >> {ORD_SHIFT} = e.event_nid AND (u.server = $1 OR h.server IS NOT NULL) "
)


async def reader_position(conn: Connection, reader: str) -> int:
    """How far this background reader of the stream has come."""
    pos: int | None = await conn.fetchval("SELECT pos FROM stream_readers WHERE reader = $1", reader)
    return pos or 0


async def move_reader(conn: Connection, reader: str, pos: int) -> None:
    """Takes note that this reader has dealt with everything up to `pos`."""
    await conn.execute(
        "INSERT INTO stream_readers (reader, pos) VALUES ($1, $2) "
        "ON CONFLICT (reader) DO UPDATE SET pos = greatest(stream_readers.pos, excluded.pos)",
        reader,
        pos,
    )


async def outgoing_events(conn: Connection, own_server: str, after: int, until: int, limit: int) -> list[OutgoingEvent]:
    """Events that go out, above position `after`, up to and with `until`, in order."""
    rows = await conn.fetch(
        _OUTGOING + "AND e.event_nid > $2 AND e.event_nid <= $3 ORDER BY e.event_nid LIMIT $4",
        own_server,
        after,
        until,
        limit,
    )
    return [OutgoingEvent(stored_event(row), row["handed_over"]) for row in rows]


async def pending_events(
    conn: Connection, own_server: str, pending: PendingRoom, limit: int, *, newest: bool = False
) -> list[OutgoingEvent]:
    """The oldest (or newest) events of a stretch that went out to anyone; oldest first."""
    rows = await conn.fetch(
        _OUTGOING
        + f"AND e.room_nid = $2 AND e.ord >= $3::bigint << {ORD_SHIFT} AND e.ord <= $4::bigint << {ORD_SHIFT} "
        + f"ORDER BY e.ord {'DESC' if newest else 'ASC'} LIMIT $5",
        own_server,
        pending.room_nid,
        pending.first_pos,
        pending.last_pos,
        limit,
    )
    events = [OutgoingEvent(stored_event(row), row["handed_over"]) for row in rows]
    return events[::-1] if newest else events


async def mark_handed_over(conn: Connection, event_nid: int, server: str) -> None:
    """Takes note that an event was exchanged with `server` outside of transactions."""
    await conn.execute(
        "INSERT INTO handed_over_events (event_nid, server) VALUES ($1, $2) ON CONFLICT DO NOTHING", event_nid, server
    )


async def forget_handed_over(conn: Connection, until: int) -> None:
    """Deletes the marks up to position `until` of events that no destination waits for any more."""
    await conn.execute(
        """
        DELETE FROM handed_over_events h USING events e
         WHERE e.event_nid = h.event_nid AND h.event_nid <= $1 AND NOT EXISTS (
               SELECT 1 FROM destination_rooms d
                WHERE d.room_nid = e.room_nid AND d.first_pos <= h.event_nid AND d.last_pos >= h.event_nid)
        """,
        until,
    )


async def add_pending(conn: Connection, pending: Mapping[tuple[str, int], tuple[int, int]]) -> None:
    """Enters stretches, (destination, room_nid) -> (first_pos, last_pos), widening those that are there."""
    ordered = sorted(pending.items())  # two writers of the same rows can't wait for each other
    await conn.execute(
        "INSERT INTO destination_rooms (destination, room_nid, first_pos, last_pos) "
        "SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) "
        "ON CONFLICT (destination, room_nid) DO UPDATE SET last_pos = greatest(destination_rooms.last_pos, "
        "excluded.last_pos), first_pos = least(destination_rooms.first_pos, excluded.first_pos)",
        [destination for (destination, _), _ in ordered],
        [room_nid for (_, room_nid), _ in ordered],
        [first for _, (first, _) in ordered],
        [last for _, (_, last) in ordered],
    )


async def pending_rooms(conn: Connection, destination: str, limit: int) -> list[PendingRoom]:
    """What a destination has to be sent, the oldest first."""
    rows = await conn.fetch(
        "SELECT room_nid, first_pos, last_pos FROM destination_rooms WHERE destination = $1 "
        "ORDER BY first_pos LIMIT $2",
        destination,
        limit,
    )
    return [PendingRoom(*row) for row in rows]


async def waiting_destinations(conn: Connection) -> dict[str, Backoff]:
    """Every server that has something to be sent, with its back-off."""
    rows = await conn.fetch(
        "SELECT p.destination, d.failing_since_ts, d.retry_at_ts, d.retry_interval_ms "
        "FROM (SELECT destination FROM destination_rooms UNION SELECT destination FROM outgoing_edus) p "
        "LEFT JOIN destinations d USING (destination)"
    )
    return {
        row["destination"]: Backoff(row["failing_since_ts"], row["retry_at_ts"] or 0, row["retry_interval_ms"] or 0)
        for row in rows
    }


async def backoff_of(conn: Connection, destination: str) -> Backoff:
    """The back-off of one server."""
    row = await conn.fetchrow(
        "SELECT failing_since_ts, retry_at_ts, retry_interval_ms FROM destinations WHERE destination = $1", destination
    )
    return Backoff() if row is None else Backoff(*row)


async def write_backoff(conn: Connection, destination: str, backoff: Backoff) -> None:
    """Enters how sending to a server goes."""
    await conn.execute(
        "INSERT INTO destinations (destination, failing_since_ts, retry_at_ts, retry_interval_ms) "
        "VALUES ($1, $2, $3, $4) ON CONFLICT (destination) DO UPDATE SET failing_since_ts = excluded.failing_since_ts, "
        "retry_at_ts = excluded.retry_at_ts, retry_interval_ms = excluded.retry_interval_ms",
        destination,
        backoff.failing_since_ts,
        backoff.retry_at_ts,
        backoff.retry_interval_ms,
    )


async def acknowledge(conn: Connection, destination: str, sent: Sequence[tuple[int, int]]) -> None:
    """Takes note that a destination has had the events of these rooms: (room_nid, up to which position)."""
    ordered = sorted(sent)  # two writers of the same rows can't wait for each other
    await conn.executemany(
        "DELETE FROM destination_rooms WHERE destination = $1 AND room_nid = $2 AND last_pos <= $3",
        [(destination, room_nid, pos) for room_nid, pos in ordered],
    )
    await conn.executemany(
        "UPDATE destination_rooms SET first_pos = $3::bigint + 1 "
        "WHERE destination = $1 AND room_nid = $2 AND first_pos <= $3",
        [(destination, room_nid, pos) for room_nid, pos in ordered],
    )


async def servers_joined_at(conn: Connection, room_nid: int, pos: int) -> list[tuple[str, int]]:
    """The servers with users that were joined just after position `pos`, with how many.

    Members whose place has not changed since then are counted; for the others the room's state of then is asked.
    """
    rows = await conn.fetch(
        """
        WITH changed AS (
            SELECT u.server, u.user_id FROM room_members m JOIN users u USING (user_nid)
             WHERE m.room_nid = $1 AND m.pos > $2
        ), joined AS (
            SELECT u.server FROM room_members m JOIN users u USING (user_nid)
             WHERE m.room_nid = $1 AND m.pos <= $2 AND m.membership = 'join'
            UNION ALL
            SELECT c.server FROM changed c
              JOIN state_keys k ON k.type = 'm.room.member' AND k.state_key = c.user_id
              JOIN room_state s ON s.room_nid = $1 AND s.state_key_nid = k.state_key_nid
               AND s.from_pos <= $2 AND s.to_pos > $2
              JOIN events e ON e.event_nid = s.event_nid
             WHERE convert_from(e.json, 'UTF8')::json -> 'content' ->> 'membership' = 'join'
        )
        SELECT server, count(*) AS number FROM joined GROUP BY server
        """,
        room_nid,
        pos,
    )
    return [(row["server"], row["number"]) for row in rows]


async def members_changed(conn: Connection, room_nid: int, after: int, until: int) -> Collection[tuple[str, int]]:
    """Servers with users whose memberships changed between two positions, and by how many more of them are joined.

    By 0 where someone joined and left, or only changed a name: in between the server may have been there.
    """
    rows = await conn.fetch(
        """
        WITH keys AS (
            SELECT DISTINCT k.state_key_nid, k.state_key FROM room_state s JOIN state_keys k USING (state_key_nid)
             WHERE s.room_nid = $1 AND k.type = 'm.room.member'
               AND (s.from_pos > $2 AND s.from_pos <= $3
                    OR s.to_pos > $2 AND s.to_pos <= $3 AND s.to_pos < 9223372036854775807)
        ), moments (pos, sign) AS (VALUES ($2::bigint, -1), ($3::bigint, 1))
        SELECT u.server,
               coalesce(sum(m.sign) FILTER (
                   WHERE convert_from(e.json, 'UTF8')::json -> 'content' ->> 'membership' = 'join'
               ), 0)::bigint AS number
          FROM keys
          JOIN users u ON u.user_id = keys.state_key
          CROSS JOIN moments m
          LEFT JOIN room_state s ON s.room_nid = $1 AND s.state_key_nid = keys.state_key_nid
           AND s.from_pos <= m.pos AND s.to_pos > m.pos
          LEFT JOIN events e ON e.event_nid = s.event_nid
         GROUP BY u.server
        """,
        room_nid,
        after,
        until,
    )
    return [(row["server"], row["number"]) for row in rows]


async def is_joined_at(conn: Connection, room_nid: int, server: str, positions: Sequence[int]) -> set[int]:
    """After which of these positions anyone of that server was joined."""
    rows = await conn.fetch(
        """
        SELECT DISTINCT p.pos FROM unnest($3::bigint[]) AS p (pos)
          JOIN room_members m ON m.room_nid = $1
          JOIN users u ON u.user_nid = m.user_nid AND u.server = $2
          JOIN state_keys k ON k.type = 'm.room.member' AND k.state_key = u.user_id
          JOIN room_state s ON s.room_nid = $1 AND s.state_key_nid = k.state_key_nid
           AND s.from_pos <= p.pos AND s.to_pos > p.pos
          JOIN events e ON e.event_nid = s.event_nid
         WHERE convert_from(e.json, 'UTF8')::json -> 'content' ->> 'membership' = 'join'
        """,
        room_nid,
        server,
        list(positions),
    )
    return {row["pos"] for row in rows}


async def any_member_changed(conn: Connection, room_nid: int, server: str, after: int, until: int) -> bool:
    """Whether the place of anyone of that server changed between two positions."""
    found: bool = await conn.fetchval(
        """
        SELECT EXISTS (
            SELECT 1 FROM room_state s JOIN state_keys k USING (state_key_nid) JOIN users u ON u.user_id = k.state_key
             WHERE s.room_nid = $1 AND k.type = 'm.room.member' AND u.server = $2
               AND (s.from_pos > $3 AND s.from_pos <= $4
                    OR s.to_pos > $3 AND s.to_pos <= $4 AND s.to_pos < 9223372036854775807))
        """,
        room_nid,
        server,
        after,
        until,
    )
    return found
