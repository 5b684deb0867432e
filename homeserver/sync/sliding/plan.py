"""Which of the rooms that match are to be told of, and from where to where.

A room that has never been told on the connection is told whole (`initial`), as is one that the client knows from
outside or from an earlier stay and that the user is in now. Of any other, what is new, and what the request asks for
beyond what it did before: more of the timeline, more of the state.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from homeserver.rooms.visibility import Sight, sights
from homeserver.storage.events import ORD_SHIFT
from homeserver.storage.sliding_reads import ListedRoom, rooms_read_since
from homeserver.sync.sliding.connections import Told
from homeserver.sync.sliding.request import RoomConfig
from homeserver.sync.sliding.required_state import RequiredState
from homeserver.sync.sliding.room_list import RoomList
from homeserver.sync.view import View

_MOST_EVENTS = 20_000  # that one response is planned to have, however much is asked for
_MOST_BESIDES = 4  # what a room counts for besides its timeline


@dataclass(slots=True)
class RoomPlan:
    """One room to tell of: what happened after `since` (None: all there is) up to `until`.

    `until` is before now for a room that the user has left. `news`: something may have happened between them.
    `more_timeline`, `more_state`: the client is to get older events, or state that it did not ask for before.
    `own_event_nid` is the user's member event where that came after `until`: all else there is for them to know.
    """

    room: ListedRoom
    config: RoomConfig
    told: Told | None
    is_dm: bool
    since: int | None
    until: int
    news: bool = True
    more_timeline: bool = False
    more_state: bool = False
    own_event_nid: int | None = None

    @property
    def room_nid(self) -> int:
        return self.room.room_nid

    @property
    def initial(self) -> bool:
        return self.since is None

    @property
    def since_ord(self) -> int:
        """The place up to which the client has been told; below everything if of nothing."""
        return -(2**63) if self.since is None else self.since << ORD_SHIFT

    @property
    def until_ord(self) -> int:
        return self.until << ORD_SHIFT


async def plan_rooms(view: View, found: RoomList, known: Mapping[int, Told], direct: Collection[str]) -> list[RoomPlan]:
    """What is to be told. `view.sights` gets the rooms of which the user may not have seen all."""
    plans: list[RoomPlan] = []
    unread: dict[int, int] = {}
    covered: dict[tuple[RequiredState, RequiredState], bool] = {}
    for room_nid, config in found.wanted.items():
        room, told = found.rooms[room_nid], known.get(room_nid)
        is_dm = room.room_id in direct
        if told is None or told.stripped != room.stripped:
            plans.append(RoomPlan(room, config, told, is_dm, None, view.until))
            continue
        pair = (told.required, config.required)
        has_state = covered.get(pair)
        if has_state is None:
            has_state = covered[pair] = told.required.covers(config.required)
        if _tells_something(room, config, told, is_dm=is_dm, has_state=has_state):
            plans.append(_continued(room, config, told, is_dm=is_dm, has_state=has_state, until=view.until))
        elif told.unread and room.joined:
            unread[room_nid] = told.sent_pos
    # Counts may have fallen because the user has read something.
    for room_nid in await rooms_read_since(view.conn, view.reader.user_nid, unread, view.until):
        room, told = found.rooms[room_nid], known[room_nid]
        plan = RoomPlan(room, found.wanted[room_nid], told, told.is_dm, told.sent_pos, view.until, news=False)
        plans.append(plan)
    plans = _not_too_much(plans)
    view.sights |= await sights(view.conn, view.names, view.reader.user_id, _to_look_at(plans))
    return [plan for plan in plans if _bound(plan, view.sights.get(plan.room_nid), view.until)]


def _not_too_much(plans: list[RoomPlan]) -> list[RoomPlan]:
    """As many of the rooms as fit into a response, the most recently active first; the others are for the next."""
    if sum(plan.config.timeline_limit + _MOST_BESIDES for plan in plans) <= _MOST_EVENTS:
        return plans
    fitting: list[RoomPlan] = []
    room_left = _MOST_EVENTS
    for plan in sorted(plans, key=lambda plan: -plan.room.activity):
        room_left -= plan.config.timeline_limit + _MOST_BESIDES
        if fitting and room_left < 0:
            break
        fitting.append(plan)
    return fitting


def _tells_something(room: ListedRoom, config: RoomConfig, told: Told, *, is_dm: bool, has_state: bool) -> bool:
    """Whether there may be more of a room than the client was told."""
    if room.pos > told.sent_pos or (room.joined and room.active_pos > told.sent_pos):
        return True
    return not room.stripped and (not has_state or config.timeline_limit > told.limit or told.is_dm != is_dm)


def _continued(
    room: ListedRoom, config: RoomConfig, told: Told, *, is_dm: bool, has_state: bool, until: int
) -> RoomPlan:
    plan = RoomPlan(room, config, told, is_dm, told.sent_pos, until)
    plan.news = room.pos > told.sent_pos or (room.joined and room.active_pos > told.sent_pos)
    if not room.stripped:
        plan.more_state = not has_state
        # Members are told with the events that need them, so where they become lazy, the events are looked at again.
        newly_lazy = plan.more_state and config.required.lazy and not told.required.lazy
        plan.more_timeline = config.timeline_limit > told.limit or newly_lazy
    return plan


def _to_look_at(plans: Iterable[RoomPlan]) -> list[int]:
    """The rooms of which the user may not have seen everything that is to be told."""
    return [
        plan.room_nid
        for plan in plans
        if not plan.room.stripped
        and (plan.since is None or plan.more_timeline or plan.room.pos > plan.since or not plan.room.joined)
    ]


def _bound(plan: RoomPlan, sight: Sight | None, until: int) -> bool:
    """Sets where the telling ends, and begins anew; whether there is anything left of it."""
    room = plan.room
    if room.stripped or sight is None:
        return True
    stay = sight.last_join(until)
    if stay is None:
        return False
    if room.joined:
        if plan.since is not None and stay[0] > plan.since:
            plan.since = None
        return True
    # Nothing of what came after the user's leave is theirs to know, but what became of their own membership.
    plan.until = min(stay[1], until)
    if plan.since is not None and stay[0] > plan.since:
        plan.since = None
    known = plan.until if plan.since is None else max(plan.since, plan.until)
    at = next((span.event_nid for span in sight.membership if span.from_pos <= known < span.to_pos), None)
    if room.event_nid and at != room.event_nid:
        plan.own_event_nid = room.event_nid
    return True
