"""Who must look again: wake-ups after a commit.

A wake-up carries no data and may be lost without harm: what must reach someone is a row in the database, and whoever is
woken reads it there. Readers subscribe before they read, so that nothing falls between reading and waiting.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress


class Subscription:
    """One waiting reader. Wakes for the rooms and users it was opened for; `add_rooms` widens it."""

    __slots__ = ("_changes", "_event", "_rooms", "_users")

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._event = asyncio.Event()
        self._rooms: set[int] = set()
        self._users: set[int] = set()

    def add_rooms(self, room_nids: Collection[int]) -> None:
        for nid in room_nids:
            if nid not in self._rooms:
                self._rooms.add(nid)
                self._changes._by_room[nid].add(self)

    def add_users(self, user_nids: Collection[int]) -> None:
        for nid in user_nids:
            if nid not in self._users:
                self._users.add(nid)
                self._changes._by_user[nid].add(self)

    def wake(self) -> None:
        self._event.set()

    async def wait(self, timeout: float) -> bool:
        """Waits until something changed since the last call (or since opening), at most `timeout` seconds.

        :returns: whether something changed
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._event.wait()
        woken = self._event.is_set()
        self._event.clear()
        return woken

    def close(self) -> None:
        for table, nids in ((self._changes._by_room, self._rooms), (self._changes._by_user, self._users)):
            for nid in nids:
                table[nid].discard(self)
                if not table[nid]:
                    del table[nid]
        self._rooms, self._users = set(), set()


class Changes:
    """The wake-ups of one process."""

    def __init__(self) -> None:
        self._by_room: defaultdict[int, set[Subscription]] = defaultdict(set)
        self._by_user: defaultdict[int, set[Subscription]] = defaultdict(set)
        self._listeners: list[Callable[[], None]] = []

    @contextmanager
    def subscribe(self, *, rooms: Collection[int] = (), users: Collection[int] = ()) -> Iterator[Subscription]:
        """Opens a subscription. Open it, then read, then `wait`."""
        subscription = Subscription(self)
        subscription.add_rooms(rooms)
        subscription.add_users(users)
        try:
            yield subscription
        finally:
            subscription.close()

    def add_listener(self, wake: Callable[[], None]) -> None:
        """Calls `wake` after every change: for the background senders, each of which reads on from its own position."""
        self._listeners.append(wake)

    def publish(self, *, rooms: Collection[int] = (), users: Collection[int] = ()) -> None:
        """Wakes everyone who waits for one of these rooms or users."""
        for table, nids in ((self._by_room, rooms), (self._by_user, users)):
            for nid in nids:
                if nid in table:
                    for subscription in table[nid]:
                        subscription.wake()
        for wake in self._listeners:
            wake()
