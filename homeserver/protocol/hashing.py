"""The two hashes of an event: the content hash that it carries, and the reference hash that names it.

# spec: server-server-api/#calculating-the-content-hash-for-an-event
# spec: server-server-api/#calculating-the-reference-hash-for-an-event
"""

from __future__ import annotations

import binascii
from hashlib import sha256

from homeserver.protocol.canonical_json import JsonObject, encode_canonical_json
from homeserver.protocol.redaction import redact
from homeserver.protocol.room_versions import EventIdFormat, RoomVersion

_STANDARD_TO_URLSAFE = str.maketrans("+/", "-_")
_URLSAFE_TO_STANDARD = str.maketrans("-_", "+/")
_NOT_IN_CONTENT_HASH = frozenset({"unsigned", "signatures", "hashes"})


def encode_base64(data: bytes) -> str:
    """Unpadded standard Base64.  # spec: appendices/#unpadded-base64"""
    return binascii.b2a_base64(data, newline=False).decode("ascii").rstrip("=")


def encode_urlsafe_base64(data: bytes) -> str:
    """Unpadded URL-safe Base64.  # spec: appendices/#url-safe-unpadded-base64"""
    return encode_base64(data).translate(_STANDARD_TO_URLSAFE)


def decode_base64(text: str) -> bytes:
    """The bytes of Base64 text of either alphabet, padded or not.

    :raises ValueError: for anything else

    # spec: appendices/#unpadded-base64
    """
    unpadded = text.rstrip("=").translate(_URLSAFE_TO_STANDARD)
    return binascii.a2b_base64(unpadded + "=" * (-len(unpadded) % 4), strict_mode=True)


def content_hash(pdu: JsonObject, room_version: RoomVersion) -> str:
    """The content hash (SHA-256, unpadded Base64) of a PDU, whatever `hashes` it carries.

    :raises InvalidEvent: if the PDU has no canonical form

    # spec: server-server-api/#calculating-the-content-hash-for-an-event
    """
    return encode_base64(sha256(content_hash_input(pdu, room_version)).digest())


def content_hash_input(pdu: JsonObject, room_version: RoomVersion) -> bytes:
    """The bytes that the content hash covers.

    :raises InvalidEvent: if the PDU has no canonical form
    """
    hashed = {key: value for key, value in pdu.items() if key not in _NOT_IN_CONTENT_HASH}
    return encode_canonical_json(hashed, strict=room_version.strict_canonical_json)


def check_content_hash(pdu: JsonObject, room_version: RoomVersion) -> bool:
    """Whether a PDU's `hashes.sha256` is its content hash. If not, only its redacted form may be used.

    :raises InvalidEvent: if the PDU has no canonical form

    # spec: server-server-api/#validating-hashes-and-signatures-on-received-events
    """
    hashes = pdu.get("hashes")
    claimed = hashes.get("sha256") if isinstance(hashes, dict) else None
    if not isinstance(claimed, str):
        return False
    expected = content_hash(pdu, room_version)
    if claimed == expected:
        return True
    try:
        return encode_base64(decode_base64(claimed)) == expected
    except ValueError:
        return False


def signed_bytes(pdu: JsonObject, room_version: RoomVersion) -> bytes:
    """The bytes that an event's signatures and its reference hash cover: the redacted form without signatures.

    :raises InvalidEvent: if that has no canonical form

    # spec: server-server-api/#signing-events
    """
    redacted = redact(pdu, room_version)
    redacted.pop("signatures", None)
    return encode_canonical_json(redacted, strict=room_version.strict_canonical_json)


def reference_hash(pdu: JsonObject, room_version: RoomVersion) -> bytes:
    """The reference hash (32 bytes) of a PDU.

    :raises InvalidEvent: if the PDU's redacted form has no canonical form

    # spec: server-server-api/#calculating-the-reference-hash-for-an-event
    """
    return sha256(signed_bytes(pdu, room_version)).digest()


def event_id_of(pdu: JsonObject, room_version: RoomVersion) -> str:
    """The id of the event. Room versions 1 and 2 have it in the PDU.

    :raises InvalidEvent: if the PDU's redacted form has no canonical form

    # spec: rooms/v1#event-ids  rooms/v3#event-ids  rooms/v4#event-ids
    """
    if room_version.event_id_format is EventIdFormat.CHOSEN:
        event_id: str = pdu["event_id"]
        return event_id
    return event_id_of_hash(reference_hash(pdu, room_version), room_version)


def event_id_of_hash(digest: bytes, room_version: RoomVersion) -> str:
    """The event id that a reference hash makes. Only for room versions from 3 on.

    # spec: rooms/v3#event-ids  rooms/v4#event-ids
    """
    if room_version.event_id_format is EventIdFormat.HASH_BASE64:
        return "$" + encode_base64(digest)
    return "$" + encode_urlsafe_base64(digest)
