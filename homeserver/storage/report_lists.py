"""Reports as administrators look through them, with the names of what they are about."""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class ListedReport:
    """A report. `sender` is who sent the event that it is about, if this server has it."""

    report_id: int
    kind: str
    reporter: str
    created_ts: int
    room_id: str | None
    event_id: str | None
    user_id: str | None
    reason: str | None
    score: int | None
    room_name: str | None
    canonical_alias: str | None
    sender: str | None


_COLUMNS = (
    "p.report_id, p.kind, u.user_id AS reporter, p.created_ts, p.room_id, p.event_id, p.user_id, p.reason, p.score, "
    "s.name AS room_name, s.canonical_alias, "
    "(SELECT w.user_id FROM events e JOIN users w ON w.user_nid = e.sender_nid WHERE e.event_id = p.event_id) AS sender"
)
_FROM = (
    "FROM reports p JOIN users u ON u.user_nid = p.reporter_nid LEFT JOIN rooms r ON r.room_id = p.room_id "
    "LEFT JOIN room_summaries s ON s.room_nid = r.room_nid"
)
_WHERE = "WHERE ($1::text IS NULL OR u.user_id = $1) AND ($2::text IS NULL OR p.room_id = $2)"


async def list_reports_page(
    conn: Connection, *, user_id: str | None, room_id: str | None, backwards: bool, offset: int, limit: int
) -> tuple[list[ListedReport], int]:
    """One page of the reports (by a user, about a room), and how many there are in all."""
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} {_FROM} {_WHERE} ORDER BY p.report_id {'DESC' if backwards else 'ASC'} OFFSET $3 LIMIT $4",
        user_id,
        room_id,
        offset,
        limit,
    )
    total: int = await conn.fetchval(
        f"SELECT count(*) FROM reports p JOIN users u ON u.user_nid = p.reporter_nid {_WHERE}",  # noqa: S608
        user_id,
        room_id,
    )
    return [ListedReport(**row) for row in rows], total


async def find_report(conn: Connection, report_id: int) -> ListedReport | None:
    row = await conn.fetchrow(f"SELECT {_COLUMNS} {_FROM} WHERE p.report_id = $1", report_id)
    return ListedReport(**row) if row is not None else None


async def delete_report(conn: Connection, report_id: int) -> bool:
    """Returns whether there was one."""
    return bool(await conn.fetchval("DELETE FROM reports WHERE report_id = $1 RETURNING true", report_id))
