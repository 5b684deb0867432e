"""An event as every layer above handles it: the PDU as it travels, with its fields read out once.

# spec: server-server-api/#pdus  rooms/v1#event-format … rooms/v12#event-format
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from homeserver.protocol.canonical_json import MAX_SAFE_INTEGER, encode_canonical_json
from homeserver.protocol.canonical_json import JsonObject as JsonObject
from homeserver.protocol.errors import InvalidEvent
from homeserver.protocol.hashing import event_id_of
from homeserver.protocol.identifiers import (
    fits_identifier,
    is_domain_event_id,
    is_domain_room_id,
    is_event_id,
    is_hash_room_id,
    is_user_id,
)
from homeserver.protocol.room_versions import EventIdFormat, RoomVersion

MAX_EVENT_BYTES = 65536
MAX_PREV_EVENTS = 20
MAX_AUTH_EVENTS = 10
_MAX_BIGINT = 2**63 - 1

StateKey: TypeAlias = tuple[str, str]  # (event type, state_key)
StateMap: TypeAlias = Mapping[StateKey, "Event"]


class EventTooLarge(InvalidEvent):
    """An event that breaks a size limit; a client that sent it is to be told M_TOO_LARGE.

    # spec: client-server-api/#size-limits
    """


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
        if room_version.event_id_format is EventIdFormat.CHOSEN:
            # Room versions 1 and 2 cite an event as [event_id, {"sha256": hash}], later ones by its id alone.
            self.prev_events: tuple[str, ...] = tuple(reference[0] for reference in json["prev_events"])
            self.auth_events: tuple[str, ...] = tuple(reference[0] for reference in json["auth_events"])
        else:
            self.prev_events = tuple(json["prev_events"])
            self.auth_events = tuple(json["auth_events"])

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
        """The event that an m.room.redaction asks to redact.  # spec: rooms/v11#event-format"""
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


def parse_event(json: JsonObject, room_version: RoomVersion) -> Event:
    """The event that a PDU from another server is, with its id; its signatures and content hash are still to check.

    Takes any JSON value at all. `unsigned` is dropped, since it says what another server likes; so is, from room
    version 3 on, an `event_id`, which is not part of the format.

    :raises InvalidEvent: if it breaks the room version's event format, or a size limit (then EventTooLarge)

    # spec: server-server-api/#checks-performed-on-receipt-of-a-pdu 1
    """
    if not isinstance(json, dict):
        raise InvalidEvent("An event is a JSON object")
    pdu = {key: value for key, value in json.items() if key != "unsigned"}
    if room_version.event_id_format is not EventIdFormat.CHOSEN:
        pdu.pop("event_id", None)
    check_format(pdu, room_version)
    check_size(len(encode_canonical_json(pdu, strict=room_version.strict_canonical_json)))
    return Event(pdu, room_version, event_id_of(pdu, room_version))


def max_depth(room_version: RoomVersion) -> int:
    """The largest `depth` an event may have.  # spec: rooms/v6#event-format"""
    return MAX_SAFE_INTEGER if room_version.strict_canonical_json else _MAX_BIGINT


def check_size(encoded_size: int) -> None:
    """Checks the length of a whole PDU, with signatures and without `unsigned`, as Canonical JSON, in bytes.

    :raises EventTooLarge: if it is more than 65,536

    # spec: client-server-api/#size-limits
    """
    if encoded_size > MAX_EVENT_BYTES:
        raise EventTooLarge(f"The event has {encoded_size} bytes, more than {MAX_EVENT_BYTES}")


