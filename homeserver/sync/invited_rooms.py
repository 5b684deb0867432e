"""The rooms that the user is invited to, unless by someone whom they ignore.

# spec: client-server-api/#get_matrixclientv3sync rooms.invite
# spec: client-server-api/#ignoring-users
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.protocol.events import JsonObject
from homeserver.storage.events import events_by_nid
from homeserver.storage.members import Membership
from homeserver.sync.stripped_rooms import stripped_rooms
from homeserver.sync.view import View


async def complete(view: View) -> JsonObject:
    """room_id -> section of every invitation."""
    return await _sections(view, list(view.invited.values()))


async def incremental(view: View, since: int) -> JsonObject:
    """The same for invitations that came since."""
    return await _sections(view, [row for row in view.invited.values() if row.pos > since])


async def _sections(view: View, rows: Sequence[Membership]) -> JsonObject:
    if not rows:
        return {}
    invites = await events_by_nid(view.conn, [row.event_nid for row in rows])
    wanted = [
        row
        for row in rows
        if (invite := invites.get(row.event_nid)) is None or invite.event.sender not in view.ignored_ids
    ]
    stripped = await stripped_rooms(view, wanted, invites)
    return {view.rooms[row.room_nid].room_id: {"invite_state": {"events": stripped[row.room_nid]}} for row in wanted}
