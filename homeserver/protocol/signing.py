"""Ed25519 signatures of servers: over any JSON object, and over events, where they cover the redacted form.

# spec: appendices/#signing-json  server-server-api/#signing-events
"""

from __future__ import annotations

import re
import secrets
import string
from typing import Any

from nacl.exceptions import CryptoError
from nacl.signing import SigningKey as NaclSigningKey
from nacl.signing import VerifyKey

from homeserver.protocol.canonical_json import JsonObject, encode_canonical_json
from homeserver.protocol.errors import InvalidEvent, InvalidSignature
from homeserver.protocol.events import Event
from homeserver.protocol.hashing import decode_base64, encode_base64, signed_bytes
from homeserver.protocol.identifiers import domain_of, is_user_id
from homeserver.protocol.room_versions import EventIdFormat, RoomVersion

ALGORITHM = "ed25519"
_KEY_VERSION = re.compile(r"[A-Za-z0-9_]+")


class SigningKey:
    """A server's private key. `key_id` is what signatures call it, like "ed25519:a_xxxx"."""

    __slots__ = ("_key", "key_id", "verify_key")

    def __init__(self, version: str, seed: bytes) -> None:
        """`version` is what follows "ed25519:" in the key id, `seed` is 32 bytes.

        :raises ValueError: if either is malformed
        """
        if _KEY_VERSION.fullmatch(version) is None:
            raise ValueError("The version of a signing key consists of A-Z, a-z, 0-9 and _")
        if len(seed) != 32:
            raise ValueError("The seed of a signing key has 32 bytes")
        self._key = NaclSigningKey(seed)
        self.key_id = f"{ALGORITHM}:{version}"
        self.verify_key = self._key.verify_key

    @property
    def version(self) -> str:
        return self.key_id.partition(":")[2]

    @property
    def verify_key_base64(self) -> str:
        """The public key, unpadded Base64."""
        return encode_base64(self.verify_key.encode())

    @property
    def seed_base64(self) -> str:
        """The secret, unpadded Base64."""
        return encode_base64(self._key.encode())

    def sign(self, message: bytes) -> str:
        """The signature of those bytes, unpadded Base64."""
        return encode_base64(self._key.sign(message).signature)

    def __repr__(self) -> str:
        return f"<SigningKey {self.key_id}>"  # never the secret


def generate_signing_key() -> SigningKey:
    """A new key from the system's random numbers, with a random version, so that it can't be taken for an older one."""
    version = "a_" + "".join(secrets.choice(string.ascii_letters) for _ in range(6))
    return SigningKey(version, secrets.token_bytes(32))


def parse_signing_key(text: str) -> SigningKey:
    """The key in the one-line file form that homeservers share: `ed25519 <version> <seed in Base64>`.

    :raises ValueError: for anything else. The message doesn't repeat the text, which is a secret
    """
    words = text.split()
    if len(words) != 3 or words[0] != ALGORITHM:
        raise ValueError(f"A signing key is one line: {ALGORITHM} <version> <seed in Base64>")
    return SigningKey(words[1], decode_base64(words[2]))


def format_signing_key(key: SigningKey) -> str:
    """The line that `parse_signing_key` reads, with its line end."""
    return f"{ALGORITHM} {key.version} {key.seed_base64}\n"


def parse_verify_key(text: str) -> VerifyKey:
    """A public key from Base64, padded or not.

    :raises InvalidSignature: if it is none
    """
    try:
        return VerifyKey(decode_base64(text))
    except (CryptoError, TypeError, ValueError) as error:
        raise InvalidSignature(f"Not an Ed25519 public key: {error}") from None


def sign_json(obj: JsonObject, server_name: str, key: SigningKey) -> JsonObject:
    """A copy of a JSON object with one more signature. `unsigned` and other signatures stay and aren't covered.

    :raises InvalidEvent: if it has no canonical form

    # spec: appendices/#signing-details
    """
    return _with_signature(obj, server_name, key, _json_to_sign(obj))


def check_signed_json(obj: JsonObject, server_name: str, key_id: str, verify_key: VerifyKey) -> None:
    """Checks the signature that a server made with one key over a JSON object.

    :raises InvalidSignature: if it is missing or wrong

    # spec: appendices/#checking-for-a-signature
    """
    signature = _signature_of(obj, server_name, key_id)
    try:
        message = _json_to_sign(obj)
    except InvalidEvent as error:
        raise InvalidSignature(str(error)) from None
    _verify(message, signature, verify_key)


