"""Remembered tokens: quick, and never believed after they ended here."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from homeserver.accounts.register import create_account
from homeserver.accounts.sessions import open_session
from homeserver.http.known_tokens import KnownTokens
from homeserver.storage.access_tokens import hash_token
from homeserver.storage.devices import delete_all_devices
from homeserver.storage.pool import create_pool
from homeserver.storage.stream import Pool


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    pool = await create_pool(database, 4)
    yield pool
    await pool.close()


async def _session(pool: Pool) -> tuple[int, bytes]:
    async with pool.acquire() as conn, conn.transaction():
        account = await create_account(conn, server_name="test.example", localpart="alice", password_hash=None)
        session = await open_session(conn, account.user_nid)
    return account.user_nid, hash_token(session.access_token)


async def test_what_ended_here_is_not_believed_any_more(pool: Pool) -> None:
    """After `forget` a token is looked up anew, at once."""
    nid, token = await _session(pool)
    tokens = KnownTokens(pool, _Clock())
    assert await tokens.find(token) is not None
    async with pool.acquire() as conn:
        await delete_all_devices(conn, nid)
    assert await tokens.find(token) is not None
    tokens.forget(nid)
    assert await tokens.find(token) is None
    assert await tokens.find(token) is None


async def test_what_was_read_before_the_end_is_not_kept(pool: Pool) -> None:
    """A look-up that began before a session ended does not bring it back afterwards."""
    nid, token = await _session(pool)
    clock = _Clock()
    tokens = KnownTokens(pool, clock)

    class _SlowPool:
        def acquire(self) -> object:
            tokens.forget(nid)  # the session ends between the beginning of the look-up and its reading
            return pool.acquire()

    tokens._pool = _SlowPool()  # type: ignore[assignment]
    assert await tokens.find(token) is not None
    tokens._pool = pool
    async with pool.acquire() as conn:
        await delete_all_devices(conn, nid)
    assert await tokens.find(token) is None


async def test_what_ended_elsewhere_is_believed_for_seconds_only(pool: Pool) -> None:
    """Nobody need say that a session ended: soon it is noticed anyway."""
    nid, token = await _session(pool)
    clock = _Clock()
    tokens = KnownTokens(pool, clock)
    assert await tokens.find(token) is not None
    async with pool.acquire() as conn:
        await delete_all_devices(conn, nid)
    clock.now += 3
    assert await tokens.find(token) is None


async def test_unknown_tokens_are_not_remembered(pool: Pool) -> None:
    """A token that is made after somebody guessed it in vain works."""
    tokens = KnownTokens(pool, _Clock())
    assert await tokens.find(hash_token("nonsense")) is None
    _, token = await _session(pool)
    assert await tokens.find(token) is not None
