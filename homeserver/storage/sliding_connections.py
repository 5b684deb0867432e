"""What connections of sliding sync have been told, as rows. See schema/0007_sliding_sync.sql."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass
from typing import TypeAlias

import orjson

from homeserver.storage.stream import Connection

MOST_CONNECTIONS = 10  # of one device; the one that was used longest ago goes

ConnectionKey: TypeAlias = tuple[int, str | None, str]  # user_nid, device_id, conn_id


@dataclass(frozen=True, slots=True)
class RoomRow:
    """A row of sliding_rooms. `required_state` is a number among those of the connection."""

    room_nid: int
    sent_pos: int
    first_ord: int
    timeline_limit: int
    required_state: int
    stripped: bool
    is_dm: bool
    unread: bool
    receipts_pos: int | None
    data_pos: int | None


@dataclass(frozen=True, slots=True)
class PositionRow:
    """A response: its name, up to where it told, and the extensions that were on."""

    version: int
    pos: int
    typing: int
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConnectionRow:
    """A connection. `required_states` is JSON. `rooms` is what the client knew at `known`, `issued_rooms` what the
    response `issued` added."""

    connection_nid: int
    required_states: bytes
    known: PositionRow
    issued: PositionRow
    rooms: list[RoomRow]
    issued_rooms: list[RoomRow]


_OF_KEY = "user_nid = $1 AND device_id IS NOT DISTINCT FROM $2 AND conn_id = $3"


async def find_connection(conn: Connection, key: ConnectionKey) -> ConnectionRow | None:
    """The connection with all that is known of it."""
    row = await conn.fetchrow(f"SELECT * FROM sliding_connections WHERE {_OF_KEY}", *key)  # noqa: S608
    if row is None:
        return None
    rooms = await conn.fetch(
        "SELECT room_nid, sent_pos, first_ord, timeline_limit, required_state, stripped, is_dm, unread, receipts_pos, "
        "data_pos FROM sliding_rooms WHERE connection_nid = $1",
        row["connection_nid"],
    )
    known, issued = (
        PositionRow(row[f"{of}_version"], row[f"{of}_pos"], row[f"{of}_typing"], tuple(row[f"{of}_extensions"]))
        for of in ("known", "issued")
    )
    return ConnectionRow(
        row["connection_nid"],
        row["required_states"],
        known,
        issued,
        [RoomRow(*each) for each in rooms],
        [RoomRow(*each) for each in orjson.loads(row["issued_rooms"])],
    )


def _json(rooms: Sequence[RoomRow]) -> bytes:
    return orjson.dumps([astuple(room) for room in rooms])


async def start_connection(
    conn: Connection,
    key: ConnectionKey,
    now_ms: int,
    required_states: bytes,
    response: tuple[int, int, Collection[str]],
    rooms: Sequence[RoomRow],
) -> tuple[int, int]:
    """Enters a connection with its first response (position, typing, extensions), in place of the one of that name.

    Must run in a transaction. Of a device's connections beyond MOST_CONNECTIONS the oldest are dropped.

    :returns: (connection_nid, version of the response)
    """
    row = await conn.fetchrow(
        """
        INSERT INTO sliding_connections (user_nid, device_id, conn_id, used_ts, required_states,
                                         issued_pos, issued_typing, issued_extensions, issued_rooms)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT (user_nid, device_id, conn_id) DO UPDATE SET
            used_ts = excluded.used_ts, required_states = excluded.required_states,
            known_version = 0, known_pos = 0, known_typing = 0, known_extensions = '{}',
            issued_version = excluded.issued_version, issued_pos = excluded.issued_pos,
            issued_typing = excluded.issued_typing, issued_extensions = excluded.issued_extensions,
            issued_rooms = excluded.issued_rooms
        RETURNING connection_nid, issued_version
        """,
        *key,
        now_ms,
        required_states,
        response[0],
        response[1],
        sorted(response[2]),
        _json(rooms),
    )
    assert row is not None
    await conn.execute("DELETE FROM sliding_rooms WHERE connection_nid = $1", row["connection_nid"])
    await conn.execute(
        "DELETE FROM sliding_connections WHERE connection_nid IN (SELECT connection_nid FROM sliding_connections "
        "WHERE user_nid = $1 AND device_id IS NOT DISTINCT FROM $2 AND connection_nid <> $3 "
        "ORDER BY used_ts DESC, connection_nid DESC OFFSET $4)",
        key[0],
        key[1],
        row["connection_nid"],
        MOST_CONNECTIONS - 1,
    )
    return row["connection_nid"], row["issued_version"]


async def advance_connection(
    conn: Connection,
    connection_nid: int,
    known: PositionRow,
    now_ms: int,
    required_states: bytes,
    response: tuple[int, int, Collection[str]],
    rooms: Sequence[RoomRow],
    acknowledged: Sequence[RoomRow],
) -> int | None:
    """Enters a response that was worked out for a client that has `known`, in place of any other that was.

    :param acknowledged: what `known` told of rooms, if that is not in the table yet
    :returns: the version of the response; None if the connection has gone on meanwhile, or is gone
    """
    version: int | None = await conn.fetchval(
        """
        WITH moved AS (
            UPDATE sliding_connections SET
                used_ts = $2, required_states = $3,
                known_version = $4, known_pos = $5, known_typing = $6, known_extensions = $7,
                issued_version = nextval('sliding_versions'), issued_pos = $8, issued_typing = $9,
                issued_extensions = $10, issued_rooms = $11
             WHERE connection_nid = $1 AND $4 IN (known_version, issued_version)
            RETURNING connection_nid, issued_version
        ), written AS (
            INSERT INTO sliding_rooms (connection_nid, room_nid, sent_pos, first_ord, timeline_limit, required_state,
                                       stripped, is_dm, unread, receipts_pos, data_pos)
            SELECT m.connection_nid, r.* FROM moved m, unnest(
                $12::bigint[], $13::bigint[], $14::bigint[], $15::integer[], $16::integer[], $17::boolean[],
                $18::boolean[], $19::boolean[], $20::bigint[], $21::bigint[]) AS r
            ON CONFLICT (connection_nid, room_nid) DO UPDATE SET
                sent_pos = excluded.sent_pos, first_ord = excluded.first_ord,
                timeline_limit = excluded.timeline_limit, required_state = excluded.required_state,
                stripped = excluded.stripped, is_dm = excluded.is_dm, unread = excluded.unread,
                receipts_pos = excluded.receipts_pos, data_pos = excluded.data_pos
        )
        SELECT issued_version FROM moved
        """,
        connection_nid,
        now_ms,
        required_states,
        known.version,
        known.pos,
        known.typing,
        sorted(known.extensions),
        response[0],
        response[1],
        sorted(response[2]),
        _json(rooms),
        *([astuple(row)[column] for row in acknowledged] for column in range(10)),
    )
    return version


async def drop_connection(conn: Connection, key: ConnectionKey) -> None:
    """Forgets a connection: its client has to start anew."""
    await conn.execute(f"DELETE FROM sliding_connections WHERE {_OF_KEY}", *key)  # noqa: S608
