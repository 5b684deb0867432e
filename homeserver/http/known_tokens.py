"""Access tokens that were looked up a moment ago.

Clients ask many times a second with the same token, and the look-up would be a good part of the cost of most requests.
What is remembered is believed for seconds only, so that whatever ends a session elsewhere (the command line, another
process) takes effect then; what ends one here says so with `forget` and takes effect at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from homeserver.storage.access_tokens import TokenOwner, find_token
from homeserver.storage.names import BoundedCache
from homeserver.storage.stream import Pool

_SECONDS = 3.0
_SIZE = 50_000


class KnownTokens:
    """Whose the tokens are."""

    def __init__(self, pool: Pool, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._known: BoundedCache[bytes, tuple[float, TokenOwner]] = BoundedCache(_SIZE)
        self._forgotten: dict[int, float] = {}  # by user: what was read before that time doesn't count

    async def find(self, token_hash: bytes) -> TokenOwner | None:
        """Whose token it is, None if nobody's."""
        now = self._clock()
        known = self._known.get(token_hash)
        if known is not None and now - _SECONDS < known[0] and known[0] > self._forgotten.get(known[1].user_nid, 0.0):
            return known[1]
        self._known.discard(token_hash)
        async with self._pool.acquire() as conn:
            owner = await find_token(conn, token_hash)
        if owner is not None:
            # With the time before the reading: what is forgotten meanwhile must not come back.
            self._known.set(token_hash, (now, owner))
        return owner

    def forget(self, user_nid: int) -> None:
        """Some token or right of that user has changed. Call it after the commit."""
        now = self._clock()
        self._forgotten[user_nid] = now
        if len(self._forgotten) > _SIZE:
            self._forgotten = {nid: at for nid, at in self._forgotten.items() if at > now - _SECONDS}
