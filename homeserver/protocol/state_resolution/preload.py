"""Which events a resolution looks at: what its caller has to load, without going through the room's members."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from homeserver.protocol.auth_rules import auth_event_keys
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.room_versions import RoomVersion


def missing_events(
    room_version: RoomVersion,
    unconflicted: Mapping[StateKey, str],
    full_conflicted: Set[str],
    events: Mapping[str, Event],
) -> set[str]:
    """The ids of events that `resolve` would look at and `events` doesn't hold, as far as can be told by now.

    Load them and ask again, until nothing is named that can be had. Named are: the full conflicted set; the auth events
    that it cites; the events that all states agree on where it depends on them; and chains of m.room.power_levels
    events, one link a round (a caller that knows them from an index puts them into `events` at once).

    :param unconflicted: as `separate` gives it
    :param full_conflicted: the full conflicted set, the conflicted state set included
    """
    wanted = set(full_conflicted)
    for event in _present(full_conflicted, events):
        wanted.update(event.auth_events)
        wanted.update(_unconflicted_dependencies(room_version, event, unconflicted))
        if room_version.room_id_is_create_hash:
            wanted.add("$" + event.room_id[1:])
    power_levels = unconflicted.get(("m.room.power_levels", ""))
    if power_levels is not None:
        wanted.add(power_levels)
    _add_power_levels_chains(wanted, events)
    return {event_id for event_id in wanted if event_id not in events}


def _present(event_ids: Iterable[str], events: Mapping[str, Event]) -> list[Event]:
    return [events[event_id] for event_id in event_ids if event_id in events]


def _unconflicted_dependencies(
    room_version: RoomVersion, event: Event, unconflicted: Mapping[StateKey, str]
) -> set[str]:
    keys = auth_event_keys(
        room_version, type=event.type, sender=event.sender, state_key=event.state_key, content=event.content
    )
    return {unconflicted[key] for key in keys if key in unconflicted}


def _add_power_levels_chains(wanted: set[str], events: Mapping[str, Event]) -> None:
    # Mainlines run along the m.room.power_levels events; to know which auth event of one is the next, all are needed.
    waiting = _present(wanted, events)
    while waiting:
        event = waiting.pop()
        if event.type == "m.room.power_levels":
            new = set(event.auth_events) - wanted
            wanted |= new
            waiting.extend(_present(new, events))
