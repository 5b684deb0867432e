"""The sections of sessions and of the OAuth 2.0 API: how long tokens are good for, and who may ask about them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from homeserver.config.base import FromFile, Section


def _off(value: Any) -> Any:
    # YAML reads a bare `off` as false.
    return "off" if value is False else value


class SessionsConfig(Section):
    access_token_seconds: int = Field(
        300,
        ge=10,
        le=10 * 365 * 24 * 3600,
        description="How long an access token is good for whose client can refresh it. Those of other clients are good "
        "until the session ends.",
    )
    refresh_token_days: int | None = Field(
        None,
        ge=1,
        le=3650,
        description="After how many days without a refresh a session that can be refreshed needs a new login. Without "
        "it, never.",
        examples=[90],
    )
    login_tokens: bool = Field(
        True, description="Whether people who are signed in can sign in another device of theirs (m.login.token)."
    )
    rendezvous: Annotated[Literal["anyone", "users", "off"], BeforeValidator(_off)] = Field(
        "anyone",
        description="Who may begin to sign in a device with a QR code: anyone (a new device can show the code), users "
        "(only a device that is signed in can), or off.",
    )


class OAuth2ClientConfig(Section):
    client_id: str = Field(description="The name by which it asks.")
    client_secret: Annotated[SecretStr, FromFile()] = Field(description="Its secret.")
    client_name: str | None = Field(None, description="Its name as people are shown it.")
    redirect_uris: tuple[str, ...] = Field((), description="Where people go back to. Without one it signs nobody in.")
    introspection: bool = Field(False, description="Whether it may ask whose access tokens are.")

    @field_validator("client_id")
    @classmethod
    def _check_id(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._~-]{1,100}", value):
            raise ValueError("must be of letters, digits and . _ ~ -")
        return value

    @field_validator("client_secret")
    @classmethod
    def _check_secret(cls, value: SecretStr) -> SecretStr:
        if not re.fullmatch(r"[!-~]{16,500}", value.get_secret_value()):
            raise ValueError("must be at least 16 characters, ASCII without spaces")
        return value

    @field_validator("redirect_uris")
    @classmethod
    def _check_redirects(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for uri in value:
            parts = urlsplit(uri)
            if parts.scheme not in ("http", "https") or not parts.hostname or "#" in uri or "@" in parts.netloc:
                raise ValueError("each must be an address such as https://app.example.org/callback")
        return value


class OAuth2Config(Section):
    enabled: bool = Field(
        True,
        description="Whether clients can sign people in by OAuth 2.0, at this server's own pages. It needs "
        "public_baseurl, but on this machine alone. Signing in with the password in the client works beside it.",
    )
    registration: bool = Field(
        True, description="Whether any client may register itself. Without it only the clients below sign people in."
    )
    clients: tuple[OAuth2ClientConfig, ...] = Field(
        (),
        description="Clients that need not register: client_id, client_secret, client_name, redirect_uris. "
        "Those with introspection may ask whose access tokens are.",
        examples=[[{"client_id": "call-service", "client_secret": "a-long-random-secret", "introspection": True}]],
    )
    unused_client_days: int = Field(
        30, ge=1, le=3650, description="After how many days a client is forgotten that has no session."
    )
    jwt_access_tokens: bool = Field(
        False,
        description="Gives clients of OAuth 2.0 access tokens that other services can read and check by themselves "
        "(JWT, RFC 9068), signed with a key of this server's that is made at the first start. This server still looks "
        "each up, so that they end at once with their session.",
    )

    @field_validator("clients")
    @classmethod
    def _check_clients(cls, value: tuple[OAuth2ClientConfig, ...]) -> tuple[OAuth2ClientConfig, ...]:
        ids = [client.client_id for client in value]
        if len(ids) != len(set(ids)):
            raise ValueError("two of them have the same client_id")
        return value
