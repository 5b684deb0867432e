"""The section about second factors."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from homeserver.config.base import Section


def _none(value: object) -> object:
    return "none" if value is None else value


class TwoFactorConfig(Section):
    required: Annotated[Literal["none", "admins", "all"], BeforeValidator(_none)] = Field(
        "none",
        description="Who must have a second factor (an authenticator app): none, admins or all. Who must and has none "
        "sets one up at the next sign-in in the browser; until then other ways to log in are refused.",
    )
    issuer: str | None = Field(
        None,
        min_length=1,
        max_length=60,
        description="What authenticator apps call this server. By default its server_name.",
        examples=["Example Chat"],
    )

    @field_validator("issuer")
    @classmethod
    def _check_issuer(cls, value: str | None) -> str | None:
        # The format of the address in the QR code has a colon after the issuer.
        if value is not None and (":" in value or not value.isprintable()):
            raise ValueError("must be one line of text without a colon")
        return value
