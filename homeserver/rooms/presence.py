"""Who is online: held in memory, moved on by time, written down now and then (see presence_upkeep).

A user of this server is online while one of their devices syncs as online, idle (`unavailable`) when all of them say so
or the user has done nothing for a while, and offline when none is connected. What others are told is computed from
that. Each change has a number, drawn from the counter of typing users, which a sync token remembers. Users of other
servers are what those servers say, until they have said nothing for too long.

One queue knows when whose presence may change by time alone, and one timer rings for its head. Nothing here waits for
the database: a sync, a message or an EDU costs a few dictionary look-ups.

# spec: client-server-api/#presence
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from homeserver.protocol.events import JsonObject
from homeserver.rooms.typing_users import TypingUsers

ONLINE, UNAVAILABLE, OFFLINE = "online", "unavailable", "offline"
STATES = (ONLINE, OFFLINE, UNAVAILABLE)

ACTIVE_MS = 60_000  # after an action the user counts as currently active for so long
IDLE_MS = 5 * 60_000  # spec: client-server-api/#idle-timeout
DISCONNECTED_MS = 30_000  # between two syncs; longer, and the device is gone
REMOTE_MS = 30 * 60_000  # a server that says nothing of its user for so long has lost them
REPEAT_MS = 25 * 60_000  # so others are told again before that
_MOST_USERS = 100_000


@dataclass(slots=True)
class _Device:
    state: str
    last_sync: int
    polls: int = 0


@dataclass(slots=True)
class UserPresence:
    """What is known of a user. Others were told `presence`, `currently_active` and `status_msg`."""

    user_nid: int
    user_id: str
    local: bool
    presence: str = OFFLINE
    currently_active: bool = False
    status_msg: str | None = None
    last_active: int = 0  # milliseconds since 1970; 0: never
    changed: int = 0  # the number of the last change
    heard: int = 0  # when another server last spoke of its user, or others were told of ours
    due: int = 0  # when the queue asks for this user next; 0: never
    devices: dict[str | None, _Device] = field(default_factory=dict)

    def content(self, now: int) -> JsonObject:
        """The content of an m.presence event.  # spec: client-server-api/#mpresence"""
        content: JsonObject = {"presence": self.presence}
        if self.last_active:
            content["last_active_ago"] = max(0, now - self.last_active)
        if self.presence == ONLINE:
            content["currently_active"] = self.currently_active
        if self.status_msg is not None:
            content["status_msg"] = self.status_msg
        return content


OnChange = Callable[[UserPresence], None]


