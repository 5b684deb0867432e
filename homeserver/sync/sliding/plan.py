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
from homeserver.sync.sliding.room_list import Match
from homeserver.sync.view import View


@dataclass(slots=True)
class RoomPlan:
    """One room to tell of: what happened after `since` (None: all there is) up to `until`.

    `until` is before now for a room that the user has left. `news`: something may have happened between them.
    `more_timeline`, `more_state`: the client is to get older events, or state that it did not ask for before.
    `own_event_nid` is the user's member event where that came after `until`: all else there is for them to know.
    """

    match: Match
    told: Told | None
    is_dm: bool
    since: int | None
    until: int
    news: bool = True
    more_timeline: bool = False
    more_state: bool = False
    own_event_nid: int | None = None

    @property
    def room(self) -> ListedRoom:
        return self.match.room

    @property
    def room_nid(self) -> int:
        return self.match.room.room_nid

    @property
    def config(self) -> RoomConfig:
        return self.match.config

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


async def plan_rooms(
    view: View, matches: Iterable[Match], known: Mapping[int, Told], direct: Collection[str]
) -> list[RoomPlan]:
    """What is to be told. `view.sights` gets the rooms of which the user may not have seen all."""
    plans: list[RoomPlan] = []
    unread: list[RoomPlan] = []
    for match in matches:
        plan = _plan(match, known.get(match.room.room_nid), match.room.room_id in direct, view.until)
        if _tells_something(plan):
            plans.append(plan)
        elif plan.told is not None and plan.told.unread and plan.room.joined:
            unread.append(plan)
    plans += await _read_meanwhile(view, unread)
    view.sights |= await sights(view.conn, view.names, view.reader.user_id, _to_look_at(plans))
    return [plan for plan in plans if _bound(plan, view.sights.get(plan.room_nid), view.until)]


def _plan(match: Match, told: Told | None, is_dm: bool, until: int) -> RoomPlan:
    room = match.room
    if told is None or told.stripped != room.stripped:
        return RoomPlan(match, told, is_dm, None, until)
    plan = RoomPlan(match, told, is_dm, told.sent_pos, until)
    plan.news = room.pos > told.sent_pos or (room.joined and room.active_pos > told.sent_pos)
    if not room.stripped:
        plan.more_state = not told.required.covers(match.config.required)
        # Members are told with the events that need them, so where they become lazy, the events are looked at again.
        newly_lazy = plan.more_state and match.config.required.lazy and not told.required.lazy
        plan.more_timeline = match.config.timeline_limit > told.limit or newly_lazy
    return plan


def _tells_something(plan: RoomPlan) -> bool:
    return (
        plan.news
        or plan.more_timeline
        or plan.more_state
        or (plan.told is not None and plan.told.is_dm != plan.is_dm and not plan.room.stripped)
    )


async def _read_meanwhile(view: View, plans: Collection[RoomPlan]) -> list[RoomPlan]:
    """Those of the rooms whose counts fell because the user has read something."""
    read = await rooms_read_since(
        view.conn, view.reader.user_nid, [(plan.room_nid, plan.since or 0) for plan in plans], view.until
    )
    return [plan for plan in plans if plan.room_nid in read]


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
