"""The sections about reaching people elsewhere: by e-mail, by telephone, through identity servers."""

from __future__ import annotations

import re
from email.utils import parseaddr
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from homeserver.config.base import AbsolutePath, FromFile, Section

_PORTS = {"none": 25, "starttls": 587, "tls": 465}
_HOST = re.compile(r"[0-9A-Za-z.:\[\]-]{1,253}", re.ASCII)
_ADDRESS = re.compile(r"[0-9A-Za-z.!#$%&'*+/=?^_`{|}~-]{1,64}@[0-9A-Za-z.-]{1,253}", re.ASCII)


def _none(value: object) -> object:
    # YAML reads a bare `none` as text, and an empty value or null as no value: all mean the same here.
    return "none" if value is None else value


class EmailConfig(Section):
    host: str | None = Field(
        None,
        description="The SMTP server that takes the mails of this server. Without it no mail is sent: nobody can "
        "confirm an e-mail address, recover an account or be told of a new device. Needs public_baseurl for the links.",
        examples=["smtp.example.org"],
    )
    port: int | None = Field(
        None, ge=1, le=65535, description="Its port. By default 587 with starttls, 465 with tls, 25 with none."
    )
    security: Annotated[Literal["none", "starttls", "tls"], BeforeValidator(_none)] = Field(
        "starttls", description="starttls (required, not only tried), tls (from the first byte) or none."
    )
    ca_file: AbsolutePath | None = Field(
        None,
        description="A PEM file of certificate authorities to trust for it, besides the system's.",
        examples=["/etc/ssl/private-ca.pem"],
    )
    user: str | None = Field(None, description="The name to sign in with, if it wants one.")
    password: Annotated[SecretStr | None, FromFile()] = Field(None, description="The password for that name.")
    from_address: str | None = Field(
        None,
        description="Whom the mails come from.",
        examples=["Example Chat <noreply@example.org>"],
    )
    subject_prefix: str = Field(
        "", max_length=100, description="Stands before each subject.", examples=["[Example Chat]"]
    )
    timeout_seconds: float = Field(20.0, gt=0, le=60, description="How long the SMTP server may take for one answer.")
    next_link_origins: tuple[str, ...] = Field(
        (),
        description="Web clients that people may be led back to once they have confirmed an address. Any other place "
        "that a client names is ignored, so that our links can't be used to lead people astray.",
        examples=[["https://app.example.org"]],
    )

    @field_validator("host")
    @classmethod
    def _check_host(cls, value: str | None) -> str | None:
        if value is not None and not _HOST.fullmatch(value):
            raise ValueError("must be a host name or an address such as smtp.example.org; the port is a key of its own")
        return value

    @field_validator("from_address")
    @classmethod
    def _check_from(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if any(not character.isprintable() for character in value) or not _ADDRESS.fullmatch(parseaddr(value)[1]):
            raise ValueError("must be an address such as noreply@example.org or Example Chat <noreply@example.org>")
        return value

    @field_validator("subject_prefix")
    @classmethod
    def _check_prefix(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("must be one line of text")
        return value

    @field_validator("next_link_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        origins = []
        for one in value:
            parts = urlsplit(one.rstrip("/"))
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
                raise ValueError("each must be an origin such as https://app.example.org")
            origins.append(f"{parts.scheme}://{parts.netloc.lower()}")
        return tuple(origins)

    @model_validator(mode="after")
    def _check_whole(self) -> EmailConfig:
        if (self.user is None) != (self.password is None):
            raise ValueError("must have both user and password, or neither")
        if self.host is not None and self.from_address is None:
            raise ValueError("must have a from_address for the host")
        return self

    @property
    def effective_port(self) -> int:
        """The port to connect to."""
        return self.port if self.port is not None else _PORTS[self.security]


class PhoneConfig(Section):
    gateway_url: str | None = Field(
        None,
        description='Where to POST text messages to, as {"to": "+380441234567", "text": "…"}; any answer of 2xx '
        "means that it is on its way. Without it no telephone numbers can be confirmed.",
        examples=["https://sms.example.org/send"],
    )
    gateway_token: Annotated[SecretStr | None, FromFile()] = Field(
        None, description="Is sent along as Authorization: Bearer …"
    )

    @field_validator("gateway_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
                raise ValueError("must be an address such as https://sms.example.org/send")
        return value
