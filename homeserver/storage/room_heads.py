"""The rooms table: the lock that every append takes, and the head that it moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeserver.storage.events import ids_of
from homeserver.storage.room_summaries import insert_summary
from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class HeadRow:
    version: int
    extremities: dict[int, str]
    depth: int
    snapshot_nid: int | None
    positions: list[int]


async def lock_room(conn: Connection, room_nid: int, count: int, known_version: int | None = None) -> HeadRow:
    """Takes the room's lock until the transaction ends, and draws `count` (at least one) positions.

    :param known_version: with that version of the head, which the caller knows, `extremities` is left empty
    """
    row = await conn.fetchrow("SELECT * FROM lock_room($1, $2)", room_nid, max(1, count))
    assert row is not None
    nids = [] if row["head_version"] == known_version else list(row["extremities"])
    ids = await ids_of(conn, nids) if nids else {}
    return HeadRow(
        version=row["head_version"],
        extremities={nid: ids[nid] for nid in nids},
        depth=row["depth"],
        snapshot_nid=row["snapshot_nid"],
        positions=list(row["positions"]),
    )


async def read_head(conn: Connection, room_nid: int) -> HeadRow:
    """The room's head as it is now, without the lock and without positions."""
    row = await conn.fetchrow(
        "SELECT head_version, extremities, depth, snapshot_nid FROM rooms WHERE room_nid = $1", room_nid
    )
    assert row is not None
    ids = await ids_of(conn, row["extremities"])
    return HeadRow(
        version=row["head_version"],
        extremities={nid: ids[nid] for nid in row["extremities"]},
        depth=row["depth"],
        snapshot_nid=row["snapshot_nid"],
        positions=[],
    )


async def create_room_row(conn: Connection, room_id: str, version: str, created_ts: int, *, published: bool) -> int:
    """Enters a room that is made here; its number."""
    nid: int = await conn.fetchval(
        "INSERT INTO rooms (room_id, room_version, created_ts) VALUES ($1, $2, $3) RETURNING room_nid",
        room_id,
        version,
        created_ts,
    )
    await insert_summary(conn, nid, published=published)
    return nid


async def write_head(
    conn: Connection,
    room_nid: int,
    version: int,
    extremities: Sequence[int],
    depth: int,
    snapshot_nid: int | None,
    activity: tuple[int, int] = (0, 0),
) -> None:
    """Moves the head of a room whose lock is held.

    :param activity: the positions of the newest event and of the newest bumping one, where they are newer than before
    """
    await conn.execute(
        "UPDATE rooms SET head_version = $2, extremities = $3, depth = $4, snapshot_nid = $5, "
        "active_pos = greatest(active_pos, $6), bump_pos = greatest(bump_pos, $7) WHERE room_nid = $1",
        room_nid,
        version,
        list(extremities),
        min(depth, 2**63 - 1),
        snapshot_nid,
        *activity,
    )
