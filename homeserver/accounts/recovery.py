"""Getting back into an account whose password is lost, by a link in a mail to one of its addresses.

    request_recovery  queues the mail, if there is an account; nobody can tell
    find_recovery     whose account a link is for; changes nothing, so that a page may ask
    use_recovery      sets the new password and uses all links of the account up

A link is good for an hour and once. Another password does not take the place of a second factor: who signs in with it
is still asked for that.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from urllib.parse import urlencode

from homeserver.accounts.notices import notify_password_changed
from homeserver.accounts.password import set_password
from homeserver.config import Config
from homeserver.mail import Mail, queue_mail
from homeserver.protocol.errors import BadRequest
from homeserver.protocol.threepids import EMAIL
from homeserver.storage import recovery_tokens
from homeserver.storage.stream import Connection
from homeserver.storage.threepids import find_user_nid
from homeserver.storage.users import find_user_id

RECOVERY_PATH = "/account/recovery/new-password"
"""Where the link in the mail leads, with ?token=…"""

_LIFETIME_MS = 60 * 60 * 1000
_MAX_TOKEN = 255


async def request_recovery(conn: Connection, email: str, *, language: str = "en") -> None:
    """Queues a mail with a link for the account of that address. In a transaction.

    Where there is no such account the same statements run, and no mail goes out.

    :param email: in its canonical form
    """
    now_ms = _now_ms()
    await recovery_tokens.delete_expired_recovery_tokens(conn, now_ms)
    user_nid = await find_user_nid(conn, EMAIL, email)
    user_id = await find_user_id(conn, user_nid if user_nid is not None else 0)
    token = secrets.token_urlsafe(32)
    await recovery_tokens.insert_recovery_token(
        conn, _hash(token), user_nid, created_ts=now_ms, expires_ts=now_ms + _LIFETIME_MS
    )
    values = {"user_id": user_id or "", "path": f"{RECOVERY_PATH}?{urlencode({'token': token})}"}
    await queue_mail(conn, Mail(email, "recovery", language, values, _LIFETIME_MS), pretend=user_id is None)


async def find_recovery(conn: Connection, token: str) -> str | None:
    """The user whose account the link recovers; None for a link that is wrong, used or too old."""
    if len(token) > _MAX_TOKEN:
        return None
    user_nid = await recovery_tokens.find_recovery_token(conn, _hash(token), _now_ms())
    return await find_user_id(conn, user_nid) if user_nid is not None else None


async def use_recovery(
    conn: Connection,
    config: Config,
    token: str,
    password_hash: str,
    *,
    logout_devices: bool = True,
    language: str = "en",
) -> tuple[int, list[str]]:
    """Sets the new password. Inside a transaction; afterwards `Write.conn`'s owner announces the devices that are gone.

    :param password_hash: of a password that has been checked and hashed before
    :returns: the user, and the devices whose sessions have ended
    :raises BadRequest: (M_TOKEN_INCORRECT) for a link that is wrong, used or too old
    :raises NotFound: for an account that has been deactivated since
    """
    user_nid = None
    if len(token) <= _MAX_TOKEN:
        user_nid = await recovery_tokens.take_recovery_token(conn, _hash(token), _now_ms())
    user_id = await find_user_id(conn, user_nid) if user_nid is not None else None
    if user_nid is None or user_id is None:
        raise BadRequest("This link is wrong, has been used or has expired", errcode="M_TOKEN_INCORRECT")
    await recovery_tokens.delete_recovery_tokens(conn, user_nid)
    gone = await set_password(conn, user_id=user_id, password_hash=password_hash, logout_devices=logout_devices)
    await notify_password_changed(conn, config, user_nid, language=language)
    return user_nid, gone


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _now_ms() -> int:
    return int(time.time() * 1000)
