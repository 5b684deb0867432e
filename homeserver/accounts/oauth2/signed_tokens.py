"""Access tokens that say something by themselves (JWT, RFC 9068), and the key that signs them.

Other services can check such a token with the public key alone. This server looks each up as it does any other, so that
it ends at once with its session. The key is made when it is first needed and kept in the data directory.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from homeserver.accounts.sessions import MakeToken
from homeserver.protocol.events import JsonObject
from homeserver.secrets import SecretsError, write_secret

_FILE = "oauth2_token.key"


@dataclass(frozen=True, slots=True)
class TokenKey:
    """The key that signs access tokens."""

    private: Ed25519PrivateKey

    def public_jwk(self) -> JsonObject:
        """The public half, for others to check signatures with (RFC 8037)."""
        return {**self._required(), "kid": self.key_id, "use": "sig", "alg": "EdDSA"}

    @property
    def key_id(self) -> str:
        """The thumbprint of the public half (RFC 7638)."""
        fields = self._required()
        canonical = "{" + ",".join(f'"{name}":"{fields[name]}"' for name in sorted(fields)) + "}"
        return _base64url(hashlib.sha256(canonical.encode()).digest())

    def maker(self, *, issuer: str, audience: str, user_id: str, client_id: str, scope: str) -> MakeToken:
        """What makes the tokens of one session."""

        def make(device_id: str, lifetime_ms: int) -> str:
            now = int(time.time())
            claims = {
                "iss": issuer,
                "sub": user_id,
                "aud": audience,
                "client_id": client_id,
                "scope": scope,
                "device_id": device_id,
                "iat": now,
                "exp": now + lifetime_ms // 1000,
                "jti": secrets.token_urlsafe(16),
            }
            return jwt.encode(claims, self.private, "EdDSA", {"typ": "at+jwt", "kid": self.key_id})

        return make

    def _required(self) -> dict[str, str]:
        raw = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": _base64url(raw)}


@cache
def load_or_create_token_key(data_dir: Path) -> TokenKey:
    """The key in data_dir; makes it if there is none. Read once.

    :raises SecretsError: if it can't be read or written
    """
    path = data_dir / _FILE
    if not path.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_secret(path, pem.decode())
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise SecretsError(f"{path} can't be used ({error}): delete it, and a new key is made") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SecretsError(f"{path} is no Ed25519 key: delete it, and a new one is made")
    return TokenKey(key)


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
