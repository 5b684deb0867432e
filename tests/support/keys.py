"""Keys as clients make them: devices and cross-signing identities that sign with real Ed25519 keys."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from nacl.signing import SigningKey

from homeserver.protocol.canonical_json import encode_canonical_json
from homeserver.protocol.hashing import encode_base64
from tests.support.api import Json

ALGORITHM = "signed_curve25519"


def signed(obj: Json, user_id: str, name: str, key: SigningKey) -> Json:
    """The object with one more signature, by `ed25519:<name>` of that user."""
    covered = {field: value for field, value in obj.items() if field not in ("signatures", "unsigned")}
    signature = encode_base64(key.sign(encode_canonical_json(covered)).signature)
    signatures = obj.get("signatures", {})
    return {**obj, "signatures": {**signatures, user_id: {**signatures.get(user_id, {}), f"ed25519:{name}": signature}}}


def public(key: SigningKey) -> str:
    """The public key, unpadded Base64."""
    return encode_base64(key.verify_key.encode())


@dataclass
class DeviceKeys:
    """What one device publishes."""

    user_id: str
    device_id: str
    key: SigningKey = field(default_factory=SigningKey.generate)
    curve: str = field(default_factory=lambda: encode_base64(secrets.token_bytes(32)))

    def identity(self, **changes: Any) -> Json:
        """`device_keys`, with these fields changed before they are signed."""
        keys = {f"ed25519:{self.device_id}": public(self.key), f"curve25519:{self.device_id}": self.curve}
        algorithms = ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"]
        obj = {"user_id": self.user_id, "device_id": self.device_id, "algorithms": algorithms, "keys": keys}
        return self.sign({**obj, **changes})

    def sign(self, obj: Json) -> Json:
        return signed(obj, self.user_id, self.device_id, self.key)

    def one_time_key(self, **fields: Any) -> Json:
        """A key object with a new random key."""
        return self.sign({"key": encode_base64(secrets.token_bytes(32)), **fields})

    def one_time_keys(self, *key_ids: str) -> Json:
        return {f"{ALGORITHM}:{key_id}": self.one_time_key() for key_id in key_ids}


@dataclass
class Identity:
    """A user's cross-signing keys."""

    user_id: str
    master: SigningKey = field(default_factory=SigningKey.generate)
    self_signing: SigningKey = field(default_factory=SigningKey.generate)
    user_signing: SigningKey = field(default_factory=SigningKey.generate)

    def key(self, usage: str) -> Json:
        """The object of one key; those other than the master key are signed by it."""
        public_key = public(getattr(self, usage))
        obj: Json = {"user_id": self.user_id, "usage": [usage], "keys": {f"ed25519:{public_key}": public_key}}
        return obj if usage == "master" else self.sign(obj, "master")

    def sign(self, obj: Json, usage: str) -> Json:
        key = getattr(self, usage)
        return signed(obj, self.user_id, public(key), key)

    def upload(self) -> Json:
        """The body of an upload of all three."""
        return {f"{usage}_key": self.key(usage) for usage in ("master", "self_signing", "user_signing")}
