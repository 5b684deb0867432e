"""New accounts, passwords, and how often secrets may be tried."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from homeserver.config.base import FromFile, Section


def _off(value: Any) -> Any:
    # YAML reads a bare `off` as false.
    return "off" if value is False else value


def _check_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an address such as https://example.org/terms")
    return value


class PolicyText(Section):
    name: str = Field(min_length=1, description="What the document is called in this language.")
    url: str = Field(description="Where it can be read.")

    _checked = field_validator("url")(_check_url)


class Policy(Section):
    id: str = Field(description="A name for programs, such as privacy_policy.")
    version: str = Field(min_length=1, description="Which edition it is; who accepts it accepts this one.")
    texts: dict[str, PolicyText] = Field(
        min_length=1, description="Name and url of the document, by language (en, uk, …)."
    )

    @field_validator("id")
    @classmethod
    def _check_id(cls, value: str) -> str:
        # spec: client-server-api/#definition-mloginterms-params
        if not re.fullmatch(r"[a-z0-9._-]{1,255}", value):
            raise ValueError("must be of the characters a-z 0-9 . _ -")
        return value

    @field_validator("texts")
    @classmethod
    def _check_languages(cls, value: dict[str, PolicyText]) -> dict[str, PolicyText]:
        # `version` stands beside the languages in what clients are told.
        if not all(re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*", language) for language in value):
            raise ValueError("must be by codes of languages such as en, uk or pt-BR")
        return value


class CaptchaConfig(Section):
    public_key: str | None = Field(
        None,
        description="The key that the captcha service gave for web pages (site key). Without it no captcha is asked.",
    )
    secret_key: Annotated[SecretStr | None, FromFile()] = Field(
        None, description="The key that the service gave for checking answers."
    )
    verify_url: str = Field(
        "https://www.google.com/recaptcha/api/siteverify",
        description="Where answers are checked. Any service that answers as reCAPTCHA's siteverify does will do.",
    )

    _checked = field_validator("verify_url")(_check_url)

    @model_validator(mode="after")
    def _check_keys(self) -> CaptchaConfig:
        if (self.public_key is None) != (self.secret_key is None):
            raise ValueError("must have both public_key and secret_key, or neither")
        return self


# What others would take for a word of the server itself; names of bridges; names that guests get.
_RESERVED_NAMES = (
    "abuse|admin|administrator|hostmaster|moderator|noreply|postmaster|root|security|server|support|system|webmaster",
    "_.*",
    "guest-.*",
)


class RegistrationConfig(Section):
    mode: Annotated[Literal["off", "open", "token"], BeforeValidator(_off)] = Field(
        "off",
        description="Who may register an account: off (nobody; `talk-pai user create` makes accounts), token (who has "
        "one of the tokens) or open (anyone who reaches this server: expect spam).",
    )
    tokens: Annotated[tuple[SecretStr, ...], FromFile(lines=True)] = Field(
        (), description="Registration tokens that are accepted in the mode token. In a file: one a line."
    )
    email: Annotated[Literal["off", "optional", "required"], BeforeValidator(_off)] = Field(
        "off",
        description="Whether who registers proves to have an e-mail address: off (never), optional or required. It "
        "needs the section email.",
    )
    terms: tuple[Policy, ...] = Field(
        (),
        description="Documents that who registers must accept.",
        examples=[
            [
                {
                    "id": "privacy_policy",
                    "version": "1.0",
                    "texts": {"en": {"name": "Privacy policy", "url": "https://example.org/privacy-1.0-en.html"}},
                }
            ]
        ],
    )
    captcha: CaptchaConfig = Field(CaptchaConfig(), description="A puzzle that tells people from programs.")
    reserved_names: tuple[str, ...] = Field(
        _RESERVED_NAMES,
        description="Regular expressions of user names that nobody can register for themselves. Administrators can "
        "still make such accounts.",
    )
    auto_join_rooms: tuple[str, ...] = Field(
        (),
        description="Addresses of public rooms that whoever registers joins.",
        examples=[["#welcome:example.org"]],
    )
    shared_secret: Annotated[SecretStr | None, FromFile()] = Field(
        None,
        description="Who knows this secret can register accounts, administrators too, at /_synapse/admin/v1/register, "
        "whatever the mode. Without it that endpoint is off.",
    )
    guests: bool = Field(False, description="Whether guest accounts (without a password, read mostly) can be made.")

    @field_validator("tokens")
    @classmethod
    def _check_tokens(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        # spec: client-server-api/#token-authenticated-registration
        if not all(re.fullmatch(r"[A-Za-z0-9._~-]{1,64}", token.get_secret_value()) for token in value):
            raise ValueError("each must be 1 to 64 of the characters A-Z a-z 0-9 . _ ~ -")
        return value

    @field_validator("terms")
    @classmethod
    def _check_terms(cls, value: tuple[Policy, ...]) -> tuple[Policy, ...]:
        if len({policy.id for policy in value}) < len(value):
            raise ValueError("two of them have the same id")
        return value

    @field_validator("reserved_names")
    @classmethod
    def _check_reserved_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            for pattern in value:
                re.compile(pattern)
        except (re.error, OverflowError, RecursionError):
            raise ValueError("each must be a regular expression") from None
        return value

    @field_validator("auto_join_rooms")
    @classmethod
    def _check_rooms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"#[^\0:]+:.+|![^\0]+", room) and len(room) <= 255 for room in value):
            raise ValueError("each must be the address of a room such as #welcome:example.org")
        return value

    @field_validator("shared_secret")
    @classmethod
    def _check_shared_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 8:
            raise ValueError("must be at least 8 characters long")
        return value


class PasswordsConfig(Section):
    bcrypt_cost: int = Field(
        12, ge=4, le=18, description="Work to check a password: each step doubles it. 12 is about 0.2 s of a core."
    )
    minimum_length: int = Field(8, ge=1, le=72, description="Fewest characters of a new password.")
    require_digit: bool = Field(False, description="Whether a new password must have a digit in it.")
    require_lowercase: bool = Field(False, description="Whether it must have a small letter in it.")
    require_uppercase: bool = Field(False, description="Whether it must have a capital letter in it.")
    require_symbol: bool = Field(False, description="Whether it must have something in it that is no letter or digit.")
    refuse_common: bool = Field(
        True, description="Whether the commonest passwords, and the user's own name, are refused as new passwords."
    )
    pepper: Annotated[SecretStr | None, FromFile()] = Field(
        None,
        description="Appended to each password before it is hashed. Set it before the first account and never change "
        "it; needed where accounts come from a Synapse that had one.",
    )