def check_format(pdu: JsonObject, room_version: RoomVersion) -> None:
    """Checks the keys that a PDU must have, and the types, sizes and grammar of those that the format knows.

    Whether the whole is Canonical JSON, and how long, is not looked at.

    :raises InvalidEvent: if the PDU breaks the format of its room version
    :raises EventTooLarge: if a key has more than 255 bytes

    # spec: client-server-api/#size-limits

    # spec: rooms/v1#event-format  rooms/v3#event-format  rooms/v4#event-format  rooms/v6#event-format
    # spec: rooms/v11#event-format  rooms/v12#event-format
    """
    for key, kind in _REQUIRED:
        # Exactly that type: True is an int to isinstance.
        if type(pdu.get(key)) is not kind:
            raise InvalidEvent(f"{key} is missing or not {_KIND_NAMES[kind]}")
    state_key = pdu.get("state_key")
    if type(state_key) is not str and "state_key" in pdu:
        raise InvalidEvent("state_key is not a string")
    if not room_version.redacts_in_content and type(pdu.get("redacts", "")) is not str:
        raise InvalidEvent("redacts is not a string")
    for key in ("type", "state_key", "sender", "room_id", "event_id"):
        value = pdu.get(key)
        if type(value) is str and not fits_identifier(value):
            raise EventTooLarge(f"{key} has more than 255 bytes")
    if not is_user_id(pdu["sender"]):
        raise InvalidEvent("sender is not a user id")
    if pdu["type"] == "m.room.member" and state_key is not None and not is_user_id(state_key):
        raise InvalidEvent("The state_key of a member event is not a user id")
    if not 0 <= pdu["depth"] <= max_depth(room_version):
        raise InvalidEvent("depth is out of range")
    if not -_MAX_BIGINT <= pdu["origin_server_ts"] <= _MAX_BIGINT:
        raise InvalidEvent("origin_server_ts is out of range")
    _check_ids(pdu, room_version)
    _check_references(pdu, "prev_events", MAX_PREV_EVENTS, room_version)
    _check_references(pdu, "auth_events", MAX_AUTH_EVENTS, room_version)
    if type(pdu["hashes"].get("sha256")) is not str:
        raise InvalidEvent("hashes has no sha256")
    for signatures in pdu["signatures"].values():
        if type(signatures) is not dict or not all(type(signature) is str for signature in signatures.values()):
            raise InvalidEvent("signatures is not an object of objects of strings")


_REQUIRED: tuple[tuple[str, type], ...] = (
    ("type", str),
    ("sender", str),
    ("content", dict),
    ("depth", int),
    ("origin_server_ts", int),
    ("prev_events", list),
    ("auth_events", list),
    ("hashes", dict),
    ("signatures", dict),
)
_KIND_NAMES: dict[type, str] = {str: "a string", dict: "an object", list: "an array", int: "an integer"}


def _check_ids(pdu: JsonObject, room_version: RoomVersion) -> None:
    if room_version.event_id_format is EventIdFormat.CHOSEN and not is_domain_event_id(pdu.get("event_id")):
        raise InvalidEvent("event_id is missing or not an event id")
    if not room_version.room_id_is_create_hash:
        if not is_domain_room_id(pdu.get("room_id")):
            raise InvalidEvent("room_id is missing or not a room id of this room version")
    elif pdu["type"] == "m.room.create":
        # The room's id is this event's, so it can't contain it.  # spec: rooms/v12#authorisation-rules 1.2
        # Were it let through to the rules, it would claim a room until they refuse it.
        if "room_id" in pdu:
            raise InvalidEvent("A create event of this room version has no room_id")
    elif not is_hash_room_id(pdu.get("room_id")):
        raise InvalidEvent("room_id is missing or not a room id of this room version")
    elif "$" + pdu["room_id"][1:] in pdu["auth_events"]:
        raise InvalidEvent("auth_events has the create event, which the room id already names")


def _check_references(pdu: JsonObject, key: str, limit: int, room_version: RoomVersion) -> None:
    references = pdu[key]
    if len(references) > limit:
        raise InvalidEvent(f"{key} has more than {limit} entries")
    if room_version.event_id_format is EventIdFormat.CHOSEN:
        # The hash beside the id binds nothing that the id doesn't, and old rooms are to be read with relaxed
        # restrictions, so it may be any object.  # spec: rooms/v1
        for reference in references:
            if (
                type(reference) is not list
                or len(reference) != 2
                or not is_event_id(reference[0])
                or type(reference[1]) is not dict
            ):
                raise InvalidEvent(f"{key} has an entry that is not [event id, hashes]")
        return
    for reference in references:
        if not is_event_id(reference):
            raise InvalidEvent(f"{key} has an entry that is not an event id")
