"""Events as another server may see them: whole if the room's history visibility allows it, else redacted.

# spec: client-server-api/#room-history-visibility
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from federation.peers import Federation
from homeserver.protocol.events import JsonObject
from homeserver.protocol.history_visibility import SHARED, WORLD_READABLE, server_may_see, visibility_of
from homeserver.protocol.identifiers import domain_of
from homeserver.protocol.redaction import redact
from homeserver.storage.erased_users import without_the_erased
from homeserver.storage.events import ORD_SHIFT, StoredEvent
from homeserver.storage.federation_reads import last_joined_pos, pdus_by_nid, users_of_server, visibilities_ever
from homeserver.storage.members import is_any_joined
from homeserver.storage.names import Room
from homeserver.storage.state_snapshots import State
from homeserver.storage.stream import Connection

_VISIBILITY = ("m.room.history_visibility", "")


async def was_joined(federation: Federation, conn: Connection, room: Room, origin: str, at: StoredEvent) -> bool:
    """Whether anyone of that server is in the room, or was at that event."""
    if await is_any_joined(conn, room.nid, origin):
        return True
    asked = await _Asked.of(federation, conn, room, origin)
    state = await federation.services.timeline.snapshots.load(conn, at.snapshot_nid)
    contents = await _contents(conn, [_relevant(asked, state)])
    return "join" in _memberships(asked, state, contents)


async def as_seen_by(
    federation: Federation, conn: Connection, room: Room, origin: str, events: Sequence[StoredEvent]
) -> list[JsonObject]:
    """The PDUs of these events of one room. Of users who wanted to be forgotten, no server is told any more what they
    said: one that was there has it already."""
    asked = await _Asked.of(federation, conn, room, origin)
    events = await without_the_erased(conn, events)
    if asked.joined and await _never_hidden(conn, room, asked):
        return [stored.event.json for stored in events]
    snapshots = federation.services.timeline.snapshots
    states = {nid: await snapshots.load(conn, nid) for nid in {stored.snapshot_nid for stored in events}}
    contents = await _contents(conn, [_relevant(asked, state) for state in states.values()])
    return [
        stored.event.json
        if _may_see(asked, stored, states[stored.snapshot_nid], contents)
        else redact(stored.event.json, stored.event.room_version)
        for stored in events
    ]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A server that asks about a room, and the state keys that say what it may see."""

    origin: str
    joined: bool
    last_join: int
    visibility_key: int
    member_keys: Sequence[int]

    @classmethod
    async def of(cls, federation: Federation, conn: Connection, room: Room, origin: str) -> _Asked:
        names = federation.services.timeline.names
        users = await users_of_server(conn, room.nid, origin)
        keys = await names.state_key_nids([_VISIBILITY, *(("m.room.member", user_id) for user_id in users)])
        visibility_key = keys.pop(_VISIBILITY)
        last_join = await last_joined_pos(conn, room.nid, list(keys.values()))
        joined = await is_any_joined(conn, room.nid, origin)
        return cls(origin, joined, last_join or 0, visibility_key, list(keys.values()))


async def _never_hidden(conn: Connection, room: Room, asked: _Asked) -> bool:
    ever = await visibilities_ever(conn, room.nid, asked.visibility_key)
    return all(visibility_of(orjson.loads(pdu)["content"]) in (SHARED, WORLD_READABLE) for pdu in ever)


def _relevant(asked: _Asked, state: State) -> State:
    return {key: state[key] for key in (asked.visibility_key, *asked.member_keys) if key in state}


async def _contents(conn: Connection, states: Sequence[State]) -> Mapping[int, JsonObject]:
    """event_nid -> content."""
    pdus = await pdus_by_nid(conn, {nid for state in states for nid in state.values()})
    return {nid: orjson.loads(pdu)["content"] for nid, pdu in pdus.items()}


def _memberships(asked: _Asked, state: State, contents: Mapping[int, JsonObject]) -> list[str]:
    members = (contents[state[key]].get("membership") for key in asked.member_keys if key in state)
    return [membership for membership in members if isinstance(membership, str)]


def _may_see(asked: _Asked, stored: StoredEvent, state: State, contents: Mapping[int, JsonObject]) -> bool:
    event = stored.event
    pos = stored.ord >> ORD_SHIFT if stored.ord is not None else 0
    visibility_nid = state.get(asked.visibility_key)
    visibilities = [visibility_of(contents[visibility_nid] if visibility_nid is not None else None)]
    memberships = _memberships(asked, state, contents)
    if event.is_state and event.key == _VISIBILITY:
        visibilities.append(visibility_of(event.content))
    if event.type == "m.room.member" and event.membership and domain_of(event.state_key or "") == asked.origin:
        memberships.append(event.membership)
    return any(
        server_may_see(visibility, memberships, joined_after=asked.joined or asked.last_join > pos)
        for visibility in visibilities
    )
