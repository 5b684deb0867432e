"""Invites that redeem an m.room.third_party_invite: an identity server's signature stands in for the inviter's power.

# spec: rooms/v11#authorization-rules 4.4.1  server-server-api/#verifying-the-invite
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from homeserver.protocol.auth_rules.auth_events import third_party_token
from homeserver.protocol.auth_rules.refusal import Rule, member_clause, refusal
from homeserver.protocol.canonical_json import encode_canonical_json
from homeserver.protocol.errors import AuthRuleError
from homeserver.protocol.events import Event, StateMap
from homeserver.protocol.hashing import decode_base64
from homeserver.protocol.room_versions import RoomVersion

#: Real invites carry one signature and at most a few keys. Without a bound, one event full of signatures against
#: another full of keys would cost minutes of verifying, again in every state resolution.
_MAX_SIGNATURES: Final = 8
_MAX_KEYS: Final = 8


def check_third_party_invite(event: Event, state: StateMap) -> None:
    """Judges an invite whose content has `third_party_invite`.

    :raises AuthRuleError:
    """
    # spec: rooms/v11#authorization-rules 4.4.1.1
    target = state.get(("m.room.member", event.state_key or ""))
    if target is not None and target.membership == "ban":
        raise _refused(event, f"{event.state_key} is banned from the room", 1)
    # spec: rooms/v11#authorization-rules 4.4.1.2
    invite = event.content["third_party_invite"]
    signed = invite.get("signed") if isinstance(invite, dict) else None
    if not isinstance(signed, dict):
        raise _refused(event, "third_party_invite has no signed object", 2)
    # spec: rooms/v11#authorization-rules 4.4.1.3
    token = third_party_token(event.content)
    if token is None or not isinstance(signed.get("mxid"), str):
        raise _refused(event, "signed has no mxid or no token", 3)
    # spec: rooms/v11#authorization-rules 4.4.1.4
    if signed["mxid"] != event.state_key:
        raise _refused(event, "signed is for another user", 4)
    # spec: rooms/v11#authorization-rules 4.4.1.5
    original = state.get(("m.room.third_party_invite", token))
    if original is None:
        raise _refused(event, "No m.room.third_party_invite has that token", 5)
    # spec: rooms/v11#authorization-rules 4.4.1.6
    if event.sender != original.sender:
        raise _refused(event, "The m.room.third_party_invite is another user's", 6)
    # spec: rooms/v11#authorization-rules 4.4.1.7
    if not _is_signed(event, signed, original.content):
        # spec: rooms/v11#authorization-rules 4.4.1.8
        raise _refused(event, "signed is signed with none of the keys of the m.room.third_party_invite", 8)


def _is_signed(event: Event, signed: Mapping[str, Any], keys_from: Mapping[str, Any]) -> bool:
    return next(_signers(event.room_version, signed, keys_from), None) is not None


def signing_keys(
    room_version: RoomVersion, signed: Mapping[str, Any], keys_from: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Of the keys in the content of an m.room.third_party_invite those with which `signed` is signed, each with the
    URLs at which to ask whether it is still valid.

    # spec: client-server-api/#mroomthird_party_invite
    """
    signers = set(_signers(room_version, signed, keys_from))
    listed = keys_from.get("public_keys")
    found: dict[str, list[str]] = {}
    for entry in (keys_from, *(listed if isinstance(listed, list) else ())):
        if not isinstance(entry, dict) or _decode(entry.get("public_key")) not in signers:
            continue
        urls = found.setdefault(entry["public_key"], [])
        url = entry.get("key_validity_url")
        if isinstance(url, str) and url and url not in urls and len(urls) < _MAX_KEYS:
            urls.append(url)
    return found


def _signers(room_version: RoomVersion, signed: Mapping[str, Any], keys_from: Mapping[str, Any]) -> Iterator[bytes]:
    signatures = _first(_signatures(signed), _MAX_SIGNATURES)
    keys = _first(_public_keys(keys_from), _MAX_KEYS)
    if not signatures or not keys:
        return
    try:
        message = encode_canonical_json(
            {key: value for key, value in signed.items() if key not in ("signatures", "unsigned")},
            strict=room_version.strict_canonical_json,
        )
    except ValueError:
        return
    for public_key in keys:
        if any(_verifies(message, signature, public_key) for signature in signatures):
            yield public_key


def _verifies(message: bytes, signature: bytes, key: bytes) -> bool:
    try:
        VerifyKey(key).verify(message, signature)
    except (CryptoError, ValueError):
        return False
    return True


def _signatures(signed: Mapping[str, Any]) -> Iterator[bytes]:
    servers = signed.get("signatures")
    for by_key in servers.values() if isinstance(servers, dict) else ():
        for key_id, signature in by_key.items() if isinstance(by_key, dict) else ():
            if key_id.startswith("ed25519:"):
                yield _decode(signature)


def _public_keys(content: Mapping[str, Any]) -> Iterator[bytes]:
    # spec: rooms/v11#authorization-rules 4.4.1.7.1
    yield _decode(content.get("public_key"))
    # spec: rooms/v11#authorization-rules 4.4.1.7.2
    listed = content.get("public_keys")
    for entry in listed if isinstance(listed, list) else ():
        yield _decode(entry.get("public_key") if isinstance(entry, dict) else None)


def _first(values: Iterator[bytes], count: int) -> list[bytes]:
    found: dict[bytes, None] = {}
    for value in values:
        if value:
            found[value] = None
        if len(found) == count:
            break
    return list(found)


def _decode(value: object) -> bytes:
    # spec: client-server-api/#mroomthird_party_invite (either alphabet)
    try:
        return decode_base64(value) if isinstance(value, str) else b""
    except ValueError:
        return b""


def _refused(event: Event, message: str, clause: int) -> AuthRuleError:
    version = event.room_version
    return refusal(version, Rule.MEMBER, message, member_clause(version, "invite"), 1, clause)
