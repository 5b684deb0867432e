"""Ending every session of an account from outside the server's process, and telling others of it from inside.

Positions of the stream are drawn by the server alone, so that a command can delete sessions but not announce what that
does to the list of devices: a job does.
"""

from __future__ import annotations

import time

from homeserver.accounts.jobs import Tools, Work
from homeserver.devices.device_lists import mark_changed
from homeserver.protocol.errors import NotFound
from homeserver.storage import audit_log
from homeserver.storage.accounts import find_account
from homeserver.storage.audit_log import Actor
from homeserver.storage.devices import delete_all_devices
from homeserver.storage.jobs import insert_job
from homeserver.storage.sign_ins import delete_pending_sign_ins
from homeserver.storage.stream import Connection
from homeserver.storage.web_sessions import delete_all_sessions

ANNOUNCE_DEVICES = "announce_devices"


async def announce_later(conn: Connection, user_id: str, devices: list[str]) -> None:
    """Orders that whoever knows these devices, which are gone, is told. In the transaction that deletes them."""
    if devices:
        await insert_job(conn, ANNOUNCE_DEVICES, user_id, {"devices": devices}, int(time.time() * 1000))


async def sign_out_everywhere(conn: Connection, actor: Actor, user_id: str) -> int:
    """Ends all sessions of an account, browsers' too, and what could still become one. Returns how many devices went.

    :raises NotFound: if there is no such account
    """
    async with conn.transaction():
        account = await find_account(conn, user_id)
        if account is None:
            raise NotFound("There is no such account")
        await delete_pending_sign_ins(conn, account.user_nid)
        await delete_all_sessions(conn, account.user_nid)
        gone = await delete_all_devices(conn, account.user_nid)
        await announce_later(conn, user_id, gone)
        await audit_log.append(conn, actor, "user.sign_out", user_id, {"devices": len(gone)})
        return len(gone)


async def announce_devices(tools: Tools, work: Work) -> None:
    """The job."""
    timeline = tools.membership.timeline
    user_nid = await timeline.names.user_nid(work.job.target)
    async with timeline.stream.write() as write:
        await mark_changed(write, user_nid, work.job.params["devices"])
