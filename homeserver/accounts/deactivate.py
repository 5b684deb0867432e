"""The end of an account, and what follows from it; and taking it back.

The account itself ends in one transaction: from then on nobody gets in. What takes longer (rooms to leave, others to
tell) is a job in the same transaction, so that it is finished whatever happens to this process, and whoever ordered it.

# spec: client-server-api/#account-deactivation
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from homeserver.accounts.administrators import check_not_last
from homeserver.accounts.jobs import Tools, Work
from homeserver.devices.device_lists import mark_changed
from homeserver.protocol.errors import BadRequest, MatrixError, NotFound, Unavailable
from homeserver.storage import audit_log
from homeserver.storage.account_rows import any_bound, delete_ended, delete_erased, delete_receipts
from homeserver.storage.accounts import deactivate_account, find_account, reactivate_account
from homeserver.storage.audit_log import Actor
from homeserver.storage.devices import delete_all_devices
from homeserver.storage.jobs import insert_job
from homeserver.storage.media import delete_media
from homeserver.storage.media_lists import unquarantined_of_user
from homeserver.storage.members import memberships_of
from homeserver.storage.sent_events import LAST_ORD, unindex_sent
from homeserver.storage.stream import Connection

DEACTIVATE = "deactivate"
"""The kind of job."""

_FILES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Deactivated:
    """An account that has just ended, and the job that does the rest.

    `bound`: addresses of the user are bound at identity servers, which only the user can ask to forget them.
    """

    user_nid: int
    job_id: str
    bound: bool

    @property
    def unbind_result(self) -> str:
        """What the specification has for that in the answer."""
        return "no-support" if self.bound else "success"


async def deactivate(
    conn: Connection, actor: Actor, user_id: str, *, erase: bool = False, keep_one: bool = False
) -> Deactivated:
    """Ends an account: password, profile, rights, identifiers, keys and sessions go, the name stays taken. Its rooms
    are left, and its contacts told, by the job. Inside a transaction or not.

    :param erase: delete too what its clients kept here, and show what the user said only to who was there
    :param keep_one: refuse to end the last administrator
    :raises NotFound: if there is no such account, or nothing is left to be done: it can be erased later on
    :raises Forbidden: if it is the last administrator and `keep_one`
    """
    async with conn.transaction():
        account = await find_account(conn, user_id)
        if account is None or (account.deactivated and (account.erased or not erase)):
            raise NotFound("There is no such account")
        if keep_one:
            await check_not_last(conn, account)
        await deactivate_account(conn, account.user_nid, erase=erase)
        bound = await any_bound(conn, account.user_nid)
        await delete_ended(conn, account.user_nid)
        if erase:
            await delete_erased(conn, account.user_nid)
        gone = await delete_all_devices(conn, account.user_nid)
        params = {"devices": gone, "erase": erase}
        job_id = await insert_job(conn, DEACTIVATE, user_id, params, int(time.time() * 1000))
        await audit_log.append(conn, actor, "user.deactivate", user_id, {"erase": erase})
        return Deactivated(account.user_nid, job_id, bound)


async def reactivate(conn: Connection, actor: Actor, user_id: str, password_hash: str | None) -> None:
    """Lets a user have the account again, with another password (None: there are other ways to sign in) and nothing of
    what was deleted. Inside a transaction or not.

    :raises NotFound: if there is no such account
    :raises BadRequest: if it is not deactivated
    """
    async with conn.transaction():
        account = await find_account(conn, user_id)
        if account is None:
            raise NotFound("There is no such account")
        if not await reactivate_account(conn, account.user_nid, password_hash):
            raise BadRequest("The account is not deactivated")
        await audit_log.append(conn, actor, "user.reactivate", user_id, {})


async def finish_deactivation(tools: Tools, work: Work) -> None:
    """The job: tells who knew the user's devices, leaves every room, declines invitations, takes back knocks.

    :raises Unavailable: if a room could not be left, so that it is tried again later
    """
    timeline, user_id = tools.membership.timeline, work.job.target
    async with tools.pool.acquire() as conn:
        account = await find_account(conn, user_id)
    if account is None or not account.deactivated:
        return  # somebody has taken it back
    if not work.progress.get("told"):
        async with timeline.stream.write() as write:
            await mark_changed(write, account.user_nid, work.job.params.get("devices", []), signing_keys=True)
        await work.note(told=True)
    failed = await _leave_rooms(tools, work, account.user_nid)
    if account.erased:
        await _forget(tools, work, account.user_nid)
    if failed:
        raise Unavailable(f"Could not leave {failed} rooms yet")


async def _leave_rooms(tools: Tools, work: Work, user_nid: int) -> int:
    async with tools.pool.acquire() as conn:
        memberships = await memberships_of(conn, user_nid)
    rooms = await tools.membership.timeline.names.rooms([each.room_nid for each in memberships])
    left, failed = int(work.progress.get("rooms_left", 0)), 0
    for each in memberships:
        if each.membership not in ("join", "invite", "knock"):
            continue
        async with tools.pool.acquire() as conn:
            account = await find_account(conn, work.job.target)
        if account is None or not account.deactivated:
            return 0  # somebody has taken it back meanwhile
        try:
            await tools.membership.leave(rooms[each.room_nid], work.job.target)
            left += 1
        except MatrixError as error:
            failed += 1
            await work.note(last_failure=f"{rooms[each.room_nid].room_id}: {error.message}")
        await work.note(rooms_left=left)
    return failed


async def _forget(tools: Tools, work: Work, user_nid: int) -> None:
    """Takes the user's read receipts out of the rooms, and what the user said out of the search; deletes the files that
    the user has uploaded."""
    await _delete_media(tools, user_nid)
    async with tools.pool.acquire() as conn:
        memberships = await memberships_of(conn, user_nid)
    done = set(work.progress.get("forgotten_in", []))
    for each in memberships:
        if each.room_nid in done:
            continue
        async with tools.pool.acquire() as conn:
            await delete_receipts(conn, each.room_nid, user_nid)
        ord: int | None = LAST_ORD
        while ord is not None:
            async with tools.pool.acquire() as conn:
                ord = await unindex_sent(conn, each.room_nid, user_nid, ord)
        done.add(each.room_nid)
        await work.note(forgotten_in=sorted(done))


async def _delete_media(tools: Tools, user_nid: int) -> None:
    while True:
        async with tools.pool.acquire() as conn, conn.transaction():
            gone = await unquarantined_of_user(conn, user_nid, _FILES_AT_ONCE)
            await delete_media(conn, gone)
        if not gone:
            return
