"""The forms of published keys, checked: identity keys, one-time keys, cross-signing keys, and signatures on them.

Nothing here reads or writes anything. What these functions return can be stored and shown to others as it is: every
signature that it bears has been verified, and those that can't be are left out or refused.

# spec: client-server-api/#key-algorithms
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from homeserver.protocol.canonical_json import encode_canonical_json
from homeserver.protocol.errors import BadJson, BadRequest, InvalidEvent, InvalidParam, InvalidSignature, TooLarge
from homeserver.protocol.events import JsonObject
from homeserver.protocol.hashing import decode_base64
from homeserver.protocol.signing import check_signed_json, parse_verify_key

MASTER, SELF_SIGNING, USER_SIGNING = "master", "self_signing", "user_signing"
USAGES = (MASTER, SELF_SIGNING, USER_SIGNING)

_MAX_OBJECT_BYTES = 16 * 1024
_MAX_NAME = 255
_MAX_KEYS = 20  # identity keys of one device
_MAX_ALGORITHMS = 50
_MAX_SIGNATURES = 500
_KEY_BYTES = 32
_CURVE_KEYS = ("curve25519", "signed_curve25519")


class BadSignature(BadRequest):
    """A signature that is missing, wrong, or not one that its maker may make."""

    errcode = "M_INVALID_SIGNATURE"


@dataclass(frozen=True, slots=True)
class OneTimeKey:
    """A one-time or fallback key. `value` is a string for unsigned algorithms, otherwise an object."""

    algorithm: str
    key_id: str
    value: Any

    @property
    def json(self) -> bytes:
        return canonical(self.value)


@dataclass(frozen=True, slots=True)
class SigningKeyObject:
    """A cross-signing key. `content` is the object without signatures, `signatures` those its owner gave with it."""

    usage: str
    public_key: str
    content: JsonObject
    signatures: Mapping[str, str]

    @property
    def key_id(self) -> str:
        return f"ed25519:{self.public_key}"


def canonical(value: Any) -> bytes:
    """Canonical JSON to be stored. Raises BadJson, TooLarge."""
    try:
        raw = encode_canonical_json(value)
    except InvalidEvent as error:
        raise BadJson(str(error)) from None
    if len(raw) > _MAX_OBJECT_BYTES:
        raise TooLarge(f"A key object may have at most {_MAX_OBJECT_BYTES} bytes")
    return raw


def content_of(obj: JsonObject) -> JsonObject:
    """What a signature covers.  # spec: appendices/#signing-details"""
    return {key: value for key, value in obj.items() if key not in ("signatures", "unsigned")}


def signatures_of(obj: JsonObject, user_id: str) -> dict[str, str]:
    """key id -> signature, of one user on an object.

    :raises BadJson: if `signatures` has not the form that it must have
    """
    signatures = obj.get("signatures", {})
    if not isinstance(signatures, dict) or not all(isinstance(value, dict) for value in signatures.values()):
        raise BadJson("signatures must map users to signatures by key id")
    own: JsonObject = signatures.get(user_id, {})
    if len(own) > _MAX_SIGNATURES:
        raise InvalidParam(f"An object may have at most {_MAX_SIGNATURES} signatures of one user")
    for key_id, signature in own.items():
        if not isinstance(signature, str) or len(signature) > _MAX_NAME or "\0" in signature:
            raise BadJson("A signature must be a short string")
        _check_name("key id", key_id)
    return own


def check_signature(obj: JsonObject, user_id: str, key_id: str, public_key: str) -> None:
    """Checks the signature on an object by one key. Raises BadSignature."""
    try:
        check_signed_json(obj, user_id, key_id, parse_verify_key(public_key))
    except InvalidSignature as error:
        raise BadSignature(str(error)) from None


def identity_key(device_keys: JsonObject, device_id: str) -> str:
    """The Ed25519 key of a device's checked object."""
    key: str = device_keys["keys"][f"ed25519:{device_id}"]
    return key


