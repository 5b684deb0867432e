"""Who is typing where: held in memory only, gone with the process, ended by time if by nothing else.

Every change of a room's list has a number, which a sync token remembers. The numbers begin at the time of the start in
milliseconds, so that they are above those of every earlier process: a token of one of those is told everything anew.

# spec: client-server-api/#typing-notifications
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from homeserver.changes import Changes

LONGEST_MS = 120_000  # a user who says nothing more has stopped after this at the latest
_REMOTE_MS = 60_000
_REMEMBERED_ROOMS = 10_000  # in which no one types any more

OnLocalChange = Callable[[int, str, bool], None]


@dataclass(slots=True)
class _Typing:
    until: float  # the loop's time at which it ends
    local: bool


@dataclass(slots=True)
class _RoomTyping:
    changed: int
    users: dict[str, _Typing] = field(default_factory=dict)


class TypingUsers:
    """The typing users of all rooms."""

    def __init__(self, changes: Changes, clock: Callable[[], float] = time.time) -> None:
        self._changes = changes
        self._counter = self._floor = int(clock() * 1000)
        self._rooms: dict[int, _RoomTyping] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._listeners: list[OnLocalChange] = []

    @property
    def position(self) -> int:
        """The number of the newest change."""
        return self._counter

    def next_number(self) -> int:
        """Draws the next number, for a change of another kind that the same token tells of (presence)."""
        self._counter += 1
        return self._counter

    def knows(self, position: int) -> bool:
        """Whether `changed_since` can tell what a client with this number missed; if not, it is told everything."""
        return self._floor <= position <= self._counter

    def on_local_change(self, listener: OnLocalChange) -> None:
        """Calls `listener(room_nid, user_id, typing)` whenever a user of this server starts, goes on or stops."""
        self._listeners.append(listener)

    def set_local(self, room_nid: int, user_id: str, *, typing: bool, timeout_ms: int = 30_000) -> None:
        """A user of this server types, for `timeout_ms` if nothing more is heard, or has stopped."""
        if self._set(room_nid, user_id, typing, timeout_ms, local=True) or typing:
            self._tell(room_nid, user_id, typing)

    def set_remote(self, room_nid: int, user_id: str, *, typing: bool) -> None:
        """A user of another server types or has stopped, as an EDU of that server says.

        # spec: server-server-api/#typing-notifications
        """
        self._set(room_nid, user_id, typing, _REMOTE_MS, local=False)

    def in_room(self, room_nid: int) -> list[str]:
        """Who is typing there, in the order in which they began."""
        room = self._rooms.get(room_nid)
        return list(room.users) if room is not None else []

    def changed_since(self, position: int, room_nids: Collection[int]) -> Mapping[int, list[str]]:
        """The lists of those of these rooms whose list changed after that number, or all, if it is not known."""
        if not self.knows(position):
            return {room_nid: self.in_room(room_nid) for room_nid in room_nids}
        return {
            room_nid: list(room.users)
            for room_nid in room_nids
            if (room := self._rooms.get(room_nid)) is not None and room.changed > position
        }

    def close(self) -> None:
        """Stops the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self, room_nid: int, user_id: str, typing: bool) -> None:
        for listener in self._listeners:
            listener(room_nid, user_id, typing)

    def _set(self, room_nid: int, user_id: str, typing: bool, timeout_ms: int, *, local: bool) -> bool:
        """Whether this changes the room's list."""
        room = self._rooms.get(room_nid)
        if not typing:
            if room is None or room.users.pop(user_id, None) is None:
                return False
            self._changed(room_nid)
            return True
        if room is None:
            room = self._rooms[room_nid] = _RoomTyping(self._counter)
        is_new = user_id not in room.users
        until = asyncio.get_running_loop().time() + min(max(timeout_ms, 0), LONGEST_MS) / 1000
        room.users[user_id] = _Typing(until, local)
        if is_new:
            self._changed(room_nid)
        self._ring_by(until)
        return is_new

    def _changed(self, room_nid: int) -> None:
        number = self.next_number()
        # Newest last, so that the rooms to forget stand in front.
        room = self._rooms[room_nid] = self._rooms.pop(room_nid)
        room.changed = number
        if len(self._rooms) > _REMEMBERED_ROOMS:
            self._forget_quiet_rooms()
        self._changes.publish(rooms=[room_nid])

    def _forget_quiet_rooms(self) -> None:
        for room_nid, room in list(self._rooms.items())[: _REMEMBERED_ROOMS // 2]:
            if not room.users:
                self._floor = max(self._floor, room.changed)
                del self._rooms[room_nid]

    def _ring_by(self, time: float) -> None:
        """One timer for all: it rings when the first of them may have ended."""
        if self._timer is not None:
            if self._timer.when() <= time:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(time, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for room_nid, room in list(self._rooms.items()):
            ended = {user_id: typing for user_id, typing in room.users.items() if typing.until <= now}
            for user_id, typing in ended.items():
                del room.users[user_id]
                if typing.local:
                    self._tell(room_nid, user_id, False)
            if ended:
                self._changed(room_nid)
        first = min((typing.until for room in self._rooms.values() for typing in room.users.values()), default=None)
        if first is not None:
            self._ring_by(first)
