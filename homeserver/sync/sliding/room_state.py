"""The state of rooms as a client asked for it: all of that, or what is another than it has.

Besides, what a room's name and picture are made of. The number of queries doesn't depend on the number of rooms.

Members who are lazy are told with the events that need them (senders, and whom member events are about), unless the
client has them; and where a timeline has no gap, every change of a member is told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from homeserver.protocol.events import StateKey
from homeserver.storage.events import StoredEvent, events_by_nid
from homeserver.storage.sliding_reads import (
    StateEntry,
    state_at_keys,
    state_at_of_types,
    state_changes,
    whole_state_at,
)
from homeserver.sync.sliding.plan import RoomPlan
from homeserver.sync.sliding.required_state import RequiredState
from homeserver.sync.sliding.room_timeline import RoomTimeline
from homeserver.sync.view import View

_MEMBER = "m.room.member"
NAME, AVATAR = ("m.room.name", ""), ("m.room.avatar", "")


@dataclass(slots=True)
class RoomState:
    """`entries` are told, event 0 for what is gone; `members` those of them that the timeline needs (and what of these
    the client had before). `required` is what the client has been told of then.

    `naming`: the room's name or picture may be another than the client has; `members_changed`: so may who is in it.
    In both cases `name` and `avatar` are the events.
    """

    entries: dict[int, StateEntry] = field(default_factory=dict)
    members: dict[int, int] = field(default_factory=dict)
    required: RequiredState = field(default_factory=RequiredState)
    naming: bool = False
    members_changed: bool = False
    name: int | None = None
    avatar: int | None = None


@dataclass(slots=True)
class RoomStates:
    """room_nid -> state, and the events of all of them."""

    of: dict[int, RoomState]
    events: dict[int, StoredEvent]


async def room_states(view: View, plans: Collection[RoomPlan], timelines: Mapping[int, RoomTimeline]) -> RoomStates:
    """The state of every plan's room."""
    states = {plan.room_nid: RoomState(required=plan.config.required) for plan in plans}
    by_room = {plan.room_nid: plan for plan in plans}
    changed = await state_changes(
        view.conn,
        [
            (plan.room_nid, plan.since, plan.until)
            for plan in plans
            if plan.since is not None and plan.news and plan.since < plan.until
        ],
    )
    _enter_changes(changed, by_room, states, timelines)
    for plan in plans:
        state, timeline = states[plan.room_nid], timelines[plan.room_nid]
        # A redaction takes the name out of the event that stays the state.
        redacted = any(event.event.type == "m.room.redaction" for event in timeline.events)
        state.naming |= plan.initial or (plan.news and (timeline.limited or redacted))
        state.members_changed |= plan.initial
    await _enter_whole(view, [plan for plan in plans if plan.initial or plan.more_state], states)
    await _enter_by_key(view, plans, states, timelines)
    nids = {entry.event_nid for state in states.values() for entry in state.entries.values()}
    nids |= {nid for state in states.values() for nid in (state.name, state.avatar) if nid is not None}
    return RoomStates(states, await events_by_nid(view.conn, nids - {0}))


def _enter_changes(
    changed: Iterable[StateEntry],
    plans: Mapping[int, RoomPlan],
    states: Mapping[int, RoomState],
    timelines: Mapping[int, RoomTimeline],
) -> None:
    untold: set[int] = set()
    for entry in changed:
        plan, state = plans[entry.room_nid], states[entry.room_nid]
        told, required = plan.told, plan.config.required
        assert told is not None
        is_member = entry.key[0] == _MEMBER
        state.naming |= entry.key in (NAME, AVATAR)
        state.members_changed |= is_member
        if required.matches(entry.key):
            state.entries[entry.state_key_nid] = entry
        elif (
            is_member
            and required.lazy
            and (not timelines[plan.room_nid].limited or entry.state_key_nid in told.members)
        ):
            _enter_member(state, entry)
        elif told.required.matches(entry.key) or (is_member and told.required.lazy and not required.lazy):
            untold.add(plan.room_nid)
    for plan in plans.values():
        # A client that asks for less than before still has the rest, as long as that did not change.
        told = plan.told
        if told is not None and not plan.initial and not plan.more_state and plan.room_nid not in untold:
            states[plan.room_nid].required = told.required


