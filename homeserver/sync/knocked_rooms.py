"""The rooms that the user has knocked at.

# spec: client-server-api/#get_matrixclientv3sync rooms.knock
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.protocol.events import JsonObject
from homeserver.storage.events import events_by_nid
from homeserver.storage.members import Membership
from homeserver.sync.stripped_rooms import stripped_rooms
from homeserver.sync.view import View


async def complete(view: View) -> JsonObject:
    """room_id -> section of every knock."""
    return await _sections(view, list(view.knocked.values()))


async def incremental(view: View, since: int) -> JsonObject:
    """The same for knocks since."""
    return await _sections(view, [row for row in view.knocked.values() if row.pos > since])


async def _sections(view: View, rows: Sequence[Membership]) -> JsonObject:
    if not rows:
        return {}
    knocks = await events_by_nid(view.conn, [row.event_nid for row in rows])
    stripped = await stripped_rooms(view, rows, knocks)
    return {view.rooms[row.room_nid].room_id: {"knock_state": {"events": stripped[row.room_nid]}} for row in rows}
