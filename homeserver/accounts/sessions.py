"""Sessions: a device and the access token that it has.

# spec: client-server-api/#relationship-between-access-tokens-and-devices
"""

from __future__ import annotations

import secrets
import string
import time
from dataclasses import dataclass

from homeserver.accounts.moderation import check_may_sign_in
from homeserver.storage.access_tokens import hash_token, replace_token
from homeserver.storage.devices import ensure_device
from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class Session:
    device_id: str
    access_token: str


async def open_session(
    conn: Connection, user_nid: int, *, device_id: str | None = None, display_name: str | None = None
) -> Session:
    """A new access token for a device, which is made if need be. Any token that it had ends. Inside a transaction.

    :param display_name: for a device that is made; one that exists keeps its own
    :raises Unauthorized: M_USER_LOCKED
    :raises Forbidden: M_USER_DEACTIVATED
    """
    await check_may_sign_in(conn, user_nid)
    device_id = device_id or _new_device_id()
    access_token = f"tpai_{secrets.token_urlsafe(32)}"
    now_ms = int(time.time() * 1000)
    await ensure_device(conn, user_nid, device_id, display_name=display_name, now_ms=now_ms)
    await replace_token(conn, user_nid, device_id, hash_token(access_token), now_ms=now_ms)
    return Session(device_id, access_token)


def _new_device_id() -> str:
    return "".join(secrets.choice(string.ascii_uppercase) for _ in range(12))
