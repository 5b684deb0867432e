"""Deleting a room: everyone of this server leaves it, and then nothing of it is kept. A job.

While it is under way nobody can come back: the room is blocked from the order on, and unblocked at the end unless it is
to stay so. Servers that are still in the room are told who left before the events that say so are deleted.
"""

from __future__ import annotations

import asyncio
import time

from homeserver.accounts.jobs import Tools, Work
from homeserver.admin_api.requests import actor_of, admin_route, room_of_path
from homeserver.http import ApiRequest
from homeserver.http.bodies import boolean, string
from homeserver.protocol.errors import InvalidParam, MatrixError, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, is_user_id
from homeserver.protocol.room_versions import room_version
from homeserver.rooms.create import RoomRequest, create_room
from homeserver.rooms.timeline import NewEvent
from homeserver.services import Services
from homeserver.storage import audit_log
from homeserver.storage.accounts import find_account
from homeserver.storage.audit_log import Actor
from homeserver.storage.blocked_rooms import block_room, blocker_of, unblock_room
from homeserver.storage.jobs import Job, find_job, insert_job, jobs_about
from homeserver.storage.names import Room
from homeserver.storage.purge import delete_some_events, empty_room, is_owed
from homeserver.storage.room_aliases import aliases_of_room, move_aliases
from homeserver.storage.room_lists import local_members
from homeserver.storage.room_summaries import set_published
from homeserver.storage.stream import Connection

DELETE_ROOM = "delete_room"
_WAIT_SECONDS = 60.0
_MOST_WAITING = 60  # seconds for others to be told
_MESSAGE = "This room has been closed by the administrators of this server."
_NAME = "Closed room"


async def delete_room_now(services: Services, request: ApiRequest) -> JsonObject:
    """Deletes a room and answers when that is done, or after a minute with what has been done by then."""
    job_id = await _order(services, request)
    await services.jobs.wait(job_id, _WAIT_SECONDS)
    async with services.pool.acquire() as conn:
        job = await find_job(conn, job_id, [DELETE_ROOM])
    assert job is not None
    return _result(job)


async def delete_room(services: Services, request: ApiRequest) -> JsonObject:
    """Orders that a room is deleted."""
    job_id = await _order(services, request)
    services.jobs.wake()
    return {"delete_id": job_id}


async def get_statuses(services: Services, request: ApiRequest) -> JsonObject:
    """How far the deletions of a room are."""
    async with services.pool.acquire() as conn:
        jobs = await jobs_about(conn, request.params["roomId"], [DELETE_ROOM])
    if not jobs:
        raise NotFound("No delete task for this room was found")
    return {"results": [{"delete_id": job.job_id, **_status(job)} for job in jobs]}


async def get_status(services: Services, request: ApiRequest) -> JsonObject:
    """How far one deletion is."""
    async with services.pool.acquire() as conn:
        job = await find_job(conn, request.params["deleteId"], [DELETE_ROOM])
    if job is None:
        raise NotFound("delete id not found")
    return _status(job)


def _status(job: Job) -> JsonObject:
    answer: JsonObject = {"status": job.status, "shutdown_room": _result(job)}
    return answer if job.error is None else answer | {"error": job.error}


def _result(job: Job) -> JsonObject:
    progress = job.progress
    return {
        "kicked_users": progress.get("kicked_users", []),
        "failed_to_kick_users": progress.get("failed_to_kick_users", []),
        "local_aliases": progress.get("local_aliases", []),
        "new_room_id": progress.get("new_room_id"),
    }


async def _order(services: Services, request: ApiRequest) -> str:
    room = await room_of_path(services, request)
    body = await request.json(allow_empty=True)
    new_owner = string(body, "new_room_user_id", max_length=255)
    params: JsonObject = {
        "new_room_user_id": new_owner,
        "room_name": string(body, "room_name", max_length=255) or _NAME,
        "message": string(body, "message", max_length=10_000) or _MESSAGE,
        "block": boolean(body, "block", default=False),
        "purge": boolean(body, "purge", default=True),
        "force_purge": boolean(body, "force_purge", default=False),
        "room_version": services.config.rooms.default_version,
    }
    actor = actor_of(request)
    async with services.pool.acquire() as conn, conn.transaction():
        if new_owner is not None:
            await _check_owner(services, conn, new_owner)
        return await order_deletion(conn, actor, room, params)


async def _check_owner(services: Services, conn: Connection, user_id: str) -> None:
    if not is_user_id(user_id) or domain_of(user_id) != services.server_name:
        raise InvalidParam("new_room_user_id must be a user of this server")
    account = await find_account(conn, user_id)
    if account is None or account.deactivated:
        raise InvalidParam("There is no user with new_room_user_id")


