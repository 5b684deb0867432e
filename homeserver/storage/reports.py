"""What users have reported to the administrators of this server."""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class Report:
    """One report. `kind` is room, event or user, and says which of the ids are set."""

    kind: str
    reporter_nid: int
    created_ts: int
    room_id: str | None = None
    event_id: str | None = None
    user_id: str | None = None
    reason: str | None = None
    score: int | None = None


async def insert_report(conn: Connection, report: Report) -> int:
    """Keeps a report; its number."""
    number: int = await conn.fetchval(
        "INSERT INTO reports (kind, reporter_nid, created_ts, room_id, event_id, user_id, reason, score) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING report_id",
        report.kind,
        report.reporter_nid,
        report.created_ts,
        report.room_id,
        report.event_id,
        report.user_id,
        report.reason,
        report.score,
    )
    return number


async def list_reports(conn: Connection, *, before: int | None = None, limit: int = 100) -> list[tuple[int, Report]]:
    """The newest reports (those numbered below `before`, if given), newest first, with their numbers."""
    rows = await conn.fetch(
        "SELECT report_id, kind, reporter_nid, created_ts, room_id, event_id, user_id, reason, score FROM reports "
        "WHERE $1::bigint IS NULL OR report_id < $1 ORDER BY report_id DESC LIMIT $2",
        before,
        limit,
    )
    return [(number, Report(*values)) for number, *values in (row.values() for row in rows)]
