"""Rooms that new users join by themselves: a job each, so that registering never waits for a room, nor fails by it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from homeserver.accounts.jobs import Tools, Work
from homeserver.protocol.errors import MatrixError, NotFound
from homeserver.protocol.identifiers import domain_of, is_room_id
from homeserver.storage.jobs import insert_job
from homeserver.storage.members import joined_servers
from homeserver.storage.room_aliases import room_of_alias
from homeserver.storage.stream import Connection

log = logging.getLogger(__name__)

AUTO_JOIN = "auto_join"


async def order_joins(conn: Connection, user_id: str, rooms: Iterable[str]) -> None:
    """Has the user join these rooms, given by address or id. In the transaction of the registration."""
    now_ms = int(time.time() * 1000)
    for room in rooms:
        await insert_job(conn, AUTO_JOIN, user_id, {"room": room}, now_ms)


async def auto_join(tools: Tools, work: Work) -> None:
    """Does it. Raises MatrixError if it can't be done; servers that can't be reached are tried again."""
    user_id, address = work.job.target, str(work.job.params["room"])
    try:
        room_id, servers = (address, []) if is_room_id(address) else await _resolve(tools, address)
        await tools.membership.join(room_id, user_id, servers)
    except MatrixError as error:
        log.warning("%s has registered and could not join %s: %s", user_id, address, error)
        raise


async def _resolve(tools: Tools, alias: str) -> tuple[str, list[str]]:
    timeline = tools.membership.timeline
    if domain_of(alias) != timeline.server_name:
        return await tools.membership.remote.query_directory(domain_of(alias), alias)
    async with tools.pool.acquire() as conn:
        room_id = await room_of_alias(conn, alias)
        if room_id is None:
            raise NotFound(f"There is no room {alias}")
        return room_id, await joined_servers(conn, (await timeline.room(room_id)).nid)
