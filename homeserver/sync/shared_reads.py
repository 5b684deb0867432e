"""Reads that many readers make alike: those woken by one event all ask for the same events of the same room.

What was read is shared among the readers of one position, while they read: the first asks the database, the others
wait for its answer. A reader of a later position clears everything, so nothing is ever older than the position it is
read for; for a reader of an earlier one nothing is kept. Values are shared and must not be modified.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from homeserver.storage.stream import Stream

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_MOST = 10_000  # values that are kept at a time


class SharedReads:
    """What has been read for one position, or is being read just now."""

    def __init__(self) -> None:
        self._until = -1
        self._found: dict[Any, asyncio.Future[Any]] = {}

    async def get(self, until: int, keys: Sequence[K], read: Callable[[list[K]], Awaitable[dict[K, V]]]) -> dict[K, V]:
        """The values of these keys for a reader of position `until`.

        :param keys: what a value is, whoever asks; without repetitions
        :param read: reads the values of some of the keys, every one of them
        """
        if not keys:
            return {}
        if until > self._until or len(self._found) > _MOST:
            self._until, self._found = until, {}
        if until < self._until:
            return await read(list(keys))
        found = self._found
        shared = {key: future for key in keys if (future := found.get(key)) is not None}
        mine = [key for key in keys if key not in shared]
        values = await self._read(found, mine, read) if mine else {}
        if shared:
            await asyncio.wait(shared.values())
            failed = [key for key, future in shared.items() if future.cancelled()]
            values.update((key, future.result()) for key, future in shared.items() if not future.cancelled())
            if failed:  # whoever read has gone, or the database has; that is not for this reader to suffer
                values.update(await read(failed))
        return values

    async def _read(
        self, found: dict[Any, asyncio.Future[Any]], keys: list[K], read: Callable[[list[K]], Awaitable[dict[K, V]]]
    ) -> dict[K, V]:
        futures: dict[K, asyncio.Future[V]] = {key: asyncio.get_running_loop().create_future() for key in keys}
        found.update(futures)
        try:
            values = await read(keys)
            for key, future in futures.items():
                future.set_result(values[key])
            return values
        except BaseException:
            for key, future in futures.items():
                future.cancel()
                del found[key]
            raise


_of_streams: WeakKeyDictionary[Stream, SharedReads] = WeakKeyDictionary()


def shared_reads(stream: Stream) -> SharedReads:
    """Those of the readers of this stream."""
    return _of_streams.setdefault(stream, SharedReads())
