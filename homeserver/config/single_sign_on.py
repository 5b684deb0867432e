"""The section of single sign-on: other organisations' accounts with which people sign in here."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from homeserver.config.base import FromFile, Section

_ISSUERS = {"google": "https://accounts.google.com", "apple": "https://appleid.apple.com"}
_NAMES = {"google": "Google", "microsoft": "Microsoft", "apple": "Apple"}
_MICROSOFT = "https://login.microsoftonline.com"
_SCOPES = {"apple": ("openid", "name", "email")}


class ClaimsConfig(Section):
    localpart: str = Field("preferred_username", description="The claim that suggests a user name.")
    display_name: str = Field("name", description="The claim with the name that people are shown.")
    email: str = Field("email", description="The claim with the e-mail address.")


class ProviderConfig(Section):
    id: str = Field(description="A short name of your choice. Never change it: accounts are linked by it.")
    kind: Literal["oidc", "google", "microsoft", "apple"] = Field(
        "oidc", description="google, microsoft, apple, or oidc for any other (Keycloak, Authentik, Okta, GitLab)."
    )
    name: str = Field("", description="The name on the button. By default that of its kind, or the id.")
    icon: str | None = Field(None, description="An mxc:// address of a picture for the button.")
    issuer: str = Field("", description="Its address, as in its /.well-known/openid-configuration. Needed for oidc.")
    tenant: str = Field(
        "common", description="Of microsoft: whose accounts: common, organizations, consumers or an id."
    )
    client_id: str = Field(description="The name under which you have registered this server there.")
    client_secret: Annotated[SecretStr | None, FromFile()] = Field(
        None, description="The secret that you were given there. Not for apple."
    )
    team_id: str = Field("", description="Of apple: the id of your team.")
    key_id: str = Field("", description="Of apple: the id of the private key.")
    private_key: Annotated[SecretStr | None, FromFile()] = Field(
        None, description="Of apple: the private key (PEM), better as private_key_file."
    )
    scopes: tuple[str, ...] = Field((), description="What to ask for. By default openid, profile and email.")
    claims: ClaimsConfig = Field(ClaimsConfig(), description="Where the names are.")
    registration: bool = Field(True, description="Whether people who have no account here yet get one.")
    link_existing: Literal["never", "email", "localpart"] = Field(
        "never",
        description="Whether somebody is let into an account that is here already: never (but who is signed in can "
        "link their account), email (if both sides have checked the same address) or localpart (if it is called alike; "
        "only where the names there are given out by you). Never into one of an administrator.",
    )
    second_factor: bool = Field(
        True, description="Whether people who have set up a second factor here are asked for it after signing in there."
    )
    logout: Literal["everywhere", "browser", "off"] = Field(
        "everywhere",
        description="What ends when the provider says that somebody has signed out there (back-channel logout): all "
        "sessions of the account, those of browsers at this server's pages, or nothing.",
    )

    @field_validator("id")
    @classmethod
    def _check_id(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,49}", value) or value in ("new", "talk-pai"):
            raise ValueError("must be of small letters, digits, - and _, and neither new nor talk-pai")
        return value

    @field_validator("icon")
    @classmethod
    def _check_icon(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"mxc://[^/\s]+/[A-Za-z0-9_-]+", value):
            raise ValueError("must be an address such as mxc://example.org/abc")
        return value

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: object) -> object:
        """What the kind says about the rest."""
        if not isinstance(data, dict):
            return data
        kind = str(data.get("kind", "oidc"))
        filled = {"name": _NAMES.get(kind, str(data.get("id", ""))), "issuer": _ISSUERS.get(kind, "")}
        filled["scopes"] = list(_SCOPES.get(kind, ("openid", "profile", "email")))  # type: ignore[assignment]
        if kind == "microsoft":
            filled["issuer"] = f"{_MICROSOFT}/{data.get('tenant', 'common')}/v2.0"
        return {**filled, **{key: value for key, value in data.items() if value not in (None, "")}}

    @model_validator(mode="after")
    def _check_whole(self) -> ProviderConfig:
        parts = urlsplit(self.issuer)
        local = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
        if not (parts.scheme == "https" or local) or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must have an issuer, an address such as https://login.example.org/realms/main")
        if self.kind == "apple" and not (self.team_id and self.key_id and self.private_key):
            raise ValueError("apple must have team_id, key_id and private_key_file")
        if "openid" not in self.scopes:
            raise ValueError("scopes must have openid among them")
        return self


class SingleSignOnConfig(Section):
    providers: tuple[ProviderConfig, ...] = Field(
        (),
        description="Who vouches for people. Register this server there with the redirect address "
        "<public_baseurl>/account/sso/<id>/callback, and for back-channel logout with "
        "<public_baseurl>/account/sso/<id>/logout.",
        examples=[
            [
                {"id": "google", "kind": "google", "client_id": "…", "client_secret": "…"},
                {
                    "id": "company",
                    "name": "Example Ltd",
                    "issuer": "https://login.example.org/realms/main",
                    "client_id": "talk-pai",
                    "client_secret_file": "/run/secrets/company",
                    "link_existing": "email",
                },
            ]
        ],
    )

    @field_validator("providers")
    @classmethod
    def _check_providers(cls, value: tuple[ProviderConfig, ...]) -> tuple[ProviderConfig, ...]:
        ids = [provider.id for provider in value]
        if len(ids) != len(set(ids)):
            raise ValueError("two of them have the same id")
        return value
