"""The head of a room: its newest events and the state after them, as the next event needs it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.power_levels import PowerLevels
from homeserver.storage.events import events_by_nid
from homeserver.storage.names import Names, Room
from homeserver.storage.room_state import current_state
from homeserver.storage.stream import Connection

_REMEMBERED_STATE = 1_000


@dataclass(frozen=True, slots=True)
class StateEntry:
    """A state event and its number."""

    nid: int
    event: Event


@dataclass(slots=True)
class RoomHead:
    """A process's copy of a room's head; good while `version` is what the room's row says."""

    room: Room
    version: int
    extremities: dict[int, str]  # event nid -> event id
    depth: int
    snapshot_nid: int | None
    known_state: dict[StateKey, StateEntry | None] = field(default_factory=dict)
    _power_levels: PowerLevels | None = None

    def copy(self) -> RoomHead:
        """One to change in a transaction, while others go on reading this."""
        return RoomHead(
            self.room,
            self.version,
            self.extremities,
            self.depth,
            self.snapshot_nid,
            dict(self.known_state),
            self._power_levels,
        )

    async def state(self, conn: Connection, names: Names, keys: Iterable[StateKey]) -> dict[StateKey, StateEntry]:
        """The current state events of these keys, without those that don't exist."""
        keys = list(keys)
        missing = [key for key in keys if key not in self.known_state]
        if missing:
            if len(self.known_state) > _REMEMBERED_STATE:
                self.known_state.clear()
                missing = keys
            nids = await names.state_key_nids(missing)
            current = await current_state(conn, self.room.nid, nids.values())
            events = await events_by_nid(conn, current.values())
            for key in missing:
                event_nid = current.get(nids[key])
                self.known_state[key] = None if event_nid is None else StateEntry(event_nid, events[event_nid].event)
        return {key: entry for key in keys if (entry := self.known_state[key]) is not None}

    async def state_event(self, conn: Connection, names: Names, type: str, state_key: str = "") -> Event | None:
        """The current event of one key."""
        entry = (await self.state(conn, names, [(type, state_key)])).get((type, state_key))
        return entry.event if entry else None

    async def power_levels(self, conn: Connection, names: Names) -> PowerLevels:
        """The power levels in force. The room must have a create event."""
        if self._power_levels is None:
            state = await self.state(conn, names, [("m.room.create", ""), ("m.room.power_levels", "")])
            current = state.get(("m.room.power_levels", ""))
            self._power_levels = PowerLevels.of(
                self.room.version, state["m.room.create", ""].event, current.event if current else None
            )
        return self._power_levels

    def set_state(self, key: StateKey, entry: StateEntry | None) -> None:
        """Takes note of a change that is part of the transaction under way."""
        self.known_state[key] = entry
        if key[0] in ("m.room.power_levels", "m.room.create"):
            self._power_levels = None

    def forget_state(self, keys: Iterable[StateKey]) -> None:
        """Drops what is remembered of these keys; they are read again when next needed."""
        for key in keys:
            self.known_state.pop(key, None)
        self._power_levels = None
