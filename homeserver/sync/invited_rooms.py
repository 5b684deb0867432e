"""The rooms that the user is invited to, unless by someone whom they ignore or whose invitations they don't want.

# spec: client-server-api/#get_matrixclientv3sync rooms.invite
# spec: client-server-api/#ignoring-users  client-server-api/#invite-permission
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.protocol.canonical_json import decode_json
from homeserver.protocol.events import JsonObject
from homeserver.protocol.invite_permissions import ACCOUNT_DATA_TYPES, InviteDecision, decide_invite
from homeserver.storage.account_data import global_account_data_of
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
    found = await global_account_data_of(view.conn, view.reader.user_id, ACCOUNT_DATA_TYPES)
    permissions = {type: decode_json(content) for type, content in found.items()}
    wanted = [
        row
        for row in rows
        if (invite := invites.get(row.event_nid)) is None
        or decide_invite(invite.event.sender, permissions) is InviteDecision.ALLOW
    ]
    stripped = await stripped_rooms(view, wanted, invites)
    return {view.rooms[row.room_nid].room_id: {"invite_state": {"events": stripped[row.room_nid]}} for row in wanted}