def _enter_member(state: RoomState, entry: StateEntry) -> None:
    state.entries[entry.state_key_nid] = entry
    state.members[entry.state_key_nid] = entry.event_nid


async def _enter_whole(view: View, plans: Collection[RoomPlan], states: Mapping[int, RoomState]) -> None:
    """What is asked for by kind, of rooms of which the client does not have it."""
    types: set[str] = set()
    of_types: list[tuple[int, int]] = []
    whole: list[tuple[int, int]] = []
    with_members: list[tuple[int, int]] = []
    for plan in plans:
        required, place = plan.config.required, (plan.room_nid, plan.until)
        if required.others:
            (with_members if required.may_match_members else whole).append(place)
        if required.types:
            types |= required.types
            of_types.append(place)
    found = await state_at_of_types(view.conn, of_types, types)
    found += await whole_state_at(view.conn, whole, members=False)
    found += await whole_state_at(view.conn, with_members, members=True)
    by_room = {plan.room_nid: plan for plan in plans}
    for entry in found:
        if _is_missing(by_room[entry.room_nid], entry):
            states[entry.room_nid].entries[entry.state_key_nid] = entry


def _is_missing(plan: RoomPlan, entry: StateEntry) -> bool:
    """Whether the client wants it and does not have it."""
    if not plan.config.required.matches(entry.key):
        return False
    if plan.since is None or plan.told is None:
        return True
    return entry.from_pos > plan.since or not plan.told.required.matches(entry.key)


async def _enter_by_key(
    view: View, plans: Collection[RoomPlan], states: Mapping[int, RoomState], timelines: Mapping[int, RoomTimeline]
) -> None:
    """What is asked for by key, the members that timelines need, and the names."""
    wanted: set[tuple[int, int, StateKey]] = set()
    lazy: dict[int, set[StateKey]] = {}
    for plan in plans:
        place, state = (plan.room_nid, plan.until), states[plan.room_nid]
        if plan.initial or plan.more_state:
            wanted.update((*place, key) for key in plan.config.required.exact)
            wanted.update(
                # Where the type may be any, that user's member event is the one that is not read with the rest.
                (*place, (each.type or _MEMBER, each.state_key))
                for each in plan.config.required.others
                if each.state_key is not None
            )
        if plan.config.required.lazy:
            lazy[plan.room_nid] = _needed(timelines[plan.room_nid].seen)
            wanted.update((*place, key) for key in lazy[plan.room_nid])
        if state.naming or state.members_changed:
            wanted.update((*place, key) for key in (NAME, AVATAR))
    by_room = {plan.room_nid: plan for plan in plans}
    for entry in await state_at_keys(view.conn, wanted):
        plan, state = by_room[entry.room_nid], states[entry.room_nid]
        if entry.key == NAME:
            state.name = entry.event_nid
        elif entry.key == AVATAR:
            state.avatar = entry.event_nid
        if (plan.initial or plan.more_state) and _is_missing(plan, entry):
            state.entries[entry.state_key_nid] = entry
        if entry.key in lazy.get(plan.room_nid, ()) and not _has_member(plan, entry):
            _enter_member(state, entry)


def _needed(events: Iterable[StoredEvent]) -> set[StateKey]:
    needed: set[StateKey] = set()
    for event in events:
        needed.add((_MEMBER, event.event.sender))
        if event.event.type == _MEMBER and event.event.state_key is not None:
            needed.add((_MEMBER, event.event.state_key))
    return needed


def _has_member(plan: RoomPlan, entry: StateEntry) -> bool:
    """Whether the client was sent this very member event: for a timeline's sake, or because it asked for it."""
    told = plan.told
    if plan.since is None or told is None or told.stripped:
        return False
    if told.members.get(entry.state_key_nid) == entry.event_nid:
        return True
    return entry.from_pos <= plan.since and told.required.matches(entry.key)
