"""OAuth 2.0 clients: how they register, and how they prove who they are.

Whatever a client says of itself is its own word. What it can't make up is where people are sent back to: each address
of its metadata is on the host of its `client_uri` or below it, so that a name that people trust leads back to who has
it. Clients that register with the same metadata share one registration, and those without a session are forgotten.

# spec: client-server-api/#client-registration
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from homeserver.accounts.oauth2.errors import OAuth2Error, invalid_client, invalid_request
from homeserver.accounts.oauth2.redirect_uris import client_host, is_below, may_register
from homeserver.config import OAuth2ClientConfig, OAuth2Config
from homeserver.protocol.canonical_json import decode_json, encode_canonical_json
from homeserver.protocol.errors import InvalidEvent
from homeserver.protocol.events import JsonObject
from homeserver.storage import oauth2
from homeserver.storage.access_tokens import hash_token
from homeserver.storage.stream import Connection

AUTHORIZATION_CODE = "authorization_code"
REFRESH_TOKEN = "refresh_token"  # noqa: S105 - the name of a grant
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
GRANT_TYPES = (AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE)
AUTH_METHODS = ("none", "client_secret_basic", "client_secret_post")

_MAX_TEXT = 255
_MAX_REDIRECT_URIS = 20
_MAX_LIST = 50
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


@dataclass(frozen=True, slots=True)
class Client:
    """A client as it is known here. `client_uri` is "" for one of the configuration, which the operator vouches for."""

    client_id: str
    name: str
    client_uri: str
    redirect_uris: tuple[str, ...]
    grant_types: tuple[str, ...]
    auth_method: str = "none"
    application_type: str = "web"
    logo_uri: str | None = None
    tos_uri: str | None = None
    policy_uri: str | None = None
    secret_hash: bytes | None = None
    introspection: bool = False

    @property
    def host(self) -> str:
        """The host that the client proves to have; "" for one of the configuration."""
        return client_host(self.client_uri) or ""


@dataclass(frozen=True, slots=True)
class Registration:
    """A client that has registered. `secret` is told once, to a confidential client."""

    client: Client
    issued_ts: int
    secret: str | None

    def body(self) -> JsonObject:
        """What the client is answered.  # spec: client-server-api/#dynamic-client-registration-flow"""
        answer: JsonObject = {
            "client_id": self.client.client_id,
            "client_id_issued_at": self.issued_ts // 1000,
            **_metadata_of(self.client),
        }
        if self.secret is not None:
            answer |= {"client_secret": self.secret, "client_secret_expires_at": 0}
        return answer


async def register_client(conn: Connection, config: OAuth2Config, metadata: JsonObject) -> Registration:
    """Registers a client. Inside a transaction.

    :param metadata: as it came
    :raises OAuth2Error: invalid_client_metadata or invalid_redirect_uri
    """
    client = parse_metadata(metadata)
    now_ms = int(time.time() * 1000)
    await oauth2.delete_unused_clients(conn, now_ms - config.unused_client_days * 24 * 3600 * 1000, now_ms)
    try:
        text = encode_canonical_json(_metadata_of(client))
    except InvalidEvent:
        raise _bad_metadata("the metadata can't be written as JSON") from None
    # spec: client-server-api/#dynamic-client-registration-flow
    secret = secrets.token_urlsafe(32) if client.auth_method != "none" else None
    stored = await oauth2.insert_client(
        conn,
        secrets.token_hex(16),
        text.decode(),
        metadata_hash=hashlib.sha256(text).digest() if secret is None else None,
        secret_hash=hash_token(secret) if secret is not None else None,
        now_ms=now_ms,
    )
    return Registration(_client(stored), stored.created_ts, secret)


async def find_client(conn: Connection, config: OAuth2Config, client_id: str) -> Client | None:
    """The client of that id, configured or registered."""
    for configured in config.clients:
        if configured.client_id == client_id:
            return _configured(configured)
    return await find_registered_client(conn, client_id)


async def find_registered_client(conn: Connection, client_id: str) -> Client | None:
    """The client of that id, if it has registered itself."""
    if not _is_id(client_id):
        return None
    stored = await oauth2.find_client(conn, client_id)
    # A row without metadata is only there for others to refer to, for a client of the configuration.
    return _client(stored) if stored is not None and stored.metadata != "{}" else None


async def note_client_used(conn: Connection, client: Client) -> None:
    """The client is about to be referred to by a code, a grant or a session. Inside a transaction."""
    now_ms = int(time.time() * 1000)
    if client.client_uri:
        await oauth2.note_client_used(conn, client.client_id, now_ms)
    else:
        await oauth2.upsert_configured_client(conn, client.client_id, now_ms)


async def authenticate_client(
    conn: Connection, config: OAuth2Config, form: Mapping[str, str], basic: tuple[str, str] | None
) -> Client:
    """Who asks at the token endpoint and its like.

    :param basic: id and secret of the Authorization header, if there is one
    :raises OAuth2Error: invalid_client, also for an unknown id; invalid_request if the id is missing or given twice
    """
    client_id, secret = basic if basic is not None else (form.get("client_id"), form.get("client_secret"))
    if client_id is None:
        raise invalid_request("client_id is missing")
    if basic is not None and ("client_secret" in form or form.get("client_id", client_id) != client_id):
        raise invalid_request("The client must say in one way only who it is")
    client = await find_client(conn, config, client_id)
    if client is None:
        raise invalid_client("There is no such client")
    if client.secret_hash is None:
        if secret:
            raise invalid_client("This client has no secret")
    elif not hmac.compare_digest(hash_token(secret or ""), client.secret_hash):
        raise invalid_client("This is not the client's secret")
    return client


