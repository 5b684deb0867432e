"""Deleting old messages of a room. A job.

What users of this server said stays unless asked for, since nobody else may have it; state always stays.
"""

from __future__ import annotations

import time

from homeserver.accounts.jobs import Tools, Work
from homeserver.admin_api.requests import actor_of, admin_route, room_of_path
from homeserver.http import ApiRequest
from homeserver.http.bodies import boolean, integer, string
from homeserver.protocol.errors import BadRequest, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage import audit_log
from homeserver.storage.events import event_by_id
from homeserver.storage.jobs import find_job, insert_job
from homeserver.storage.names import Room
from homeserver.storage.purge import delete_some_history, place_before

PURGE_HISTORY = "purge_history"
_FIRST_ORD = -(2**63)


async def post_purge_history(services: Services, request: ApiRequest) -> JsonObject:
    """Orders the deletion of messages up to an event, or up to a moment."""
    room = await room_of_path(services, request)
    body = await request.json(allow_empty=True)
    delete_own = boolean(body, "delete_local_events", default=False)
    event_id = request.params.get("eventId") or string(body, "purge_up_to_event_id", max_length=255)
    ts = integer(body, "purge_up_to_ts", minimum=0)
    below = await _place(services, room, event_id, ts)
    actor = actor_of(request)
    async with services.pool.acquire() as conn, conn.transaction():
        params = {"below": below, "delete_own": delete_own}
        job_id = await insert_job(conn, PURGE_HISTORY, room.room_id, params, int(time.time() * 1000))
        details = {"event_id": event_id, "ts": ts, "delete_local_events": delete_own, "purge_id": job_id}
        await audit_log.append(conn, actor, "room.purge_history", room.room_id, details)
    services.jobs.wake()
    return {"purge_id": job_id}


async def _place(services: Services, room: Room, event_id: str | None, ts: int | None) -> int:
    async with services.pool.acquire() as conn:
        if event_id is not None:
            stored = await event_by_id(conn, event_id, room.nid)
            if stored is None or stored.ord is None:
                raise BadRequest("There is no such event in the timeline of that room")
            return stored.ord
        if ts is None:
            raise BadRequest("must specify purge_up_to_event_id or purge_up_to_ts")
        found = await place_before(conn, room.nid, ts)
        if found is None:
            raise NotFound("there is no event to be purged")
        return found


async def get_purge_status(services: Services, request: ApiRequest) -> JsonObject:
    """How far that is."""
    async with services.pool.acquire() as conn:
        job = await find_job(conn, request.params["purgeId"], [PURGE_HISTORY])
    if job is None:
        raise NotFound("purge id not found")
    answer: JsonObject = {"status": job.status, "events_deleted": job.progress.get("events_deleted", 0)}
    return answer if job.error is None else answer | {"error": job.error}


async def do_purge_history(tools: Tools, work: Work) -> None:
    """The job."""
    timeline = tools.membership.timeline
    room = await timeline.room(work.job.target)
    after: int | None = work.progress.get("after", _FIRST_ORD)
    deleted = int(work.progress.get("events_deleted", 0))
    while after is not None:
        async with tools.pool.acquire() as conn, conn.transaction():
            number, after = await delete_some_history(
                conn,
                room.nid,
                timeline.server_name,
                after=after,
                below=work.job.params["below"],
                delete_own=work.job.params["delete_own"],
            )
        deleted += number
        await work.note(after=after, events_deleted=deleted)


ROUTES = [
    admin_route("POST", "/v1/purge_history/{roomId}", post_purge_history),
    admin_route("POST", "/v1/purge_history/{roomId}/{eventId}", post_purge_history),
    admin_route("GET", "/v1/purge_history_status/{purgeId}", get_purge_status),
]
