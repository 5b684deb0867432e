"""The mail about a new device: how the owner of an account learns that somebody else has signed in."""

from __future__ import annotations

import time

from homeserver.accounts.notices import notify_new_device
from homeserver.config import Config
from homeserver.storage.accounts import find_account_by_nid
from homeserver.storage.devices import count_devices
from homeserver.storage.stream import Connection

_JUST_MADE_MS = 60 * 60 * 1000


async def notify_if_unexpected(
    conn: Connection, config: Config, user_nid: int, *, device: str, address: str, language: str
) -> None:
    """A device has just been made by a login; in its transaction. The owner is told by mail, unless it is the first of
    an account that is just being set up: whoever does that needs no mail about it.

    :param device: what the device is called
    :param address: where the login came from; "" if that is unknown
    """
    if config.email.host is None:
        return
    account = await find_account_by_nid(conn, user_nid)
    if account is None:
        return
    just_made = account.created_ts > int(time.time() * 1000) - _JUST_MADE_MS
    if just_made and await count_devices(conn, user_nid) == 1:
        return
    await notify_new_device(conn, config, user_nid, device=device, address=address, language=language)
