"""What is left of an event once it is redacted. Signatures and reference hashes cover just that.

Each version's rules are tables: top-level keys, and content keys by event type. What follows no table is
`third_party_invite.signed` of version 11 on.

# spec: rooms/v1#redactions  rooms/v6#redactions  rooms/v8#redactions  rooms/v9#redactions  rooms/v11#redactions
"""

from __future__ import annotations

from typing import Any

from homeserver.protocol.canonical_json import JsonObject
from homeserver.protocol.room_versions import Redaction, RoomVersion

_KEYS_V11 = frozenset(
    {
        "event_id", "type", "room_id", "sender", "state_key", "content", "hashes", "signatures", "depth",
        "prev_events", "auth_events", "origin_server_ts",
    }
)  # fmt: skip
_KEYS_V1 = _KEYS_V11 | {"prev_state", "origin", "membership"}

_POWER_LEVELS_V1 = frozenset(
    {"ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default"}
)
_CONTENT_V1: dict[str, frozenset[str]] = {
    "m.room.member": frozenset({"membership"}),
    "m.room.create": frozenset({"creator"}),
    "m.room.join_rules": frozenset({"join_rule"}),
    "m.room.power_levels": _POWER_LEVELS_V1,
    "m.room.aliases": frozenset({"aliases"}),
    "m.room.history_visibility": frozenset({"history_visibility"}),
}
_CONTENT_V6 = {event_type: keys for event_type, keys in _CONTENT_V1.items() if event_type != "m.room.aliases"}
_CONTENT_V8 = {**_CONTENT_V6, "m.room.join_rules": frozenset({"join_rule", "allow"})}
_CONTENT_V9 = {**_CONTENT_V8, "m.room.member": frozenset({"membership", "join_authorised_via_users_server"})}
# m.room.create is missing here because version 11 keeps all of its content.
_CONTENT_V11 = {
    **{event_type: keys for event_type, keys in _CONTENT_V9.items() if event_type != "m.room.create"},
    "m.room.power_levels": _POWER_LEVELS_V1 | {"invite"},
    "m.room.redaction": frozenset({"redacts"}),
}
_CONTENT = {
    Redaction.V1: _CONTENT_V1,
    Redaction.V6: _CONTENT_V6,
    Redaction.V8: _CONTENT_V8,
    Redaction.V9: _CONTENT_V9,
    Redaction.V11: _CONTENT_V11,
}


def redact(pdu: JsonObject, room_version: RoomVersion) -> JsonObject:
    """The redacted form of a PDU: a new object that shares its values with the old one. It has no `unsigned`.

    # spec: client-server-api/#redactions
    """
    keys = _KEYS_V11 if room_version.redaction is Redaction.V11 else _KEYS_V1
    redacted = {key: value for key, value in pdu.items() if key in keys}
    if "content" in redacted:
        redacted["content"] = _redact_content(redacted["content"], pdu.get("type"), room_version.redaction)
    return redacted


def _redact_content(content: Any, event_type: Any, rules: Redaction) -> JsonObject:
    if not isinstance(content, dict) or not isinstance(event_type, str):
        return {}
    if rules is Redaction.V11 and event_type == "m.room.create":
        return content
    keys = _CONTENT[rules].get(event_type)
    if keys is None:
        return {}
    kept = {key: content[key] for key in keys if key in content}
    if rules is Redaction.V11 and event_type == "m.room.member":
        invite = content.get("third_party_invite")
        # An invite without `signed` leaves an empty object, just as a content without kept keys does. The prose could
        # be read otherwise, but event ids depend on it, and this is how deployed servers compute them.
        if isinstance(invite, dict):
            kept["third_party_invite"] = {"signed": invite["signed"]} if "signed" in invite else {}
    return kept
