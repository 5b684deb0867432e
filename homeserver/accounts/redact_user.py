"""Redacting what one user said, in many rooms, the newest first: a job.

An event that is redacted already is passed over, so that the work can be taken up again anywhere. A user of this server
redacts as themselves while in the room; else the administrator who ordered it does, if the room lets them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from homeserver.accounts.jobs import Tools, Work
from homeserver.protocol.errors import Forbidden, MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of
from homeserver.rooms.timeline import NewEvent
from homeserver.storage import audit_log
from homeserver.storage.audit_log import Actor
from homeserver.storage.events import StoredEvent
from homeserver.storage.jobs import insert_job
from homeserver.storage.members import membership_in, memberships_of
from homeserver.storage.names import Room
from homeserver.storage.sent_events import LAST_ORD, sent_before
from homeserver.storage.stream import Connection

REDACT_USER = "redact_user"
LIMIT = 1_000  # events in each room, unless another number is asked for
_MOST_FAILURES = 1_000  # that are kept by name
# What a room can't do without is not undone by undoing what one of its members said.
_SPARED = {
    "m.room.create",
    "m.room.power_levels",
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.tombstone",
    "m.room.redaction",
}


async def order_redactions(
    conn: Connection,
    actor: Actor,
    user_id: str,
    *,
    room_ids: list[str],
    reason: str | None,
    limit: int,
    use_admin: bool,
) -> str:
    """Orders the redaction of what a user, of this server or another, said. Inside a transaction or not.

    :param room_ids: where; none: everywhere
    :param limit: how many events in each room at most
    :param use_admin: redact as the administrator even where the user could
    :returns: the id of the job
    """
    async with conn.transaction():
        params: JsonObject = {"rooms": room_ids, "reason": reason, "limit": limit, "admin": actor.name}
        params["use_admin"] = use_admin
        job_id = await insert_job(conn, REDACT_USER, user_id, params, int(time.time() * 1000))
        details = {"rooms": len(room_ids) or "all", "reason": reason, "redact_id": job_id}
        await audit_log.append(conn, actor, "user.redact", user_id, details)
        return job_id


@dataclass(slots=True)
class _Count:
    redacted: int
    failed: dict[str, str]


async def redact_user(tools: Tools, work: Work) -> None:
    """The job. How many are done and which failed and why is noted as it goes."""
    names = tools.membership.timeline.names
    user_nid = await names.user_nid(work.job.target)
    async with tools.pool.acquire() as conn:
        memberships = await memberships_of(conn, user_nid)
    wanted = set(work.job.params["rooms"])
    rooms = await names.rooms([each.room_nid for each in memberships])
    done = set(work.progress.get("rooms_done", []))
    count = _Count(work.progress.get("redacted", 0), work.progress.get("failed", {}))
    for room in rooms.values():
        if room.nid in done or (wanted and room.room_id not in wanted):
            continue
        await _redact_in(tools, work, room, user_nid, count)
        done.add(room.nid)
        await work.note(rooms_done=sorted(done), redacted=count.redacted, failed=count.failed)


async def _redact_in(tools: Tools, work: Work, room: Room, user_nid: int, count: _Count) -> None:
    sender = await _redactor(tools, work, room, user_nid)
    ord: int | None = LAST_ORD
    left: int = work.job.params["limit"]
    while ord is not None and left > 0:
        async with tools.pool.acquire() as conn:
            stretch = await sent_before(conn, room.nid, user_nid, ord)
        for stored in [one for one in stretch.events if _is_redactable(one)][:left]:
            left -= 1
            try:
                await _redact(tools, room, sender, stored, work.job.params.get("reason"))
                count.redacted += 1
            except MatrixError as error:
                if len(count.failed) < _MOST_FAILURES:
                    count.failed[stored.event.event_id] = error.message
        await work.note(redacted=count.redacted, failed=count.failed)
        ord = stretch.next_ord


async def _redactor(tools: Tools, work: Work, room: Room, user_nid: int) -> str:
    user_id: str = work.job.target
    admin: str = work.job.params["admin"]
    if work.job.params.get("use_admin") or domain_of(user_id) != tools.membership.timeline.server_name:
        return admin
    async with tools.pool.acquire() as conn:
        own = await membership_in(conn, room.nid, user_nid)
    return user_id if own is not None and own.membership == "join" else admin


def _is_redactable(stored: StoredEvent) -> bool:
    return stored.redacted_by is None and stored.event.type not in _SPARED


async def _redact(tools: Tools, room: Room, sender: str, stored: StoredEvent, reason: str | None) -> None:
    event_id = stored.event.event_id
    if stored.event.sender != sender:
        async with tools.pool.acquire() as conn:
            head = await tools.membership.timeline.head(conn, room)
            levels = await head.power_levels(conn, tools.membership.timeline.names)
        if levels.user(sender) < levels.redact:
            raise Forbidden(f"{sender} may not redact what others say there")
    content: JsonObject = {} if reason is None else {"reason": reason}
    if room.version.redacts_in_content:
        content["redacts"] = event_id
    await tools.membership.timeline.send_event(room, NewEvent("m.room.redaction", sender, content, redacts=event_id))
