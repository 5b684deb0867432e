"""One sign-in, from leaving for a provider to coming back.

It is bound to the browser in which it was begun: an answer that somebody got for themselves and planted in another's
browser finds nothing there (login CSRF). It is used once, whatever comes of it, and forgotten after a while.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from homeserver.accounts.single_sign_on.provider import Identity, Login, Provider, SingleSignOnFailed
from homeserver.storage import single_sign_on
from homeserver.storage.single_sign_on import Newcomer, PendingLogin
from homeserver.storage.stream import Connection, Pool
from homeserver.translations import mark

log = logging.getLogger(__name__)

_LIFETIME_MS = 15 * 60 * 1000
_EXPIRE_EVERY = 600.0  # seconds


@dataclass(frozen=True, slots=True)
class Finished:
    """Somebody has come back. `link_to` is the account to which they add this way to sign in, if that was the wish."""

    identity: Identity
    link_to: int | None
    continue_to: str


async def begin(
    pool: Pool,
    provider: Provider,
    *,
    browser: str,
    redirect_uri: str,
    continue_to: str,
    link_to: int | None = None,
    again: bool = False,
) -> str:
    """Begins a sign-in.

    :param browser: the token that the browser holds, or will hold
    :param continue_to: where to go when it is done
    :param link_to: whose account is to be linked, instead of signing in
    :param again: whether to prove it anew even if one is signed in there
    :returns: where to send the browser
    :raises SingleSignOnFailed: if the provider can't be used now
    """
    login = Login(secrets.token_urlsafe(32), secrets.token_urlsafe(24), secrets.token_urlsafe(48), redirect_uri)
    address = await provider.address(login, again=again)
    expires_ts = _now_ms() + _LIFETIME_MS
    pending = PendingLogin(
        provider.config.id, _browser_hash(browser), login.nonce, login.code_verifier, link_to, continue_to, expires_ts
    )
    async with pool.acquire() as conn:
        await single_sign_on.insert_login(conn, _hash(login.state), pending)
    return address


async def finish(
    pool: Pool, provider: Provider, *, browser: str, redirect_uri: str, answer: Mapping[str, str]
) -> Finished:
    """Ends a sign-in with what the browser came back with.

    :raises SingleSignOnFailed: if it was not begun in this browser or at this provider, has been used or is too old, or
        if the provider does not confirm it
    """
    state = answer.get("state", "")
    async with pool.acquire() as conn:
        pending = await single_sign_on.use_login(conn, _hash(state), provider.config.id, _browser_hash(browser))
    if pending is None or pending.expires_ts < _now_ms():
        raise SingleSignOnFailed(mark("This sign-in was not begun in this browser, or took too long. Try once more."))
    login = Login(state, pending.nonce, pending.code_verifier, redirect_uri)
    return Finished(await provider.identify(login, answer), pending.link_to, pending.continue_to)


async def remember_newcomer(
    conn: Connection, browser: str, provider_id: str, identity: Identity, continue_to: str
) -> None:
    """Remembers who sits at a browser until they have chosen a user name."""
    newcomer = Newcomer(provider_id, identity.json(), continue_to, _now_ms() + _LIFETIME_MS)
    await single_sign_on.put_newcomer(conn, _browser_hash(browser), newcomer)


async def find_newcomer(conn: Connection, browser: str, *, use: bool = False) -> tuple[Newcomer, Identity] | None:
    """Who sits at a browser and has no account yet. With `use`, which needs a transaction, it is said only once."""
    newcomer = await single_sign_on.find_newcomer(conn, _browser_hash(browser), use=use)
    if newcomer is None or newcomer.expires_ts < _now_ms():
        return None
    return newcomer, Identity(**newcomer.identity)


async def expire_now_and_then(pool: Pool) -> None:
    """Forgets sign-ins that nobody has finished, for ever."""
    while True:
        try:
            async with pool.acquire() as conn:
                await single_sign_on.delete_expired(conn, _now_ms())
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            log.warning("Could not forget old sign-ins: %s", error)
        await asyncio.sleep(_EXPIRE_EVERY)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _browser_hash(token: str) -> bytes:
    # Another than what sessions are stored by: whoever reads one table learns nothing about the other.
    return hmac.new(b"single sign-on", token.encode(), "sha256").digest()


def _now_ms() -> int:
    return int(time.time() * 1000)
