"""How often secrets may be tried: limits that survive a restart and that all processes share.

An attempt is counted before the secret is checked, so that a thousand at once are no more than one after the other, and
given back when it succeeds. It is counted twice: for the address that it comes from, and for the account that it is
about, so that one account can be attacked from many addresses no faster than from one. An attacker could use that to
lock the owner out; therefore whoever comes from an address from which that account has been logged in to lately is
counted apart, by account and address together, and neither of the two other limits holds there.

Whether there is such an account makes no difference to any of this.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from homeserver.config import RateLimit, RateLimitsConfig
from homeserver.protocol.errors import Forbidden, LimitExceeded
from homeserver.protocol.identifiers import is_user_id
from homeserver.rate_limits import address_key
from homeserver.storage import rate_limits
from homeserver.storage.accounts import find_account
from homeserver.storage.stream import Connection, Pool

log = logging.getLogger(__name__)

_KNOWN_FOR_MS = 90 * 24 * 3600 * 1000
_ADDRESSES_KEPT = 50  # for each account
_SWEEP_EVERY = 600.0  # seconds


class LoginAttempts:
    """The limits of `config` that must hold across restarts and processes: login, registration, recovery, code."""

    def __init__(self, pool: Pool, config: RateLimitsConfig) -> None:
        self._pool = pool
        self._config = config

    async def check(self, address: str, user_id: str, *, name: str = "login") -> None:
        """Counts an attempt to prove that one is `user_id`. Call it before the secret is looked at.

        :param address: where it comes from, as `ApiRequest.client_address` has it; "" if that is unknown
        :param user_id: whoever the attempt is about, whether or not there is such a user
        :param name: the limit, `login` or `code`
        :raises LimitExceeded: if it is one too many; it is not counted then
        """
        limit = self._limit(name)
        if limit is None:
            return
        async with self._pool.acquire() as conn, conn.transaction():
            for bucket in await self._buckets(conn, name, address, user_id):
                await _take(conn, bucket, limit)

    async def failed(self, address: str, user_id: str, *, name: str = "login") -> None:
        """The attempt was wrong: it stays counted, and the operator may read about it.

        The name is told only if it is somebody's here: people type passwords where names belong.
        """
        whose = "nobody"
        if is_user_id(user_id):
            async with self._pool.acquire() as conn:
                whose = user_id if await find_account(conn, user_id) is not None else whose
        log.info("A wrong secret for %s from %s (%s)", whose, address or "an unknown address", name)

    async def succeeded(self, address: str, user_id: str, *, name: str = "login") -> None:
        """The attempt was right: it does not count, and the address is known from now on.

        :param address: and the others: as they were given to `check`
        """
        limit = self._limit(name)
        if limit is None:
            return
        async with self._pool.acquire() as conn:
            for bucket in await self._buckets(conn, name, address, user_id):
                await rate_limits.give_back(conn, bucket, 1000 / limit.per_second)
            if address and is_user_id(user_id):
                now_ms = int(time.time() * 1000)
                await rate_limits.remember_address(conn, user_id, address_key(address), now_ms, _ADDRESSES_KEPT)

    async def use(self, name: str, key: str) -> None:
        """Counts one use of the limit `name` (registration, recovery, code …) by `key`, whatever it is that is counted.

        :raises LimitExceeded: if that is one too many; it is not counted then
        """
        limit = self._limit(name)
        if limit is not None:
            async with self._pool.acquire() as conn:
                await _take(conn, rate_limits.bucket_key(name, key), limit)

    @asynccontextmanager
    async def attempt(self, address: str, user_id: str, *, name: str = "login") -> AsyncIterator[None]:
        """`check` before the block, in which the secret is looked at; then `succeeded`, or `failed` if it is Forbidden.

        :raises LimitExceeded: as `check` does
        """
        await self.check(address, user_id, name=name)
        try:
            yield
        except Forbidden:
            await self.failed(address, user_id, name=name)
            raise
        await self.succeeded(address, user_id, name=name)

    @asynccontextmanager
    async def guess(self, name: str, key: str) -> AsyncIterator[None]:
        """One use of the limit `name` by `key` that is given back unless the block raises Forbidden.

        :raises LimitExceeded: as `use` does
        """
        await self.use(name, key)
        try:
            yield
        except Forbidden:
            raise
        except BaseException:
            await self._give_back(name, key)
            raise
        await self._give_back(name, key)

    async def sweep(self) -> None:
        """Forgets what counts no more."""
        async with self._pool.acquire() as conn:
            await rate_limits.delete_full(conn)
            await rate_limits.delete_old_addresses(conn, int(time.time() * 1000) - _KNOWN_FOR_MS)

    async def sweep_now_and_then(self) -> None:
        """Does that for ever."""
        while True:
            await asyncio.sleep(_SWEEP_EVERY)
            try:
                await self.sweep()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                log.warning("Could not forget limits that are full again: %s", error)

    async def _give_back(self, name: str, key: str) -> None:
        limit = self._limit(name)
        if limit is not None:
            async with self._pool.acquire() as conn:
                await rate_limits.give_back(conn, rate_limits.bucket_key(name, key), 1000 / limit.per_second)

    def _limit(self, name: str) -> RateLimit | None:
        limit: RateLimit | None = getattr(self._config, name)
        return limit if self._config.enabled else None

    async def _buckets(self, conn: Connection, name: str, address: str, user_id: str) -> list[bytes]:
        """What an attempt counts for. Always in one order, so that two at once never wait for each other."""
        place = address_key(address)
        since_ms = int(time.time() * 1000) - _KNOWN_FOR_MS
        if place and is_user_id(user_id) and await rate_limits.is_known_address(conn, user_id, place, since_ms):
            return [rate_limits.bucket_key(name, f"{user_id} {place}")]
        return [rate_limits.bucket_key(name, key) for key in (place, user_id) if key]


async def _take(conn: Connection, bucket: bytes, limit: RateLimit) -> None:
    wait_ms = await rate_limits.take(conn, bucket, 1000 / limit.per_second, limit.burst)
    if wait_ms:
        raise LimitExceeded("Too many requests", retry_after_ms=math.ceil(wait_ms))
