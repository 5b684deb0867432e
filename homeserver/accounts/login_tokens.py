"""Tokens with which somebody who has proved elsewhere who they are logs in once.

They are good for one login and a short time, and kept as hashes.

# spec: client-server-api/#post_matrixclientv1loginget_token
"""

from __future__ import annotations

import secrets
import time

from homeserver.protocol.errors import Forbidden
from homeserver.storage.access_tokens import hash_token
from homeserver.storage.login_tokens import insert_login_token, take_login_token
from homeserver.storage.stream import Connection

LIFETIME_MS = 2 * 60 * 1000


async def create_login_token(conn: Connection, user_nid: int, lifetime_ms: int = LIFETIME_MS) -> str:
    """A token for /login with m.login.token. Good once, for `lifetime_ms`."""
    token = f"tpal_{secrets.token_urlsafe(32)}"
    now_ms = int(time.time() * 1000)
    await insert_login_token(conn, hash_token(token), user_nid, now_ms=now_ms, expires_ts=now_ms + lifetime_ms)
    return token


async def use_login_token(conn: Connection, token: str) -> int:
    """Uses a token up, in the transaction of the login.

    :returns: the number of the user who may log in
    :raises Forbidden: if there is no such token, or it has expired or been used
    """
    user_nid = await take_login_token(conn, hash_token(token), int(time.time() * 1000))
    if user_nid is None:
        # spec: client-server-api/#post_matrixclientv3login
        raise Forbidden("The login token is not valid (any more)")
    return user_nid
