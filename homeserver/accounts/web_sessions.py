"""The session of a browser at the server's own pages: sign-in, consent, account.

The browser holds a random token in a cookie, the database its hash. Every sign-in makes a new token, so that one which
was planted before is worth nothing after. A session ends by itself when it is idle for too long or simply too old, and
with sign-out, another password, the end of the account, and whenever all of an account's devices are signed out.

While a second factor is due there is a session already, which proves only that the password was right: it is good for
minutes and counts as signed in nowhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time

import asyncpg

from homeserver.config.web import WebConfig
from homeserver.storage import web_sessions
from homeserver.storage.stream import Connection, Pool
from homeserver.storage.web_sessions import WebSession

log = logging.getLogger(__name__)

_HALF_WAY_MS = 10 * 60 * 1000  # how long the second factor may take
_FRESH_MS = 15 * 60 * 1000  # how long a proof is good enough for something grave
_WORTH_WRITING_MS = 5 * 60 * 1000  # a session that was seen this recently is not written again
_TOKEN_LENGTH = 43
_EXPIRE_EVERY = 3600.0  # seconds


def new_token() -> str:
    """What a browser's cookie holds: 256 random bits. Good for forms already before anyone signs in."""
    return secrets.token_urlsafe(32)


def is_token(text: str) -> bool:
    """Whether `text` could be a token. Nothing else is looked up."""
    return len(text) == _TOKEN_LENGTH and text.isascii() and text.replace("-", "").replace("_", "").isalnum()


async def start_session(
    conn: Connection, user_nid: int, *, instead_of: str = "", second_factor_due: bool = False, keep: bool = False
) -> str:
    """Signs a browser in. Inside a transaction.

    :param instead_of: the token that the browser held before, whose session ends
    :param second_factor_due: whether only the password has been proved
    :param keep: whether the browser is to keep the token when it is closed
    :returns: the new token
    """
    token, now_ms = new_token(), _now_ms()
    if instead_of:
        await web_sessions.delete_session(conn, token_hash(instead_of))
    authenticated_ts = None if second_factor_due else now_ms
    await web_sessions.insert_session(
        conn, token_hash(token), user_nid, now_ms=now_ms, authenticated_ts=authenticated_ts, keep=keep
    )
    return token


async def renew_session(conn: Connection, token: str) -> str | None:
    """The user of a session has proved once more, or with the second factor, who they are. Inside a transaction.

    :returns: the new token; None if the session has ended meanwhile
    """
    renewed = new_token()
    done = await web_sessions.renew_session(conn, token_hash(token), token_hash(renewed), _now_ms())
    return renewed if done else None


async def find_session(conn: Connection, config: WebConfig, token: str) -> WebSession | None:
    """The session of a browser, signed in or half way there. None if it has ended or there never was one."""
    if not is_token(token):
        return None
    session = await web_sessions.find_session(conn, token_hash(token))
    if session is None:
        return None
    now_ms = _now_ms()
    if (
        session.last_seen_ts < now_ms - _idle_ms(config)
        or session.created_ts < now_ms - _lifetime_ms(config)
        or (session.authenticated_ts is None and session.created_ts < now_ms - _HALF_WAY_MS)
    ):
        return None
    if session.last_seen_ts < now_ms - _WORTH_WRITING_MS:
        await web_sessions.update_last_seen(conn, session.token_hash, now_ms)
    return session


def is_fresh(session: WebSession) -> bool:
    """Whether the user has proved recently enough who they are to do something grave."""
    return session.authenticated_ts is not None and session.authenticated_ts > _now_ms() - _FRESH_MS


async def end_session(conn: Connection, token: str) -> None:
    """Signs a browser out."""
    await web_sessions.delete_session(conn, token_hash(token))


async def expire_sessions(pool: Pool, config: WebConfig) -> None:
    """Forgets sessions that have ended by themselves."""
    now_ms = _now_ms()
    async with pool.acquire() as conn:
        await web_sessions.delete_old_sessions(
            conn, seen_before=now_ms - _idle_ms(config), created_before=now_ms - _lifetime_ms(config)
        )


async def expire_sessions_now_and_then(pool: Pool, config: WebConfig) -> None:
    """Does that for ever."""
    while True:
        try:
            await expire_sessions(pool, config)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            log.warning("Could not forget old browser sessions: %s", error)
        await asyncio.sleep(_EXPIRE_EVERY)


def _idle_ms(config: WebConfig) -> int:
    return config.session_idle_hours * 3600 * 1000


def _lifetime_ms(config: WebConfig) -> int:
    return config.session_lifetime_days * 24 * 3600 * 1000


def token_hash(token: str) -> bytes:
    """What the database has of a token."""
    return hashlib.sha256(token.encode()).digest()


def _now_ms() -> int:
    return int(time.time() * 1000)