class Presence:
    """The presence of everyone of whom it is known. `clock` gives milliseconds since 1970."""

    def __init__(
        self,
        numbers: TypingUsers,
        *,
        enabled: bool = True,
        clock: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self.enabled = enabled
        self.clock = clock
        self._numbers = numbers
        self._users: dict[int, UserPresence] = {}
        self._log: dict[int, None] = {}  # user_nids, whose presence changed last at the end
        self._unwritten: set[int] = set()
        self._queue: list[tuple[int, int]] = []  # (due, user_nid): a heap; void unless it is the user's
        self._timer: asyncio.TimerHandle | None = None
        self._on_change: list[OnChange] = []
        self._on_local_change: list[OnChange] = []

    def on_change(self, listener: OnChange) -> None:
        """Calls `listener` after every change that those who share rooms with the user should see."""
        self._on_change.append(listener)

    def on_local_change(self, listener: OnChange) -> None:
        """Calls `listener` when other servers should hear of one of our users."""
        self._on_local_change.append(listener)

    def of(self, user_nid: int) -> UserPresence | None:
        """What is known of that user."""
        return self._users.get(user_nid)

    def present(self) -> Collection[int]:
        """The users who are not offline."""
        return [nid for nid in self._log if self._users[nid].presence != OFFLINE]

    def changed_since(self, number: int) -> Collection[int]:
        """The users whose presence changed after that number."""
        found = []
        for nid in reversed(self._log):
            if self._users[nid].changed <= number:
                break
            found.append(nid)
        return found

    @contextmanager
    def syncing(self, user_nid: int, user_id: str, device_id: str | None, state: str) -> Iterator[None]:
        """While a device syncs as `state`. Syncing as offline says nothing.

        # spec: client-server-api/#get_matrixclientv3sync set_presence
        """
        if not self.enabled or state == OFFLINE:
            yield
            return
        now = self.clock()
        user = self._user(user_nid, user_id, local=True)
        if not user.devices:
            user.last_active = now  # whoever has just come is there
        device = user.devices.setdefault(device_id, _Device(state, now))
        device.state, device.last_sync = state, now
        device.polls += 1
        self._update(user, now)
        try:
            yield
        finally:
            device.polls -= 1
            device.last_sync = self.clock()
            self._schedule(user, device.last_sync)

    def active(self, user_nid: int) -> None:
        """One of our users has done something.  # spec: client-server-api/#last-active-ago"""
        user = self._users.get(user_nid)
        if user is None or not user.local:
            return
        now = self.clock()
        user.last_active = now
        self._unwritten.add(user_nid)
        for device in user.devices.values():
            device.state = ONLINE
        self._update(user, now)

    def set_local(
        self, user_nid: int, user_id: str, device_id: str | None, state: str, status_msg: str | None = None
    ) -> None:
        """What one of our users says of themselves. It holds until one of their devices syncs as something else.

        # spec: client-server-api/#put_matrixclientv3presenceuseridstatus
        """
        if not self.enabled:
            return
        now = self.clock()
        user = self._user(user_nid, user_id, local=True)
        user.last_active = now
        new_status = status_msg != user.status_msg
        user.status_msg = status_msg
        if state == OFFLINE:
            user.devices.clear()
        else:
            user.devices.setdefault(device_id, _Device(state, now)).last_sync = now
            for device in user.devices.values():
                device.state = state
        self._update(user, now, anew=new_status)

    def set_remote(
        self,
        user_nid: int,
        user_id: str,
        state: str,
        *,
        last_active_ago: int,
        currently_active: bool = False,
        status_msg: str | None = None,
    ) -> None:
        """A user of another server is `state`, as an EDU of that server says.  # spec: server-server-api/#presence"""
        if not self.enabled or (state == OFFLINE and user_nid not in self._users):
            return
        now = self.clock()
        user = self._user(user_nid, user_id, local=False)
        user.heard = now
        user.last_active = max(0, now - last_active_ago)
        told = (user.presence, user.currently_active, user.status_msg)
        user.presence, user.currently_active = state, currently_active and state == ONLINE
        user.status_msg = status_msg
        if told != (user.presence, user.currently_active, user.status_msg):
            self._changed(user)
        self._schedule(user, now)

    def restore(self, users: Collection[UserPresence]) -> None:
        """Takes over what was written before a restart. Those who were there then, are until they fail to come back."""
        now = self.clock()
        for user in users:
            if user.user_nid in self._users:
                continue
            self._users[user.user_nid] = user
            if user.presence == OFFLINE:
                continue
            user.heard = now
            if user.local:
                user.devices[None] = _Device(user.presence, now)
            user.changed = self._numbers.next_number()
            self._log[user.user_nid] = None
            self._schedule(user, now)

    def take_unwritten(self) -> list[UserPresence]:
        """Those of whom something changed since the last call."""
        taken, self._unwritten = self._unwritten, set()
        return [self._users[nid] for nid in taken if nid in self._users]

    def tick(self) -> None:
        """Does what has become due. The timer calls this."""
        now = self.clock()
        while self._queue and self._queue[0][0] <= now:
            due, nid = heapq.heappop(self._queue)
            user = self._users.get(nid)
            if user is None or user.due != due:
                continue
            user.due = 0
            if user.local:
                self._update(user, now)
            elif now - user.heard >= REMOTE_MS:
                user.presence, user.currently_active = OFFLINE, False
                self._changed(user)
            else:
                self._schedule(user, now)
        self._ring()

    def close(self) -> None:
        """Stops the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _user(self, user_nid: int, user_id: str, *, local: bool) -> UserPresence:
        user = self._users.get(user_nid)
        if user is None:
            if len(self._users) >= _MOST_USERS:
                self._forget_the_gone()
            user = self._users[user_nid] = UserPresence(user_nid, user_id, local)
        return user

    def _forget_the_gone(self) -> None:
        for nid, user in list(self._users.items())[: _MOST_USERS // 2]:
            if user.presence == OFFLINE and nid not in self._unwritten:
                del self._users[nid]
                self._log.pop(nid, None)

    def _update(self, user: UserPresence, now: int, *, anew: bool = False) -> None:
        """Computes what others are to be told of one of our users, and tells them if it is new."""
        for device_id, device in list(user.devices.items()):
            if not device.polls and now - device.last_sync >= DISCONNECTED_MS:
                del user.devices[device_id]
        idle = now - user.last_active
        if not user.devices:
            state = OFFLINE
        elif idle < IDLE_MS and any(device.state == ONLINE for device in user.devices.values()):
            state = ONLINE
        else:
            state = UNAVAILABLE
        active = state == ONLINE and idle < ACTIVE_MS
        if anew or (state, active) != (user.presence, user.currently_active):
            user.presence, user.currently_active = state, active
            self._changed(user)
            self._tell_servers(user, now)
        elif state != OFFLINE and now - user.heard >= REPEAT_MS:
            self._tell_servers(user, now)
        self._schedule(user, now)

    def _tell_servers(self, user: UserPresence, now: int) -> None:
        user.heard = now
        for listener in self._on_local_change:
            listener(user)

    def _changed(self, user: UserPresence) -> None:
        user.changed = self._numbers.next_number()
        self._log.pop(user.user_nid, None)
        self._log[user.user_nid] = None
        self._unwritten.add(user.user_nid)
        for listener in self._on_change:
            listener(user)

    def _schedule(self, user: UserPresence, now: int) -> None:
        """Queues the user for when their presence may change next by time alone."""
        if user.presence == OFFLINE:
            return
        if user.local:
            times = [user.heard + REPEAT_MS]
            times += [each.last_sync + DISCONNECTED_MS for each in user.devices.values() if not each.polls]
            times += [user.last_active + limit for limit in (ACTIVE_MS, IDLE_MS) if user.last_active + limit > now]
            due = max(now + 1, min(times))
        else:
            due = user.heard + REMOTE_MS
        # Asked too early, the queue asks again; so of two times only the earlier has to stand in it.
        if not user.due or due < user.due:
            user.due = due
            heapq.heappush(self._queue, (due, user.user_nid))
            self._ring()

    def _ring(self) -> None:
        """Sets the one timer for the head of the queue."""
        if not self._queue:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + max(1, self._queue[0][0] - self.clock()) / 1000
        if self._timer is not None:
            if loop.time() < self._timer.when() <= at and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self.tick)
