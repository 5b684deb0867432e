"""What differs between room versions 1 to 12, as data: the rest of the protocol asks these flags, never the number.

# spec: rooms/v1  rooms/v12
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from homeserver.protocol.errors import UnsupportedRoomVersion


class EventIdFormat(Enum):
    """How an event gets its id.  # spec: rooms/v1#event-ids  rooms/v3#event-ids  rooms/v4#event-ids"""

    CHOSEN = 1  # v1, v2: `$opaque:domain`, a field of the event
    HASH_BASE64 = 2  # v3: the reference hash, unpadded standard base64
    HASH_URLSAFE = 3  # v4 on: the reference hash, unpadded URL-safe base64


class StateResolution(Enum):
    """Which algorithm resolves conflicting states.  # spec: rooms/v1#state-resolution  rooms/v2  rooms/v12"""

    V1 = 1
    V2 = 2
    V2_1 = 3


class Redaction(Enum):
    """Which keys survive a redaction.  # spec: rooms/v1#redactions  rooms/v6 v8 v9 v11"""

    V1 = 1  # v1 to v5
    V6 = 6  # v6, v7: m.room.aliases is redacted wholly
    V8 = 8  # v8: join_rules keeps `allow`
    V9 = 9  # v9, v10: member keeps join_authorised_via_users_server
    V11 = 11  # v11 on: create kept whole, redacts in content, power_levels keeps invite


@dataclass(frozen=True, slots=True)
class RoomVersion:
    """One room version. Every field is a difference that some version introduced."""

    identifier: str
    event_id_format: EventIdFormat
    state_resolution: StateResolution
    redaction: Redaction
    enforces_key_validity: bool  # v5 on: signatures count only while their key was valid
    strict_canonical_json: bool  # v6 on: integers within ±(2^53-1), no floats, duplicates refused
    special_aliases_auth: bool  # v1 to v5: auth rule 4 for m.room.aliases
    limits_notifications_levels: bool  # v6 on: power_levels.notifications is guarded
    knocking: bool  # v7 on
    restricted_joins: bool  # v8 on
    knock_restricted: bool  # v10 on
    integer_power_levels: bool  # v10 on: strings are refused
    implicit_creator: bool  # v11 on: create has no `creator`; the sender is
    redacts_in_content: bool  # v11 on: `redacts` is part of content
    room_id_is_create_hash: bool  # v12 on: room id = hash of create; create is in no auth_events
    privileged_creators: bool  # v12 on: creators outrank every power level; additional_creators


def _version(number: int) -> RoomVersion:
    if number <= 2:
        id_format = EventIdFormat.CHOSEN
    else:
        id_format = EventIdFormat.HASH_BASE64 if number == 3 else EventIdFormat.HASH_URLSAFE
    resolution = {1: StateResolution.V1, 12: StateResolution.V2_1}.get(number, StateResolution.V2)
    redaction = max((r for r in Redaction if r.value <= number), key=lambda r: r.value)
    return RoomVersion(
        identifier=str(number),
        event_id_format=id_format,
        state_resolution=resolution,
        redaction=redaction,
        enforces_key_validity=number >= 5,
        strict_canonical_json=number >= 6,
        special_aliases_auth=number <= 5,
        limits_notifications_levels=number >= 6,
        knocking=number >= 7,
        restricted_joins=number >= 8,
        knock_restricted=number >= 10,
        integer_power_levels=number >= 10,
        implicit_creator=number >= 11,
        redacts_in_content=number >= 11,
        room_id_is_create_hash=number >= 12,
        privileged_creators=number >= 12,
    )


ROOM_VERSIONS: dict[str, RoomVersion] = {str(number): _version(number) for number in range(1, 13)}


def room_version(identifier: str) -> RoomVersion:
    """The room version of that identifier.

    :raises UnsupportedRoomVersion: for one that this server doesn't know
    """
    try:
        return ROOM_VERSIONS[identifier]
    except KeyError:
        raise UnsupportedRoomVersion(f"This server does not support room version {identifier!r}") from None
