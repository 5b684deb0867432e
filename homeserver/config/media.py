"""The section about files that people upload and that other servers give."""

from __future__ import annotations

from datetime import date

from pydantic import ByteSize, Field

from homeserver.config.base import Section


class MediaConfig(Section):
    legacy_unauthenticated: bool | date = Field(
        False,
        description="Whether files can also be had without an access token, at the addresses that Matrix froze with "
        "v1.12. false: none. A date such as 2025-06-30: those that came here before that day. true: all, so that "
        "anyone who learns an address can read the file.",
    )
    user_quota_bytes: ByteSize | None = Field(
        None, gt=0, description="How much one user may have uploaded in all. By default there is no limit."
    )
    remote_bytes: ByteSize = Field(
        ByteSize(100 * 1024 * 1024),
        gt=0,
        description="The largest file that is fetched from another server.",
        examples=["100MiB"],
    )
    remote_retention_days: int | None = Field(
        90,
        ge=1,
        description="After how many days without being looked at a copy of another server's file is removed. It is "
        "fetched again when somebody wants it. null: never.",
    )
    local_retention_days: int | None = Field(
        None,
        ge=1,
        description="After how many days without being looked at a file of this server's own users is removed for "
        "good. By default never.",
    )
    max_pending_uploads: int = Field(
        20, ge=1, le=10_000, description="How many addresses of files a user may have asked for and not yet filled."
    )
    pending_seconds: int = Field(
        24 * 3600, ge=60, description="How long such an address waits for its file.", examples=[86400]
    )
    max_thumbnail_pixels: int = Field(
        40_000_000, ge=1, le=200_000_000, description="The largest image, in pixels, that smaller ones are made of."
    )
    thumbnail_processes: int = Field(
        1, ge=1, le=64, description="How many images are made smaller at once, each in a process of its own."
    )