def checked_device_keys(obj: JsonObject, user_id: str, device_id: str) -> JsonObject:
    """The identity keys of a device, with its own signature and no other.

    :raises BadJson, InvalidParam, TooLarge: for what is not of that form or somebody else's
    :raises BadSignature: if the device's own signature is missing or wrong
    # spec: client-server-api/#post_matrixclientv3keysupload_request_devicekeys
    """
    if obj.get("user_id") != user_id or obj.get("device_id") != device_id:
        raise InvalidParam("device_keys must name the user and the device that upload them")
    algorithms, keys = obj.get("algorithms"), obj.get("keys")
    if not isinstance(algorithms, list) or not all(isinstance(one, str) for one in algorithms):
        raise BadJson("algorithms must be an array of strings")
    if not isinstance(keys, dict) or not all(isinstance(one, str) for one in keys.values()):
        raise BadJson("keys must map key ids to keys")
    if len(keys) > _MAX_KEYS or len(algorithms) > _MAX_ALGORITHMS:
        raise InvalidParam("A device has not so many keys or algorithms")
    for name, key in keys.items():
        algorithm, _, of_device = name.partition(":")
        if of_device != device_id:
            raise InvalidParam("Each key id must end with the device id")
        if algorithm in ("ed25519", "curve25519"):
            _check_key(key)
    key_id = f"ed25519:{device_id}"
    if key_id not in keys:
        raise InvalidParam(f"{key_id} is missing")
    signature = signatures_of(obj, user_id).get(key_id)
    checked = {**content_of(obj), "signatures": {user_id: {key_id: signature} if signature is not None else {}}}
    canonical(checked)
    check_signature(checked, user_id, key_id, keys[key_id])
    return checked


def checked_one_time_keys(
    keys: JsonObject, user_id: str, device_id: str, device_key: str, *, most: int
) -> list[OneTimeKey]:
    """One-time or fallback keys, those that are objects with the device's signature verified.

    :param device_key: the device's Ed25519 key
    :raises BadJson, InvalidParam, TooLarge, BadSignature: if any is not as it must be
    """
    if len(keys) > most:
        raise InvalidParam(f"At most {most} keys can be uploaded")
    checked = []
    for name, value in keys.items():
        algorithm, colon, key_id = name.partition(":")
        if not (algorithm and colon and key_id):
            raise InvalidParam("The name of a one-time key is <algorithm>:<key id>")
        _check_name("name", name)
        if isinstance(value, str) and algorithm != "signed_curve25519":
            key: Any = value
        elif isinstance(value, dict):
            key = value.get("key")
            signing_id = f"ed25519:{device_id}"
            signature = signatures_of(value, user_id).get(signing_id)
            value = {**content_of(value), "signatures": {user_id: {signing_id: signature} if signature else {}}}
            check_signature(value, user_id, signing_id, device_key)
        else:
            raise BadJson("A one-time key must be an object with a key and its signatures")
        if not isinstance(key, str):
            raise BadJson("The key must be a string")
        if algorithm in _CURVE_KEYS:
            _check_key(key)
        one = OneTimeKey(algorithm, key_id, value)
        canonical(one.value)
        checked.append(one)
    return checked


def checked_signing_key(obj: Any, user_id: str, usage: str) -> SigningKeyObject:
    """A cross-signing key of that user for that usage; its signatures have not been verified yet.

    :raises BadJson, InvalidParam, TooLarge: if it is none
    # spec: client-server-api/#post_matrixclientv3keysdevice_signingupload_request_crosssigningkey
    """
    if not isinstance(obj, dict):
        raise BadJson("A cross-signing key must be an object")
    if obj.get("user_id") != user_id:
        raise InvalidParam("A cross-signing key must name the user who uploads it")
    if obj.get("usage") != [usage]:
        raise InvalidParam(f"The usage must be {usage}")
    keys = obj.get("keys")
    if not isinstance(keys, dict) or len(keys) != 1:
        raise InvalidParam("A cross-signing key has exactly one public key")
    ((name, public_key),) = keys.items()
    if not isinstance(public_key, str) or name != f"ed25519:{public_key}":
        raise InvalidParam("The key id must be ed25519: and the public key")
    if public_key.endswith("="):
        raise InvalidParam("The public key must be unpadded Base64")
    _check_key(public_key)
    content = content_of(obj)
    canonical(content)
    return SigningKeyObject(usage, public_key, content, signatures_of(obj, user_id))


def _check_key(key: str) -> None:
    try:
        good = len(key) <= _MAX_NAME and len(decode_base64(key)) == _KEY_BYTES
    except ValueError:
        good = False
    if not good:
        raise InvalidParam(f"A key must be {_KEY_BYTES} bytes in Base64")


def _check_name(what: str, value: str) -> None:
    if len(value) > _MAX_NAME or "\0" in value:
        raise InvalidParam(f"The {what} is too long or has a NUL character in it")
