"""Other servers as administrators look through them: those that are owed something or could not be reached."""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.storage.account_lists import containing
from homeserver.storage.stream import Connection

ORDERS = {
    "destination": "destination",
    "retry_last_ts": "retry_at_ts - retry_interval_ms",
    "retry_interval": "retry_interval_ms",
    "failure_ts": "failing_since_ts",
    "last_successful_stream_ordering": "destination",  # not kept: what is owed is
}


@dataclass(frozen=True, slots=True)
class ListedDestination:
    """A server, and since when, until when and for how long (ms) it is left alone; 0 and None if it isn't."""

    destination: str
    failing_since_ts: int | None
    retry_at_ts: int
    retry_interval_ms: int


_FROM = (
    "FROM (SELECT n.destination, d.failing_since_ts, coalesce(d.retry_at_ts, 0) AS retry_at_ts, "
    "coalesce(d.retry_interval_ms, 0) AS retry_interval_ms FROM (SELECT destination FROM destinations "
    "UNION SELECT destination FROM destination_rooms UNION SELECT destination FROM outgoing_edus) n "
    "LEFT JOIN destinations d USING (destination)) all_destinations"
)
_COLUMNS = "destination, failing_since_ts, retry_at_ts, retry_interval_ms"


async def list_destinations(
    conn: Connection, part: str | None, *, order_by: str, backwards: bool, offset: int, limit: int
) -> tuple[list[ListedDestination], int]:
    """One page of those whose names contain `part`, and how many there are in all.

    :param order_by: a key of ORDERS
    """
    where = "WHERE $1::text IS NULL OR destination ILIKE $1"
    direction = "DESC" if backwards else "ASC"
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} {_FROM} {where} ORDER BY {ORDERS[order_by]} {direction} NULLS LAST, "
        f"destination {direction} OFFSET $2 LIMIT $3",
        containing(part),
        offset,
        limit,
    )
    total: int = await conn.fetchval(f"SELECT count(*) {_FROM} {where}", containing(part))
    return [ListedDestination(**row) for row in rows], total


async def find_destination(conn: Connection, destination: str) -> ListedDestination | None:
    row = await conn.fetchrow(f"SELECT {_COLUMNS} {_FROM} WHERE destination = $1", destination)
    return ListedDestination(**row) if row is not None else None


async def destination_rooms(
    conn: Connection, destination: str, *, backwards: bool, offset: int, limit: int
) -> tuple[list[tuple[str, int]], int]:
    """(room id, position up to which something is owed) of one page of the rooms, and how many there are in all."""
    order = "DESC" if backwards else "ASC"
    rows = await conn.fetch(
        "SELECT r.room_id, d.last_pos FROM destination_rooms d JOIN rooms r USING (room_nid) "  # noqa: S608
        f"WHERE d.destination = $1 ORDER BY d.last_pos {order} OFFSET $2 LIMIT $3",
        destination,
        offset,
        limit,
    )
    total: int = await conn.fetchval("SELECT count(*) FROM destination_rooms WHERE destination = $1", destination)
    return [(row["room_id"], row["last_pos"]) for row in rows], total
