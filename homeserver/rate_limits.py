"""Token buckets: how often something may be done.

They live in the memory of this process: they need not survive a restart, and a limit that is a little too generous
after one harms nobody. A bucket is one number, the time at which it will be full again.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from homeserver.protocol.errors import LimitExceeded

if TYPE_CHECKING:
    from homeserver.config import RateLimit, RateLimitsConfig

_SWEEP_AFTER = 10_000  # uses between two sweeps of the buckets that are full again


class RateLimits:
    """The limits of `config.rate_limits`, each for any number of users or addresses."""

    def __init__(self, config: RateLimitsConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._full_at: dict[tuple[str, str], float] = {}
        self._uses = 0

    def use(self, name: str, key: str, times: int = 1, *, instead: RateLimit | None = None) -> None:
        """Counts one use of the limit `name` by `key`, a user id or what `address_key` made of an address. Of more
        uses at once no more are counted than the limit can ever allow: who waits long enough may.

        :param instead: what holds for this key instead of what the configuration says
        :raises LimitExceeded: if that is one too many; it is not counted then
        """
        limit = (instead or getattr(self._config, name)) if self._config.enabled else None
        if limit is None:
            return
        now = self._clock()
        self._sweep(now)
        # Another limit has another bucket: what was used up of one says nothing about the other.
        bucket = (name if instead is None else f"{name} of its own", key)
        full_at = max(now, self._full_at.get(bucket, now)) + min(times, limit.burst) / limit.per_second
        wait = full_at - now - limit.burst / limit.per_second
        # Sums of 1/rate come out a hair above burst/rate.
        if wait > 1e-6:
            raise LimitExceeded("Too many requests", retry_after_ms=math.ceil(wait * 1000))
        self._full_at[bucket] = full_at

    def _sweep(self, now: float) -> None:
        self._uses += 1
        if self._uses >= _SWEEP_AFTER:
            self._uses = 0
            self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}


def address_key(address: str) -> str:
    """What counts as one address: IPv4 addresses one by one, of IPv6 the /64, which one household has whole."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
