"""Where two devices meet to sign one of them in, before it is signed in: a place for one small text at a time.

Whoever knows the id may read, replace and delete it. What the devices say there is encrypted by them; all that this
server does is to keep it small and short-lived, and to let no write be lost unseen: whoever writes says which text they
have seen.

# spec: msc/4388#insecure-rendezvous-session
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time

from homeserver.protocol.errors import LimitExceeded, NotFound, TooLarge
from homeserver.storage import rendezvous
from homeserver.storage.rendezvous import RendezvousSession
from homeserver.storage.stream import Connection

MAX_BYTES = 4096
LIFETIME_MS = 5 * 60 * 1000
_MOST = 10_000  # sessions at a time
_RETRY_MS = 60 * 1000


class ConcurrentWrite(Exception):
    """Somebody else has written since. `session` is what is there now."""

    def __init__(self, session: RendezvousSession) -> None:
        super().__init__("The session has changed")
        self.session = session


def token_of(session: RendezvousSession) -> str:
    """What names the text that is there now: another one after every write."""
    text = f"{session.rendezvous_id}\n{session.version}\n".encode()
    return base64.urlsafe_b64encode(hashlib.sha256(text + session.data).digest()).rstrip(b"=").decode()


def expires_in_ms(session: RendezvousSession) -> int:
    """How long the session still lasts."""
    return max(0, session.expires_ts - _now_ms())


async def create(conn: Connection, data: bytes, content_type: str) -> RendezvousSession:
    """A new session. Inside a transaction.

    :param content_type: which of the two protocols it is for; each sees only its own
    :raises TooLarge: for more than 4 KiB
    :raises LimitExceeded: if there are too many
    """
    _check_size(data)
    now_ms = _now_ms()
    if await rendezvous.count_sessions(conn, now_ms) >= _MOST:
        raise LimitExceeded("Too many devices are being signed in", retry_after_ms=_RETRY_MS)
    # spec: msc/4388#maximum-duration-of-a-rendezvous
    new = RendezvousSession(secrets.token_urlsafe(24), data, 1, now_ms, now_ms + LIFETIME_MS)
    await rendezvous.insert_session(
        conn, new.rendezvous_id, data, content_type, now_ms=now_ms, expires_ts=new.expires_ts
    )
    return new


async def read(conn: Connection, rendezvous_id: str, content_type: str) -> RendezvousSession:
    """:raises NotFound: if there is no such session (any more)"""
    session = await rendezvous.find_session(conn, rendezvous_id, content_type, _now_ms())
    if session is None:
        raise _no_such_session()
    return session


async def write(
    conn: Connection, rendezvous_id: str, content_type: str, data: bytes, *, seen: str | None, again: bool
) -> RendezvousSession:
    """Replaces what is there. Inside a transaction.

    :param seen: the token of the text that the writer has seen
    :param again: whether the same text once more is taken for a retry and changes nothing
    :raises NotFound: if there is no such session (any more)
    :raises ConcurrentWrite: if another text is there now
    :raises TooLarge: for more than 4 KiB
    """
    _check_size(data)
    session = await rendezvous.find_session(conn, rendezvous_id, content_type, _now_ms(), lock=True)
    if session is None:
        raise _no_such_session()
    if seen != token_of(session):
        if again and session.data == data:
            return session
        raise ConcurrentWrite(session)
    return await rendezvous.update_session(conn, rendezvous_id, data, _now_ms())


async def delete(conn: Connection, rendezvous_id: str, content_type: str) -> None:
    """:raises NotFound: if there is no such session (any more)"""
    if not await rendezvous.delete_session(conn, rendezvous_id, content_type, _now_ms()):
        raise _no_such_session()


def _check_size(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise TooLarge(f"More than {MAX_BYTES} bytes are not kept here")


def _no_such_session() -> NotFound:
    return NotFound("There is no such rendezvous session (any more)")


def _now_ms() -> int:
    return int(time.time() * 1000)
