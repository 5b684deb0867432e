"""Where a visitor may be sent on to after signing in: pages of ours, by a list. Nothing else, whatever a link says."""

from __future__ import annotations

import re

HOME = "/account"
_MAX_LENGTH = 16 * 1024  # characters

# Paths and queries are ASCII without spaces, backslashes or control characters, which browsers read in their own ways.
_OURS = re.compile(
    r"/(account(/[a-z-]+)*"
    r"|oauth2/(authorize|device)"
    r"|_matrix/client/(v3|r0|unstable)/login/sso/redirect(/[A-Za-z0-9._~%-]+)?"
    r"|_matrix/client/(v3|r0|unstable)/auth/[A-Za-z0-9._-]+/fallback/web"
    r"|_matrix/static/client/login/?"
    r")(\?[!-\[\]-~]*)?",
    re.ASCII,
)


def checked_destination(address: str) -> str:
    """The page to go on to: `address` if it is the path of one of ours, with or without a query; the account if not."""
    return address if len(address) <= _MAX_LENGTH and _OURS.fullmatch(address) else HOME
