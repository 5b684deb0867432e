"""Small rooms for tests: unsigned events, made quickly, with the auth events that the specification selects.

A `Room` is one branch: its `state` is what the next event stands on. `fork()` gives another branch of the same room,
and both put what they make into the same `events`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from homeserver.protocol.auth_rules import auth_event_keys
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.hashing import event_id_of
from homeserver.protocol.room_versions import ROOM_VERSIONS, EventIdFormat, RoomVersion

ALICE, BOB, CHARLIE, DAVE = "@alice:a.example", "@bob:b.example", "@charlie:c.example", "@dave:d.example"
VERSIONS = list(ROOM_VERSIONS.values())
_DEFAULT: Any = object()


def versions(first: int, last: int = 12) -> list[RoomVersion]:
    """The room versions in that range, both ends included."""
    return [ROOM_VERSIONS[str(number)] for number in range(first, last + 1)]


class Room:
    """A branch of a room. Starts empty; `Room.with_members` gives one that people are in."""

    def __init__(self, version: RoomVersion) -> None:
        self.version = version
        self.events: dict[str, Event] = {}
        self.state: dict[StateKey, Event] = {}
        self.last: Event | None = None
        self._clock = itertools.count(1000)
        self._depth = 0

    @classmethod
    def created(cls, version: RoomVersion, creator: str = ALICE, **content: Any) -> Room:
        """A room with nothing but its create event; `content` is added to (or, None, taken out of) its content."""
        room = cls(version)
        standard: dict[str, Any] = {"room_version": version.identifier}
        if not version.implicit_creator:
            standard["creator"] = creator
        room.add("m.room.create", creator, standard | content, "")
        return room

    @classmethod
    def with_members(
        cls,
        version: RoomVersion,
        *members: str,
        levels: Mapping[str, int] | None = None,
        join_rule: str = "public",
        creator: str = ALICE,
    ) -> Room:
        """A room with its creator, power levels (the creator's 100 and `levels`), join rules and joined members."""
        room = cls.created(version, creator)
        room.join(creator)
        users: dict[str, int] = {} if version.privileged_creators else {creator: 100}
        room.add("m.room.power_levels", creator, {"users": users | dict(levels or {})}, "")
        room.join_rules(creator, "public")
        for member in members:
            room.join(member)
        if join_rule != "public":
            room.join_rules(creator, join_rule)
        return room

    @property
    def create(self) -> Event:
        return self.state[("m.room.create", "")]

    @property
    def room_id(self) -> str:
        return self.create.room_id

    @property
    def ids(self) -> dict[StateKey, str]:
        """The state as `resolve` takes it."""
        return {key: event.event_id for key, event in self.state.items()}

    def fork(self) -> Room:
        """Another branch from here on. Its clock is this one's, so later events are later on every branch."""
        other = Room(self.version)
        other.events, other.state, other.last = self.events, dict(self.state), self.last
        other._clock, other._depth = self._clock, self._depth
        return other

    def make(
        self,
        type: str,
        sender: str,
        content: Mapping[str, Any] | None = None,
        state_key: str | None = None,
        *,
        ts: int | None = None,
        auth_events: Iterable[Event] | None = None,
        prev_events: Iterable[Event] | None = None,
        **fields: Any,
    ) -> Event:
        """An event on top of this branch, which is not added to it. `fields` overwrite those of the PDU."""
        content = dict(content or {})
        if auth_events is None:
            keys = auth_event_keys(self.version, type=type, sender=sender, state_key=state_key, content=content)
            auth_events = [self.state[key] for key in keys if key in self.state]
        if prev_events is None:
            prev_events = [] if self.last is None else [self.last]
        pdu: dict[str, Any] = {
            "type": type,
            "sender": sender,
            "content": content,
            "depth": self._depth + 1,
            "origin_server_ts": next(self._clock) if ts is None else ts,
            "auth_events": [self._reference(event) for event in auth_events],
            "prev_events": [self._reference(event) for event in prev_events],
            "hashes": {"sha256": ""},
            "signatures": {},
        }
        if state_key is not None:
            pdu["state_key"] = state_key
        chosen_ids = self.version.event_id_format is EventIdFormat.CHOSEN
        if chosen_ids:
            pdu["event_id"] = f"${next(self._clock)}:{sender.partition(':')[2]}"
        if not (type == "m.room.create" and self.version.room_id_is_create_hash):
            pdu["room_id"] = self.room_id if self.state else "!room:" + sender.partition(":")[2]
        pdu |= fields
        return Event(pdu, self.version, event_id_of(pdu, self.version))

    def add(
        self,
        type: str,
        sender: str,
        content: Mapping[str, Any] | None = None,
        state_key: str | None = None,
        **more: Any,
    ) -> Event:
        """Makes an event and puts it on top of this branch, allowed or not."""
        return self.put(self.make(type, sender, content, state_key, **more))

    def put(self, event: Event) -> Event:
        """Puts an event on top of this branch."""
        self.events[event.event_id] = event
        self.last = event
        self._depth = event.depth
        if event.is_state:
            self.state[event.key] = event
        return event

    def member(self, sender: str, membership: str, target: str | None = None, **more: Any) -> Event:
        """Adds an m.room.member event; the target is the sender unless given."""
        content = {"membership": membership} | more.pop("content", {})
        return self.add("m.room.member", sender, content, sender if target is None else target, **more)

    def join(self, user: str, **more: Any) -> Event:
        return self.member(user, "join", **more)

    def topic(self, sender: str, topic: str, **more: Any) -> Event:
        return self.add("m.room.topic", sender, {"topic": topic}, "", **more)

    def join_rules(self, sender: str, join_rule: str, **more: Any) -> Event:
        return self.add("m.room.join_rules", sender, {"join_rule": join_rule}, "", **more)

    def power_levels(self, sender: str, users: Mapping[str, int] = _DEFAULT, **content: Any) -> Event:
        """Adds an m.room.power_levels event: the present content with `users` and `content` put in its place."""
        present = self.state.get(("m.room.power_levels", ""))
        merged = (dict(present.content) if present else {}) | content
        if users is not _DEFAULT:
            merged["users"] = dict(users)
        return self.add("m.room.power_levels", sender, merged, "")

    def _reference(self, event: Event) -> Any:
        if self.version.event_id_format is EventIdFormat.CHOSEN:
            return [event.event_id, {"sha256": ""}]
        return event.event_id
