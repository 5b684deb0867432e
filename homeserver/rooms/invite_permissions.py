"""Whether users of this server want the invitations that they get.

# spec: client-server-api/#invite-permission
"""

from __future__ import annotations

from homeserver.protocol.canonical_json import decode_json
from homeserver.protocol.errors import Forbidden
from homeserver.protocol.invite_permissions import ACCOUNT_DATA_TYPES, InviteDecision, decide_invite
from homeserver.storage.account_data import global_account_data_of
from homeserver.storage.stream import Connection


async def invite_decision(conn: Connection, inviter: str, invited: str) -> InviteDecision:
    """What a user of this server wants to become of the invitation."""
    found = await global_account_data_of(conn, invited, ACCOUNT_DATA_TYPES)
    return decide_invite(inviter, {type: decode_json(content) for type, content in found.items()})


async def check_invite_wanted(conn: Connection, inviter: str, invited: str) -> None:
    """Checks that a user of this server does not block the invitation. One that they ignore passes: sync hides it.

    :raises Forbidden: M_INVITE_BLOCKED if they do
    """
    if await invite_decision(conn, inviter, invited) is InviteDecision.BLOCK:
        raise Forbidden(f"{invited} does not accept this invitation", errcode="M_INVITE_BLOCKED")
