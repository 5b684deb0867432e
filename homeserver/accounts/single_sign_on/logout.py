"""The end of sessions that a provider reports (OpenID Connect back-channel logout)."""

from __future__ import annotations

import hashlib

from homeserver.accounts.single_sign_on.provider import Logout, Provider
from homeserver.devices.device_lists import mark_changed
from homeserver.storage import single_sign_on
from homeserver.storage.devices import delete_all_devices
from homeserver.storage.stream import Stream


async def end_sessions(stream: Stream, provider: Provider, logout: Logout) -> set[int]:
    """Ends what hangs on a session that has ended there, as the operator has said. A report counts once.

    :returns: the numbers of the users whose sessions ended
    """
    config = provider.config
    if config.logout == "off":
        return set()
    token_hash = hashlib.sha256(logout.token.encode()).digest()
    async with stream.write() as write:
        if not await single_sign_on.use_logout_token(write.conn, token_hash, logout.expires_ts):
            return set()
        ended = await single_sign_on.end_browser_sessions(write.conn, config.id, logout.subject, logout.session_id)
        if config.logout == "browser":
            return ended
        if logout.subject is not None:
            user_nid = await single_sign_on.find_user(write.conn, config.id, logout.subject)
            ended |= {user_nid} if user_nid is not None else set()
        for user_nid in sorted(ended):
            gone = await delete_all_devices(write.conn, user_nid)
            if gone:
                await mark_changed(write, user_nid, gone)
        return ended
