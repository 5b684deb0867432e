"""Making, changing and revoking the tokens that let people register, with a row of the audit log each.

The log never has a whole token: whoever reads it can't register with what it says.
"""

from __future__ import annotations

import re
import secrets
import time

from homeserver.protocol.errors import InvalidParam, NotFound
from homeserver.storage import audit_log
from homeserver.storage.audit_log import Actor
from homeserver.storage.registration_token_lists import RegistrationToken, delete_token, find_token, update_token
from homeserver.storage.registration_tokens import insert_token
from homeserver.storage.stream import Connection

# spec: client-server-api/#token-authenticated-registration
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,64}", re.ASCII)
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-"


async def make_token(
    conn: Connection,
    actor: Actor,
    *,
    token: str | None = None,
    length: int = 16,
    uses_allowed: int | None = None,
    expires_ts: int | None = None,
) -> RegistrationToken:
    """Makes a token, of this text or of that many random characters. Inside a transaction or not.

    :param expires_ts: when it ends, in milliseconds
    :raises InvalidParam: if the text is no token or there is one already, or the time is past
    """
    _check_time(expires_ts)
    if token is None:
        token = "".join(secrets.choice(_ALPHABET) for _ in range(length))
    if not _TOKEN.fullmatch(token):
        raise InvalidParam("A token has 1 to 64 of the characters A-Z a-z 0-9 . _ ~ -")
    async with conn.transaction():
        if not await insert_token(conn, token, uses_allowed=uses_allowed, expires_ts=expires_ts):
            raise InvalidParam("Token already exists")
        details = {"uses_allowed": uses_allowed, "expires_ts": expires_ts}
        await audit_log.append(conn, actor, "registration_token.make", _shown(token), details)
    return RegistrationToken(token, uses_allowed, 0, 0, expires_ts)


async def change_token(
    conn: Connection,
    actor: Actor,
    token: str,
    *,
    uses_allowed: int | None,
    expires_ts: int | None,
) -> RegistrationToken:
    """Sets both limits. Inside a transaction or not.

    :raises NotFound: if there is no such token
    :raises InvalidParam: if the time is past
    """
    _check_time(expires_ts)
    async with conn.transaction():
        changed = await update_token(conn, token, uses_allowed=uses_allowed, expires_ts=expires_ts)
        if changed is None:
            raise _unknown()
        details = {"uses_allowed": uses_allowed, "expires_ts": expires_ts}
        await audit_log.append(conn, actor, "registration_token.change", _shown(token), details)
    return changed


async def revoke_token(conn: Connection, actor: Actor, token: str) -> None:
    """Nobody registers with that token any more. Inside a transaction or not.

    :raises NotFound: if there is no such token
    """
    async with conn.transaction():
        if not await delete_token(conn, token):
            raise _unknown()
        await audit_log.append(conn, actor, "registration_token.revoke", _shown(token), {})


async def token_of(conn: Connection, token: str) -> RegistrationToken:
    """The token. Raises NotFound."""
    found = await find_token(conn, token)
    if found is None:
        raise _unknown()
    return found


def _check_time(expires_ts: int | None) -> None:
    if expires_ts is not None and expires_ts <= int(time.time() * 1000):
        raise InvalidParam("expiry_time must not be in the past")


def _unknown() -> NotFound:
    return NotFound("No such registration token")


def _shown(token: str) -> str:
    return f"{token[: len(token) // 3]}…"
