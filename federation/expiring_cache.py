"""A bounded cache whose entries expire, where concurrent look-ups of one key share a single load.

Discovery and the key ring ask other servers on behalf of whoever talks to us. Without the bound a stranger fills the
memory, without the sharing a burst of requests from one server becomes a burst of requests to it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

Load = Callable[[V | None], Awaitable[tuple[V, int]]]


class ExpiringCache(Generic[K, V]):
    """At most `size` entries, the least recently used goes first. `now_ms` is the clock, in milliseconds."""

    def __init__(self, size: int, now_ms: Callable[[], int]) -> None:
        self._size = size
        self._now_ms = now_ms
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._loading: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K, load: Load[V]) -> V:
        """The value of that key, or what `load(expired value or None)` gives: the value and for how many ms it holds.

        A caller that is cancelled doesn't cancel the load for the others. What `load` raises reaches all who wait for
        it and isn't kept.
        """
        entry = self._entries.get(key)
        if entry is not None and entry[1] > self._now_ms():
            self._entries.move_to_end(key)
            return entry[0]
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(self._load(key, entry[0] if entry else None, load))
            task.add_done_callback(_retrieve)
            self._loading[key] = task
        return await asyncio.shield(task)

    def put(self, key: K, value: V, holds_ms: int) -> None:
        """Sets the value of that key for so many milliseconds."""
        self._entries[key] = (value, self._now_ms() + holds_ms)
        self._entries.move_to_end(key)
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def peek(self, key: K) -> V | None:
        """The value of that key, also when it has expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def forget(self, key: K) -> None:
        """Drops the value of that key."""
        self._entries.pop(key, None)

    def __len__(self) -> int:
        return len(self._entries)

    async def _load(self, key: K, previous: V | None, load: Load[V]) -> V:
        try:
            value, holds_ms = await load(previous)
        finally:
            del self._loading[key]
        self.put(key, value, holds_ms)
        return value


def _retrieve(task: asyncio.Task[V]) -> None:
    # When every waiter was cancelled nobody looks at the result; asyncio would report the exception as lost.
    if not task.cancelled():
        task.exception()
