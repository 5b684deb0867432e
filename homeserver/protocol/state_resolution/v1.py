"""State resolution of room version 1, known for state resets and kept for the rooms that still have it.

# spec: rooms/v1#state-resolution
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha1
from typing import Final

from homeserver.protocol.auth_rules import auth_event_keys, check_auth
from homeserver.protocol.errors import AuthRuleError
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.state_resolution.conflicted import conflicted_keys

_CREATE: Final = ("m.room.create", "")
_POWER_LEVELS: Final = ("m.room.power_levels", "")
_JOIN_RULES: Final = ("m.room.join_rules", "")


def resolve(state_sets: Sequence[Mapping[StateKey, str]], events: Mapping[str, Event]) -> dict[StateKey, str]:
    """See `state_resolution.resolve`.

    The spec leaves open in which order the conflicts of one type are resolved. Here each is resolved against the R that
    the types before it left, so that there is no order, as the result must not depend on one.
    # spec: rooms/v1#state-resolution
    """
    resolved, conflicts = _union_and_conflicts(state_sets, events)
    members = [key for key in conflicts if key[0] == "m.room.member"]
    for keys in ([_POWER_LEVELS], [_JOIN_RULES], members):
        resolved |= {
            key: _resolve_auth_conflict(conflicts.pop(key), resolved, events) for key in keys if key in conflicts
        }
    others: dict[StateKey, str] = {}
    for key, candidates in conflicts.items():
        winner = _resolve_other_conflict(candidates, resolved, events)
        if winner is not None:
            others[key] = winner
    return resolved | others


def _union_and_conflicts(
    state_sets: Sequence[Mapping[StateKey, str]], events: Mapping[str, Event]
) -> tuple[dict[StateKey, str], dict[StateKey, list[Event]]]:
    """R at the start, and of each key in conflict the events (those that are loaded).

    Unlike in later versions, a key that only some of the states have is no conflict.
    """
    resolved = dict(state_sets[0]) if state_sets else {}
    conflicts: dict[StateKey, list[Event]] = {}
    for key in conflicted_keys(state_sets):
        ids = {state[key] for state in state_sets if key in state}
        if len(ids) == 1:
            resolved[key] = ids.pop()
            continue
        resolved.pop(key, None)
        candidates = [events[event_id] for event_id in ids if event_id in events]
        if candidates:
            conflicts[key] = sorted(candidates, key=_depth)
    return resolved, conflicts


def _depth(event: Event) -> tuple[int, int]:
    """Ascending depth, then descending SHA-1 of the event id.  # spec: rooms/v1#state-resolution"""
    digest = sha1(event.event_id.encode(), usedforsecurity=False).digest()
    return event.depth, -int.from_bytes(digest)


def _resolve_auth_conflict(
    candidates: Sequence[Event], resolved: Mapping[StateKey, str], events: Mapping[str, Event]
) -> str:
    """The last of the events up to which each is allowed by the one before."""
    winner = candidates[0]
    for event in candidates[1:]:
        if not _is_allowed(event, resolved, events, winner):
            break
        winner = event
    return winner.event_id


def _resolve_other_conflict(
    candidates: Sequence[Event], resolved: Mapping[StateKey, str], events: Mapping[str, Event]
) -> str | None:
    """The event with the highest depth and lowest SHA-1 that is allowed, None if none is."""
    for event in reversed(candidates):
        if _is_allowed(event, resolved, events, None):
            return event.event_id
    return None


def _is_allowed(
    event: Event, resolved: Mapping[StateKey, str], events: Mapping[str, Event], current: Event | None
) -> bool:
    """Whether the rules allow the event in R, updated with `current` if there is one."""
    keys = auth_event_keys(
        event.room_version, type=event.type, sender=event.sender, state_key=event.state_key, content=event.content
    )
    state = {key: found for key in keys if (found := events.get(resolved.get(key, ""))) is not None}
    if current is not None:
        state[current.key] = current
    create = event if event.type == "m.room.create" else state.get(_CREATE)
    if create is None:
        return False
    try:
        check_auth(event, state, create=create)
    except AuthRuleError:
        return False
    return True
