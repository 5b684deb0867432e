"""The section of the pages for people: browser sessions, and which clients need not be asked about."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from homeserver.config.base import Section


class WebConfig(Section):
    session_idle_hours: int = Field(
        24 * 7, ge=1, le=24 * 365, description="After how long without a visit somebody must sign in again."
    )
    session_lifetime_days: int = Field(
        30, ge=1, le=3650, description="After how long somebody must sign in again, however often they come."
    )
    trusted_clients: tuple[str, ...] = Field(
        (),
        description="Addresses of web clients of yours: whoever signs in through the browser (m.login.sso) goes back "
        "to one of them, or to a page below it, without being asked first whether they trust it.",
        examples=[["https://chat.example.org"]],
    )
    prefer_sign_in_page: bool = Field(
        False,
        description="Tells clients that know both to offer only the sign-in page of this server and not their own form "
        "for name and password. Second factors then work in old clients too.",
    )

    @field_validator("trusted_clients")
    @classmethod
    def _check_clients(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            parts = urlsplit(one)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
                raise ValueError("each must be an address such as https://chat.example.org")
            if "@" in parts.netloc:
                raise ValueError("each must be an address without a user name")
        return value