def sign_event(pdu: JsonObject, room_version: RoomVersion, server_name: str, key: SigningKey) -> JsonObject:
    """A copy of a PDU with one more signature, over its redacted form. Its `hashes` must be there already.

    :raises InvalidEvent: if it has no canonical form

    # spec: server-server-api/#adding-hashes-and-signatures-to-outgoing-events
    """
    return _with_signature(pdu, server_name, key, signed_bytes(pdu, room_version))


def check_event_signature(event: Event, server_name: str, key_id: str, verify_key: VerifyKey) -> None:
    """Checks the signature that a server made with one key over an event.

    :raises InvalidSignature: if it is missing or wrong

    # spec: server-server-api/#validating-hashes-and-signatures-on-received-events
    """
    signature = _signature_of(event.json, server_name, key_id)
    try:
        message = signed_bytes(event.json, event.room_version)
    except InvalidEvent as error:
        raise InvalidSignature(str(error)) from None
    _verify(message, signature, verify_key)


def required_signers(event: Event) -> frozenset[str]:
    """The servers whose signatures an event must have to be taken at all.

    :raises InvalidSignature: if it names an authorising user that is on no server

    # spec: server-server-api/#validating-hashes-and-signatures-on-received-events
    """
    signers = set()
    sender_domain = domain_of(event.sender)
    # Whoever redeems a third-party invite makes the event in the inviter's name; the identity server's signature
    # within, which the authorization rules check, stands for it.
    if not _is_third_party_invite(event):
        signers.add(sender_domain)
    if event.room_version.event_id_format is EventIdFormat.CHOSEN and domain_of(event.event_id) != sender_domain:
        signers.add(domain_of(event.event_id))
    # An authorization rule, but those don't see signatures.  # spec: rooms/v8#authorisation-rules 4.2.1
    key = "join_authorised_via_users_server"
    if event.room_version.restricted_joins and event.type == "m.room.member" and key in event.content:
        authoriser = event.content[key]
        if not is_user_id(authoriser):
            raise InvalidSignature(f"{key} is not a user id, so no server can have signed for it")
        signers.add(domain_of(authoriser))
    return frozenset(signers)


def _is_third_party_invite(event: Event) -> bool:
    if event.type != "m.room.member" or event.membership != "invite":
        return False
    invite = event.content.get("third_party_invite")
    return isinstance(invite, dict) and isinstance(invite.get("signed"), dict)


def _json_to_sign(obj: JsonObject) -> bytes:
    covered = {key: value for key, value in obj.items() if key not in ("signatures", "unsigned")}
    # Not strict, because requests carry events of room versions 1 to 5.
    return encode_canonical_json(covered, strict=False)


def _with_signature(obj: JsonObject, server_name: str, key: SigningKey, message: bytes) -> JsonObject:
    signatures = obj.get("signatures", {})
    own = {**signatures.get(server_name, {}), key.key_id: key.sign(message)}
    return {**obj, "signatures": {**signatures, server_name: own}}


def _signature_of(obj: JsonObject, server_name: str, key_id: str) -> bytes:
    if not key_id.startswith(ALGORITHM + ":"):
        raise InvalidSignature(f"{key_id!r} is not an {ALGORITHM} key")
    signatures: Any = obj.get("signatures")
    by_server = signatures.get(server_name) if isinstance(signatures, dict) else None
    signature = by_server.get(key_id) if isinstance(by_server, dict) else None
    if not isinstance(signature, str):
        raise InvalidSignature(f"No signature of {server_name} with {key_id}")
    try:
        return decode_base64(signature)
    except ValueError:
        raise InvalidSignature(f"The signature of {server_name} is not Base64") from None


def _verify(message: bytes, signature: bytes, verify_key: VerifyKey) -> None:
    try:
        verify_key.verify(message, signature)
    except (CryptoError, TypeError, ValueError) as error:  # PyNaCl has its own ValueError and TypeError for lengths
        raise InvalidSignature(f"The signature does not verify: {error}") from None
