"""An event as every layer above handles it: the PDU as it travels, with its fields read out once.

# spec: server-server-api/#pdus  rooms/v1#event-format … rooms/v12#event-format
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from homeserver.protocol.room_versions import RoomVersion

JsonObject: TypeAlias = dict[str, Any]
StateKey: TypeAlias = tuple[str, str]  # (event type, state_key)
StateMap: TypeAlias = Mapping[StateKey, "Event"]


class Event:
    """A room event. Treat it and its `json` as immutable; it may be shared by every reader in the process.

    `json` is the PDU: with `hashes` and `signatures`, without `unsigned` and (from room version 3 on) without
    `event_id`. `prev_events` and `auth_events` are event ids whatever the room version's wire form. `room_id` is always
    set, also for a room version 12 create event, whose PDU has none.
    """

    __slots__ = (
        "auth_events",
        "content",
        "depth",
        "event_id",
        "json",
        "origin_server_ts",
        "prev_events",
        "room_id",
        "room_version",
        "sender",
        "state_key",
        "type",
    )

    def __init__(self, json: JsonObject, room_version: RoomVersion, event_id: str) -> None:
        """Reads the fields of a PDU whose format was checked before (`parse_event`) or that was built here."""
        self.json = json
        self.room_version = room_version
        self.event_id = event_id
        self.room_id: str = json["room_id"] if "room_id" in json else "!" + event_id[1:]
        self.type: str = json["type"]
        self.sender: str = json["sender"]
        self.state_key: str | None = json.get("state_key")
        self.content: JsonObject = json["content"]
        self.depth: int = json["depth"]
        self.origin_server_ts: int = json["origin_server_ts"]
        self.prev_events: tuple[str, ...] = _ids(json["prev_events"])
        self.auth_events: tuple[str, ...] = _ids(json["auth_events"])

    @property
    def key(self) -> StateKey:
        """Where this event stands in the room state. Only for state events."""
        assert self.state_key is not None, "not a state event"
        return (self.type, self.state_key)

    @property
    def is_state(self) -> bool:
        return self.state_key is not None

    @property
    def redacts(self) -> str | None:
        """The event that an m.room.redaction asks to redact.  # spec: rooms/v11#moving-the-redacts-property"""
        if self.type != "m.room.redaction":
            return None
        value = self.content.get("redacts") if self.room_version.redacts_in_content else self.json.get("redacts")
        return value if isinstance(value, str) else None

    @property
    def membership(self) -> str | None:
        """`content.membership` of a member event."""
        value = self.content.get("membership")
        return value if isinstance(value, str) else None

    def __repr__(self) -> str:
        return f"<Event {self.event_id} {self.type} in {self.room_id}>"


def _ids(references: list[Any]) -> tuple[str, ...]:
    # Room versions 1 and 2 cite an event as [event_id, {"sha256": hash}], later ones by its id alone.
    return tuple(ref if isinstance(ref, str) else ref[0] for ref in references)
