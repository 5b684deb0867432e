"""What users have reported. Reports of rooms and of users are listed too, with no event."""

from __future__ import annotations

from homeserver.admin_api.requests import actor_of, admin_route, next_token, page_wanted
from homeserver.http import ApiRequest
from homeserver.protocol.errors import InvalidParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage import audit_log
from homeserver.storage.events import event_by_id
from homeserver.storage.report_lists import ListedReport, delete_report, find_report, list_reports_page

_MOST = 2**63 - 1


async def get_reports(services: Services, request: ApiRequest) -> JsonObject:
    """The reports, the newest first unless asked for otherwise; of a user, about a room."""
    page = page_wanted(request, direction="b")
    user_id = request.query.string("user_id", max_length=255)
    room_id = request.query.string("room_id", max_length=255)
    async with services.pool.acquire() as conn:
        found, total = await list_reports_page(
            conn, user_id=user_id, room_id=room_id, backwards=page.backwards, offset=page.offset, limit=page.limit
        )
    answer: JsonObject = {"event_reports": [_shown(report) for report in found], "total": total}
    end = page.offset + len(found)
    return answer | ({"next_token": end} if next_token(page, len(found), total) else {})


def _shown(report: ListedReport) -> JsonObject:
    return {
        "id": report.report_id,
        "kind": report.kind,
        "received_ts": report.created_ts,
        "room_id": report.room_id,
        "name": report.room_name,
        "canonical_alias": report.canonical_alias,
        "event_id": report.event_id,
        "user_id": report.reporter,
        "reason": report.reason,
        "score": report.score,
        "sender": report.sender if report.sender is not None else report.user_id,
    }


async def get_report(services: Services, request: ApiRequest) -> JsonObject:
    """One report, with the event that it is about."""
    number = _number(request)
    async with services.pool.acquire() as conn:
        report = await find_report(conn, number)
        if report is None:
            raise NotFound("Event report not found")
        stored = await event_by_id(conn, report.event_id) if report.event_id is not None else None
    event: JsonObject = {} if stored is None else {"event_json": stored.event.json}
    return _shown(report) | event


async def delete_one_report(services: Services, request: ApiRequest) -> JsonObject:
    """Deletes a report that has been dealt with."""
    number = _number(request)
    async with services.pool.acquire() as conn, conn.transaction():
        report = await find_report(conn, number)
        if report is None or not await delete_report(conn, number):
            raise NotFound("Event report not found")
        details = {"reporter": report.reporter, "room_id": report.room_id, "event_id": report.event_id}
        await audit_log.append(conn, actor_of(request), "report.delete", str(number), details)
    return {}


def _number(request: ApiRequest) -> int:
    text = request.params["reportId"]
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) <= _MOST):
        raise InvalidParam("The number of a report must be a positive integer")
    return int(text)


ROUTES = [
    admin_route("GET", "/v1/event_reports", get_reports),
    admin_route("GET", "/v1/event_reports/{reportId}", get_report),
    admin_route("DELETE", "/v1/event_reports/{reportId}", delete_one_report),
]
