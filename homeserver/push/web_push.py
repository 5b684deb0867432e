"""One message to a Web Push service, encrypted for the browser (or app) that has subscribed there.

The message is encrypted with the subscription's keys (RFC 8291, aes128gcm), so that the push service learns nothing of
it but its size, and signed with this server's key (VAPID, RFC 8292). What it says is what a push gateway is told, for
one device (MSC4174).
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from homeserver.outbound import OutboundClient, RequestFailed
from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.events import JsonObject
from homeserver.push.gateway import Outcome
from homeserver.secrets import VapidKey
from homeserver.storage.pushers import Pusher

_SECONDS = 30.0
_RECORD = 4096  # bytes; services need not take more
_MOST_TEXT = _RECORD - 86 - 16 - 1  # without header, tag and delimiter
_LIFETIME = 24 * 3600  # seconds for which the service keeps the message
_TOKEN_LIFETIME = 12 * 3600  # seconds
_GONE = frozenset({403, 404, 410})


@dataclass(frozen=True, slots=True)
class Signer:
    """What signs for this server. `subject` is where its operator can be reached, as a URL."""

    key: VapidKey
    subject: str

    def authorization(self, endpoint: str) -> str:
        """The header for a request to that address (RFC 8292)."""
        parts = urlsplit(endpoint)
        claims = {
            "aud": f"{parts.scheme}://{parts.netloc}",
            "exp": int(time.time()) + _TOKEN_LIFETIME,
            "sub": self.subject,
        }
        return f"vapid t={jwt.encode(claims, self.key.private, 'ES256')}, k={self.key.public}"


def encrypt_message(
    text: bytes, receiver: bytes, auth: bytes, *, sender: ec.EllipticCurvePrivateKey | None = None, salt: bytes = b""
) -> bytes:
    """The body of a request (RFC 8291).

    :param receiver: the subscription's public key, an uncompressed point of P-256; `auth`: its secret
    :param sender: a key for this message alone, and `salt`: 16 bytes; both are made if they are not given
    :raises ValueError: for a key that is none
    """
    sender, salt = sender or ec.generate_private_key(ec.SECP256R1()), salt or os.urandom(16)
    public = sender.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    shared = sender.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), receiver))
    secret = _derived(auth, shared, b"WebPush: info\0" + receiver + public, 32)
    key = _derived(salt, secret, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _derived(salt, secret, b"Content-Encoding: nonce\0", 12)
    header = salt + _RECORD.to_bytes(4, "big") + bytes([len(public)]) + public
    return header + AESGCM(key).encrypt(nonce, text + b"\x02", None)


def _derived(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, info).derive(secret)


def message_text(pusher: Pusher, notification: JsonObject) -> bytes:
    """What a subscription is told: a notification as a gateway gets it, or ids alone where that is too long."""
    [device] = notification["devices"]
    message = {key: value for key, value in notification.items() if key != "devices"}
    message |= {"app_id": pusher.fields.app_id, "tweaks": device["tweaks"]}
    for without in ((), ("content",), ("content", "room_name", "room_alias", "sender_display_name", "tweaks")):
        text = encode_json({key: value for key, value in message.items() if key not in without})
        if len(text) <= _MOST_TEXT:
            return text
    return encode_json({key: message[key] for key in ("event_id", "room_id") if key in message})


async def post_message(
    outbound: OutboundClient, signer: Signer, pusher: Pusher, text: bytes, *, topic: str, urgent: bool
) -> tuple[Outcome, str]:
    """Sends a message to a subscription. With the outcome comes a reason, for the log.

    :param topic: while the device can't be reached, a message takes the place of one of the same topic (RFC 8030), so
        that one which is sent again after a crash does not ring twice
    """
    url, auth = str(pusher.fields.data["url"]), str(pusher.fields.data["auth"])
    try:
        response = await outbound.request(
            "POST",
            url,
            headers={
                "Authorization": signer.authorization(url),
                "Content-Encoding": "aes128gcm",
                "Content-Type": "application/octet-stream",
                "TTL": str(_LIFETIME),
                "Topic": hashlib.sha256(topic.encode()).hexdigest()[:32],
                "Urgency": "high" if urgent else "normal",
            },
            body=encrypt_message(text, decode_key(pusher.fields.pushkey), decode_key(auth)),
            timeout=_SECONDS,
            max_bytes=64 * 1024,
        )
    except RequestFailed as error:
        return Outcome.FAILED, str(error)
    if response.status in _GONE:
        return Outcome.REJECTED, f"the subscription has ended ({response.status})"
    if response.status in (400, 413):
        return Outcome.REFUSED, f"it answered {response.status}"
    if not 200 <= response.status < 300:
        return Outcome.FAILED, f"it answered {response.status}"
    return Outcome.TAKEN, ""


def decode_key(text: str) -> bytes:
    """The bytes of a key in URL-safe base64, with or without padding. Raises ValueError."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
