"""The iterative auth checks: events applied one after the other, each to what those before it left.

# spec: rooms/v2#definitions
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from homeserver.protocol.auth_rules import auth_event_keys, check_auth
from homeserver.protocol.errors import AuthRuleError
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.room_versions import RoomVersion

_CREATE: StateKey = ("m.room.create", "")
_POWER_LEVELS: StateKey = ("m.room.power_levels", "")


class IterativeAuthChecks:
    """The room state that the checks construct: `base`, which is never copied, under `changes`.

    A class because the state, and the power levels read out of it, live through both runs of the algorithm.
    """

    __slots__ = ("_base", "_events", "_levels", "_rejected", "_room_version", "changes")

    def __init__(
        self,
        room_version: RoomVersion,
        base: Mapping[StateKey, str],
        events: Mapping[str, Event],
        rejected: Container[str],
    ) -> None:
        self._room_version = room_version
        self._base = base
        self._events = events
        self._rejected = rejected
        self._levels: dict[tuple[str, str], PowerLevels] = {}
        self.changes: dict[StateKey, str] = {}

    def event_at(self, key: StateKey) -> Event | None:
        """The event at that key of the state constructed so far, None if there is none or it isn't loaded."""
        event_id = self.changes.get(key) or self._base.get(key)
        return None if event_id is None else self._events.get(event_id)

    def apply(self, ordered: Iterable[Event]) -> None:
        """Puts each event into the state if the authorization rules allow it there.

        # spec: rooms/v2#definitions
        """
        for event in ordered:
            if self._is_allowed(event):
                self.changes[event.key] = event.event_id

    def _is_allowed(self, event: Event) -> bool:
        state = self._auth_state(event)
        create = event if event.type == "m.room.create" else self._create_event(event, state)
        if create is None:
            return False
        power_levels = state.get(_POWER_LEVELS)
        levels_key = (create.event_id, power_levels.event_id if power_levels else "")
        levels = self._levels.get(levels_key)
        if levels is None:
            levels = self._levels[levels_key] = PowerLevels.of(self._room_version, create, power_levels)
        try:
            check_auth(event, state, create=create, power_levels=levels)
        except AuthRuleError:
            return False
        return True

    def _auth_state(self, event: Event) -> dict[StateKey, Event]:
        """What the rules need of the state, the event's own auth events standing in for what it lacks."""
        state: dict[StateKey, Event] = {}
        lacking = False
        keys = auth_event_keys(
            self._room_version,
            type=event.type,
            sender=event.sender,
            state_key=event.state_key,
            content=event.content,
        )
        for key in keys:
            found = self.event_at(key)
            if found is None:
                lacking = True
            else:
                state[key] = found
        if lacking:
            for event_id in event.auth_events:
                # spec: rooms/v2#rejected-events
                cited = None if event_id in self._rejected else self._events.get(event_id)
                if cited is not None and cited.is_state and cited.key in keys:
                    state.setdefault(cited.key, cited)
        return state

    def _create_event(self, event: Event, state: Mapping[StateKey, Event]) -> Event | None:
        if not self._room_version.room_id_is_create_hash:
            return state.get(_CREATE)
        # spec: rooms/v12#authorization-rules 2
        create_id = "$" + event.room_id[1:]
        return None if create_id in self._rejected else self._events.get(create_id)