async def order_deletion(conn: Connection, actor: Actor, room: Room, params: JsonObject) -> str:
    """Orders the deletion of a room inside a transaction; the id of the job."""
    now = int(time.time() * 1000)
    blocked_before = await blocker_of(conn, room.room_id) is not None
    await block_room(conn, room.room_id, actor.name, now)
    stays_blocked = params["block"] or blocked_before
    job_id = await insert_job(conn, DELETE_ROOM, room.room_id, {**params, "stays_blocked": stays_blocked}, now)
    details = {key: params[key] for key in ("new_room_user_id", "block", "purge", "force_purge")}
    await audit_log.append(conn, actor, "room.delete", room.room_id, {**details, "delete_id": job_id})
    return job_id


async def do_delete_room(tools: Tools, work: Work) -> None:
    """The job. Each step can be done again."""
    room = await tools.membership.timeline.room(work.job.target)
    if work.job.params["new_room_user_id"] and "new_room_id" not in work.progress:
        await work.note(new_room_id=await _make_new_room(tools, work))
    await _close(tools, work, room)
    await _empty_of_people(tools, work, room)
    failed = work.progress.get("failed_to_kick_users", [])
    if work.job.params["purge"] and (not failed or work.job.params["force_purge"]):
        for _ in range(_MOST_WAITING):
            async with tools.pool.acquire() as conn:
                if not await is_owed(conn, room.nid, tools.membership.timeline.server_name):
                    break
            await work.note()
            await asyncio.sleep(1)
        await purge_room(tools, work, room)
    if not work.job.params["stays_blocked"]:
        async with tools.pool.acquire() as conn:
            await unblock_room(conn, room.room_id)


async def _make_new_room(tools: Tools, work: Work) -> str:
    """The room that its members find themselves in instead: they read there why."""
    params = work.job.params
    owner: str = params["new_room_user_id"]
    wanted = RoomRequest(
        owner,
        room_version(params["room_version"]),
        "public_chat",
        name=params["room_name"],
        power_level_override={"users_default": -10},
    )
    room = await create_room(tools.membership, wanted)
    content = {"msgtype": "m.text", "body": params["message"]}
    await tools.membership.timeline.send_event(room, NewEvent("m.room.message", owner, content))
    return room.room_id


async def _close(tools: Tools, work: Work, room: Room) -> None:
    """Nobody finds the room any more: its aliases lead to the new one, or nowhere."""
    new_room_id = work.progress.get("new_room_id")
    new = await tools.membership.timeline.room(new_room_id) if new_room_id else None
    async with tools.pool.acquire() as conn, conn.transaction():
        aliases = await aliases_of_room(conn, room.nid)
        if new is not None:
            await move_aliases(conn, room.nid, new.nid)
        elif aliases:
            await conn.execute("DELETE FROM room_aliases WHERE room_nid = $1", room.nid)
        await set_published(conn, room.nid, published=False)
    if "local_aliases" not in work.progress:
        await work.note(local_aliases=aliases)


async def _empty_of_people(tools: Tools, work: Work, room: Room) -> None:
    kicked = list(work.progress.get("kicked_users", []))
    new_room_id = work.progress.get("new_room_id")
    failed: list[str] = []
    async with tools.pool.acquire() as conn:
        present = await local_members(conn, tools.membership.timeline.server_name, room.nid)
    for user_id, membership in present:
        try:
            await tools.membership.leave(room, user_id)
            if membership == "join" and new_room_id:
                await tools.membership.join(new_room_id, user_id)
            kicked.append(user_id)
        except MatrixError:
            failed.append(user_id)
        await work.note(kicked_users=kicked, failed_to_kick_users=failed)
    await work.note(failed_to_kick_users=failed)


async def purge_room(tools: Tools, work: Work, room: Room) -> None:
    """Deletes all that is kept of a room that nobody here is in."""
    async with tools.membership.timeline.stream.write() as write:
        await empty_room(write.conn, room.nid)
        write.changed(rooms=[room.nid])
    deleted = int(work.progress.get("events_deleted", 0))
    while True:
        async with tools.pool.acquire() as conn, conn.transaction():
            number = await delete_some_events(conn, room.nid)
        if not number:
            return
        deleted += number
        await work.note(events_deleted=deleted)


ROUTES = [
    admin_route("DELETE", "/v1/rooms/{roomId}", delete_room_now),
    admin_route("DELETE", "/v2/rooms/{roomId}", delete_room),
    admin_route("GET", "/v2/rooms/{roomId}/delete_status", get_statuses),
    admin_route("GET", "/v2/rooms/delete_status/{deleteId}", get_status),
]
