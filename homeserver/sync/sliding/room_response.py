"""Rooms as responses have them, and what the client has of each of them then."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from homeserver.protocol.client_event import stripped_state_event
from homeserver.protocol.events import JsonObject
from homeserver.storage.events import StoredEvent, events_by_nid
from homeserver.storage.members import Membership
from homeserver.storage.sliding_reads import state_at_keys, stripped_states
from homeserver.storage.sync_reads import heroes, joined_and_invited_counts
from homeserver.sync.client_events import Shape, state_events, timeline_events
from homeserver.sync.notification_counts import unread_counts
from homeserver.sync.sliding.connections import Told
from homeserver.sync.sliding.plan import RoomPlan
from homeserver.sync.sliding.room_list import RoomList
from homeserver.sync.sliding.room_state import RoomState, RoomStates, room_states
from homeserver.sync.sliding.room_timeline import RoomTimeline, room_timelines
from homeserver.sync.stripped_rooms import stripped_rooms
from homeserver.sync.tokens import place_token
from homeserver.sync.view import View

_SHAPE = Shape(room_id=False)
_MOST_MEMBERS = 1_000  # of one room that are remembered as sent to a connection


@dataclass(slots=True)
class ToldRoom:
    """A room of a response, and what the client has of it then. `whole`: the timeline is told anew, not continued."""

    json: JsonObject
    told: Told
    initial: bool
    whole: bool = False


@dataclass(slots=True)
class _Parts:
    """What has been read for the rooms that the user is or was in."""

    timelines: Mapping[int, RoomTimeline]
    states: RoomStates
    shown: Mapping[int, JsonObject]
    shown_state: Mapping[int, JsonObject]
    counts: Mapping[int, tuple[int, int]]
    heroes: Mapping[int, list[JsonObject]]
    unread: Mapping[int, JsonObject]
    own_events: Mapping[int, StoredEvent] = field(default_factory=dict)


async def tell_rooms(
    view: View, found: RoomList, plans: Collection[RoomPlan], previous_pos: int | None
) -> dict[int, ToldRoom]:
    """room_nid -> room, for every plan; without anything in it, if there is nothing to tell.

    :param previous_pos: what came after it counts as live; None: nothing does
    """
    full = [plan for plan in plans if not plan.room.stripped]
    parts = await _read(view, full)
    rooms = await _stripped(view, [plan for plan in plans if plan.room.stripped])
    for plan in full:
        rooms[plan.room_nid] = _full(view, plan, parts, previous_pos)
    for room_nid, room in rooms.items():
        if room.json and (lists := found.lists_with(room_nid)):
            room.json["lists"] = lists
    return rooms


async def _read(view: View, plans: Collection[RoomPlan]) -> _Parts:
    if not plans:
        return _Parts({}, RoomStates({}, {}), {}, {}, {}, {}, {})
    timelines = await room_timelines(view, plans)
    states = await room_states(view, plans, timelines)
    own_events = await events_by_nid(view.conn, [plan.own_event_nid for plan in plans if plan.own_event_nid])
    events = [event for timeline in timelines.values() for event in timeline.events]
    shown = await timeline_events(view.conn, view.reader, [*events, *own_events.values()], view.sights, _SHAPE)
    # Of a room that the user has left, who is in it now is not theirs to know.
    joined = [plan for plan in plans if plan.room.joined]
    counted = [plan.room_nid for plan in joined if states.of[plan.room_nid].members_changed]
    nameless = [
        plan
        for plan in joined
        if (state := states.of[plan.room_nid]).naming or state.members_changed
        if _text(states, state.name, "name") is None
    ]
    unread = await unread_counts(
        view.conn, view.reader.user_nid, [plan.room_nid for plan in joined], view.until, by_thread=False
    )
    return _Parts(
        timelines,
        states,
        shown,
        await _shown_state(view, states, own_events),
        await joined_and_invited_counts(view.conn, counted) if counted else {},
        await _heroes(view, nameless),
        {room_nid: counts.json()["unread_notifications"] for room_nid, counts in unread.items()},
        own_events,
    )


async def _heroes(view: View, plans: Collection[RoomPlan]) -> dict[int, list[JsonObject]]:
    """Those after whom to name the rooms, with their names and pictures there."""
    if not plans:
        return {}
    named = await heroes(view.conn, [plan.room_nid for plan in plans], view.reader.user_nid)
    entries = await state_at_keys(
        view.conn,
        [(plan.room_nid, plan.until, ("m.room.member", user_id)) for plan in plans for user_id in named[plan.room_nid]],
    )
    events = await events_by_nid(view.conn, [entry.event_nid for entry in entries])
    contents = {
        (entry.room_nid, entry.key[1]): events[entry.event_nid].event.content
        for entry in entries
        if entry.event_nid in events
    }
    found: dict[int, list[JsonObject]] = {}
    for room_nid, user_ids in named.items():
        found[room_nid] = []
        for user_id in user_ids:
            content = contents.get((room_nid, user_id), {})
            fields = {name: content.get(name) for name in ("displayname", "avatar_url")}
            found[room_nid].append(
                {"user_id": user_id, **{name: text for name, text in fields.items() if isinstance(text, str)}}
            )
    return found


def _text(states: RoomStates, event_nid: int | None, name: str) -> str | None:
    event = states.events.get(event_nid) if event_nid is not None else None
    value: Any = event.event.content.get(name) if event is not None else None
    return value if isinstance(value, str) and value else None


async def _shown_state(view: View, states: RoomStates, own_events: Mapping[int, StoredEvent]) -> dict[int, JsonObject]:
    nids = {entry.event_nid for state in states.of.values() for entry in state.entries.values()}
    events = [event for nid, event in states.events.items() if nid in nids] + list(own_events.values())
    shown = await state_events(view.conn, events, _SHAPE)
    return {event.nid: json for event, json in zip(events, shown, strict=True)}


def _full(view: View, plan: RoomPlan, parts: _Parts, previous_pos: int | None) -> ToldRoom:
    """A room that the user is or was in."""
    timeline, state = parts.timelines[plan.room_nid], parts.states.of[plan.room_nid]
    told = _told(view, plan, timeline, state, parts)
    json = _timeline_json(plan, timeline, parts, previous_pos) | _state_json(plan, state, parts)
    if plan.initial:
        json["initial"] = True
    if plan.is_dm if plan.told is None or plan.initial else plan.told.is_dm != plan.is_dm:
        json["is_dm"] = plan.is_dm
    was_unread = plan.told is not None and plan.told.unread
    if plan.room_nid in parts.unread and (json or told.unread or was_unread):
        json |= parts.unread[plan.room_nid]
    if json:
        json |= _common_json(plan)
    return ToldRoom(json, told, plan.initial, plan.initial or timeline.limited or timeline.expanded)


def _timeline_json(plan: RoomPlan, timeline: RoomTimeline, parts: _Parts, previous_pos: int | None) -> JsonObject:
    events = [parts.shown[event.nid] for event in timeline.events]
    live = [event.pos for event in timeline.events if event.pos is not None]
    if plan.own_event_nid is not None and plan.own_event_nid in parts.shown:
        events.append(parts.shown[plan.own_event_nid])
        live.append(plan.room.pos)
    if not (events or timeline.limited or plan.initial):
        return {}
    first = timeline.events[0].ord if timeline.events else None
    json: JsonObject = {
        "timeline": events,
        "limited": timeline.limited,
        "num_live": 0 if previous_pos is None else sum(pos > previous_pos for pos in live),
        "prev_batch": place_token(plan.until_ord if first is None else first - 1),
    }
    if timeline.expanded:
        # The second is its name in what clients speak today.
        json["expanded_timeline"] = json["unstable_expanded_timeline"] = True
    return json


def _state_json(plan: RoomPlan, state: RoomState, parts: _Parts) -> JsonObject:
    json: JsonObject = {}
    shown = [
        parts.shown_state[entry.event_nid]
        if entry.event_nid in parts.shown_state
        else {"type": entry.key[0], "state_key": entry.key[1]}
        for entry in sorted(state.entries.values(), key=lambda entry: entry.from_pos)
        if entry.event_nid in parts.shown_state or not entry.event_nid
    ]
    own = parts.own_events.get(plan.own_event_nid or 0)
    if own is not None and (plan.config.required.lazy or plan.config.required.matches(own.event.key)):
        shown = [event for event in shown if (event["type"], event["state_key"]) != own.event.key]
        shown.append(parts.shown_state[own.nid])
    if shown or plan.initial:
        json["required_state"] = shown
    if state.naming:
        for field_name, nid, key in (("name", state.name, "name"), ("avatar", state.avatar, "url")):
            value = _text(parts.states, nid, key)
            if value is not None or not plan.initial:
                json[field_name] = value
    if plan.room_nid in parts.counts:
        json["joined_count"], json["invited_count"] = parts.counts[plan.room_nid]
    if plan.room_nid in parts.heroes:
        json["heroes"] = parts.heroes[plan.room_nid]
    return json


def _common_json(plan: RoomPlan) -> JsonObject:
    room = plan.room
    return {
        "membership": room.membership,
        "bump_stamp": (room.bump_pos if room.joined else 0) or room.pos,
    }


def _told(view: View, plan: RoomPlan, timeline: RoomTimeline, state: RoomState, parts: _Parts) -> Told:
    members = state.members
    if plan.told is not None and not plan.initial and len(plan.told.members) < _MOST_MEMBERS:
        members = {**plan.told.members, **members}
    counts = parts.unread.get(plan.room_nid)
    return Told(
        sent_pos=view.until,
        first_ord=timeline.first_ord,
        limit=timeline.limit,
        required=state.required,
        stripped=False,
        is_dm=plan.is_dm,
        unread=counts is not None and any(counts.values()),
        receipts_pos=None if plan.told is None or plan.initial else plan.told.receipts_pos,
        data_pos=None if plan.told is None or plan.initial else plan.told.data_pos,
        members=members,
    )


async def _stripped(view: View, plans: Collection[RoomPlan]) -> dict[int, ToldRoom]:
    """Rooms that the user was never in, or not since the invitation."""
    if not plans:
        return {}
    said = await stripped_states(view.conn, view.reader.user_nid, [plan.room_nid for plan in plans])
    rows = [
        Membership(plan.room_nid, room.membership, room.event_nid, room.pos, said.get(plan.room_nid), False)
        for plan in plans
        if (room := plan.room).membership in ("invite", "knock")
    ]
    members = await events_by_nid(view.conn, [plan.room.event_nid for plan in plans])
    states = await stripped_rooms(view, rows, members)
    gone = [
        members[plan.room.event_nid] for plan in plans if plan.room_nid not in states and plan.room.event_nid in members
    ]
    shown = await timeline_events(view.conn, view.reader, gone, {}, _SHAPE)
    shown_state = await state_events(view.conn, gone, _SHAPE)
    as_state = {event.nid: json for event, json in zip(gone, shown_state, strict=True)}
    found: dict[int, ToldRoom] = {}
    for plan in plans:
        json = _common_json(plan)
        if plan.initial:
            json["initial"] = True
        if plan.room_nid in states:
            # The first is its name in what clients speak today, of knocks too.
            json["invite_state"] = json["stripped_state"] = states[plan.room_nid]
        else:
            member = members.get(plan.room.event_nid)
            json["stripped_state"] = [] if member is None else [stripped_state_event(member.event)]
            if member is not None:
                json["timeline"] = [shown[member.nid]]
                json["required_state"] = [as_state[member.nid]]
        found[plan.room_nid] = ToldRoom(json, _told_stripped(view, plan), plan.initial)
    return found


def _told_stripped(view: View, plan: RoomPlan) -> Told:
    return Told(
        sent_pos=view.until,
        first_ord=0,
        limit=0,
        required=plan.config.required,
        stripped=True,
        is_dm=plan.is_dm,
    )
