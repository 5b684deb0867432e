"""Makes events: content hash, signature, id, and the checks that other servers will make.

An event is encoded twice, whatever its size: whole for the content hash, and redacted for signature and id, which cover
the same bytes. Its final size follows from the first encoding by counting.

# spec: server-server-api/#adding-hashes-and-signatures-to-outgoing-events
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from homeserver.protocol.canonical_json import JsonObject, encode_json
from homeserver.protocol.errors import InvalidEvent
from homeserver.protocol.events import Event, check_format, check_size, max_depth
from homeserver.protocol.hashing import content_hash_input, encode_base64, event_id_of_hash, signed_bytes
from homeserver.protocol.room_versions import EventIdFormat, RoomVersion
from homeserver.protocol.signing import SigningKey

# What a template from another server may contribute; the rest is either ours to make or nobody's to add.
_TEMPLATE_KEYS = (
    "type",
    "room_id",
    "sender",
    "state_key",
    "content",
    "depth",
    "origin_server_ts",
    "prev_events",
    "auth_events",
    "redacts",
)


def build_event(
    *,
    room_version: RoomVersion,
    room_id: str | None,
    type: str,
    sender: str,
    content: JsonObject,
    state_key: str | None = None,
    prev_events: Sequence[str],
    auth_events: Sequence[str],
    depth: int,
    origin_server_ts: int,
    server_name: str,
    signing_key: SigningKey,
    redacts: str | None = None,
    reference_hashes: Mapping[str, str] | None = None,
) -> Event:
    """A new event, hashed and signed. It may share `content` with the caller, who must not change that any more.

    :param room_id: None for the create event of a room of version 12 on, and for no other
    :param depth: one more than that of the previous events; too large ones are capped
    :param origin_server_ts: milliseconds since 1970
    :param redacts: the event that an m.room.redaction redacts; put where the room version wants it
    :param reference_hashes: room versions 1 and 2 only: the reference hash (SHA-256, unpadded Base64) of every event
        in `prev_events` and `auth_events`
    :raises InvalidEvent: if other servers would refuse the event's format, or its size (then EventTooLarge)
    :raises KeyError: if a needed reference hash is missing
    """
    template = build_template(
        room_version=room_version,
        room_id=room_id,
        type=type,
        sender=sender,
        content=content,
        state_key=state_key,
        prev_events=prev_events,
        auth_events=auth_events,
        depth=depth,
        origin_server_ts=origin_server_ts,
        redacts=redacts,
        reference_hashes=reference_hashes,
    )
    return _finish(template, room_version, server_name, signing_key)


def build_template(
    *,
    room_version: RoomVersion,
    room_id: str | None,
    type: str,
    sender: str,
    content: JsonObject,
    state_key: str | None = None,
    prev_events: Sequence[str],
    auth_events: Sequence[str],
    depth: int,
    origin_server_ts: int,
    redacts: str | None = None,
    reference_hashes: Mapping[str, str] | None = None,
) -> JsonObject:
    """An event that another server is to complete: no hashes, no signature, no id. Parameters as of `build_event`.

    # spec: server-server-api/#get_matrixfederationv1make_joinroomiduserid
    """
    template: JsonObject = {
        "type": type,
        "sender": sender,
        "content": content,
        "depth": min(depth, max_depth(room_version)),
        "origin_server_ts": origin_server_ts,
        "prev_events": _references(prev_events, room_version, reference_hashes),
        "auth_events": _references(auth_events, room_version, reference_hashes),
    }
    if room_id is not None:
        template["room_id"] = room_id
    if state_key is not None:
        template["state_key"] = state_key
    if redacts is not None:
        # It moved.  # spec: rooms/v11#moving-the-redacts-property-of-mroomredaction-events-to-a-content-property
        if room_version.redacts_in_content:
            template["content"] = {**content, "redacts": redacts}
        else:
            template["redacts"] = redacts
    return template


def complete_template(
    template: JsonObject, room_version: RoomVersion, server_name: str, signing_key: SigningKey
) -> Event:
    """The event of a template, hashed and signed here. Keys that the event format doesn't know are left behind.

    This signs whatever the template says: the caller has put type, sender, state_key, room_id, content and
    origin_server_ts there itself, or checked them.

    :raises InvalidEvent: if the result would break the format or a size limit (then EventTooLarge)

    # spec: server-server-api/#joining-rooms
    """
    if not isinstance(template, dict):
        raise InvalidEvent("An event template is a JSON object")
    known = {key: template[key] for key in _TEMPLATE_KEYS if key in template}
    return _finish(known, room_version, server_name, signing_key)


def _references(
    event_ids: Sequence[str], room_version: RoomVersion, reference_hashes: Mapping[str, str] | None
) -> list[Any]:
    if room_version.event_id_format is not EventIdFormat.CHOSEN:
        return list(event_ids)
    hashes = reference_hashes or {}
    return [[event_id, {"sha256": hashes[event_id]}] for event_id in event_ids]


def _finish(template: JsonObject, room_version: RoomVersion, server_name: str, signing_key: SigningKey) -> Event:
    """Fills id (where it is chosen), hashes and signature. Takes the object over."""
    pdu = template
    if room_version.event_id_format is EventIdFormat.CHOSEN:
        pdu["event_id"] = f"${secrets.token_urlsafe(18)}:{server_name}"
    unhashed = content_hash_input(pdu, room_version)
    pdu["hashes"] = {"sha256": encode_base64(sha256(unhashed).digest())}
    pdu["signatures"] = {}
    # Before anything is signed.
    check_format(pdu, room_version)
    covered = signed_bytes(pdu, room_version)
    pdu["signatures"] = {server_name: {signing_key.key_id: signing_key.sign(covered)}}
    # Two more members of an object that has others: each with its comma.
    added = {"hashes": pdu["hashes"], "signatures": pdu["signatures"]}
    check_size(len(unhashed) + len(encode_json(added)) - 1)
    if room_version.event_id_format is EventIdFormat.CHOSEN:
        return Event(pdu, room_version, pdu["event_id"])
    return Event(pdu, room_version, event_id_of_hash(sha256(covered).digest(), room_version))