def parse_metadata(metadata: JsonObject) -> Client:
    """What a client says of itself, checked. What means nothing here is left out.

    :raises OAuth2Error: invalid_client_metadata or invalid_redirect_uri
    """
    client_uri = _text(metadata, "client_uri")
    host = client_host(client_uri) if client_uri is not None else None
    if client_uri is None or host is None:
        raise _bad_metadata("client_uri must be an https address, without a user name")
    application_type = _text(metadata, "application_type") or "web"
    if application_type not in ("web", "native"):
        raise _bad_metadata("application_type must be web or native")
    auth_method = _text(metadata, "token_endpoint_auth_method") or "client_secret_basic"
    if auth_method not in AUTH_METHODS:
        raise _bad_metadata(f"token_endpoint_auth_method must be one of {', '.join(AUTH_METHODS)}")
    # spec: client-server-api/#client-metadata
    grant_types = [one for one in _texts(metadata, "grant_types", [AUTHORIZATION_CODE]) if one in GRANT_TYPES]
    if AUTHORIZATION_CODE in grant_types and "code" not in _texts(metadata, "response_types", ["code"]):
        raise _bad_metadata("response_types must have code")
    if not {AUTHORIZATION_CODE, DEVICE_CODE}.intersection(grant_types):
        raise _bad_metadata("grant_types must have authorization_code or the device code grant")
    redirect_uris = _texts(metadata, "redirect_uris", [])
    if len(redirect_uris) > _MAX_REDIRECT_URIS or (AUTHORIZATION_CODE in grant_types and not redirect_uris):
        raise OAuth2Error("invalid_redirect_uri", f"redirect_uris must have from 1 to {_MAX_REDIRECT_URIS} addresses")
    if not all(may_register(uri, host, application_type) for uri in redirect_uris):
        raise OAuth2Error("invalid_redirect_uri", f"Each of redirect_uris must be one that {host} may have")
    return Client(
        client_id="",
        name=_text(metadata, "client_name") or host,
        client_uri=client_uri,
        redirect_uris=tuple(dict.fromkeys(redirect_uris)),
        grant_types=tuple(dict.fromkeys(grant_types)),
        auth_method=auth_method,
        application_type=application_type,
        logo_uri=_uri(metadata, "logo_uri", host),
        tos_uri=_uri(metadata, "tos_uri", host),
        policy_uri=_uri(metadata, "policy_uri", host),
    )


def _metadata_of(client: Client) -> JsonObject:
    fields: JsonObject = {
        "client_name": client.name,
        "client_uri": client.client_uri,
        "redirect_uris": list(client.redirect_uris),
        "response_types": ["code"] if AUTHORIZATION_CODE in client.grant_types else [],
        "grant_types": list(client.grant_types),
        "token_endpoint_auth_method": client.auth_method,
        "application_type": client.application_type,
        "logo_uri": client.logo_uri,
        "tos_uri": client.tos_uri,
        "policy_uri": client.policy_uri,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _client(stored: oauth2.StoredClient) -> Client:
    fields = decode_json(stored.metadata)
    return Client(
        client_id=stored.client_id,
        name=fields["client_name"],
        client_uri=fields["client_uri"],
        redirect_uris=tuple(fields["redirect_uris"]),
        grant_types=tuple(fields["grant_types"]),
        auth_method=fields["token_endpoint_auth_method"],
        application_type=fields["application_type"],
        logo_uri=fields.get("logo_uri"),
        tos_uri=fields.get("tos_uri"),
        policy_uri=fields.get("policy_uri"),
        secret_hash=stored.secret_hash,
    )


def _configured(configured: OAuth2ClientConfig) -> Client:
    return Client(
        client_id=configured.client_id,
        name=configured.client_name or configured.client_id,
        client_uri="",
        redirect_uris=configured.redirect_uris,
        grant_types=GRANT_TYPES if configured.redirect_uris else (),
        auth_method="client_secret_basic",
        secret_hash=hash_token(configured.client_secret.get_secret_value()),
        introspection=configured.introspection,
    )


def _is_id(client_id: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9._~-]{1,100}", client_id) is not None


def _text(metadata: JsonObject, key: str) -> str | None:
    value = metadata.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 2048:
        raise _bad_metadata(f"{key} must be a short text")
    # What turns or hides text in the line that asks people for consent has no place in a name.
    if _UNPRINTABLE.search(value) or (key == "client_name" and len(value) > _MAX_TEXT):
        raise _bad_metadata(f"{key} is too long, or has characters that can't be shown")
    return value


def _texts(metadata: JsonObject, key: str, default: list[str]) -> list[str]:
    value: Any = metadata.get(key)
    if value is None:
        return default
    if not isinstance(value, list) or len(value) > _MAX_LIST or not all(isinstance(one, str) for one in value):
        raise _bad_metadata(f"{key} must be a list of at most {_MAX_LIST} texts")
    return value


def _uri(metadata: JsonObject, key: str, host: str) -> str | None:
    value = _text(metadata, key)
    if value is not None and not is_below(value, host):
        raise _bad_metadata(f"{key} must be an https address on {host} or below it")
    return value


def _bad_metadata(description: str) -> OAuth2Error:
    return OAuth2Error("invalid_client_metadata", description)
