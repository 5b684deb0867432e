"""Where a visitor may be sent on to after signing in: pages of ours, by a list. Nothing else, whatever a link says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qs

from homeserver.protocol.errors import InvalidParam
from homeserver.web.redirect_urls import checked_redirect_url, is_trusted

HOME = "/account"
_MAX_LENGTH = 16 * 1024  # characters

# Paths and queries are ASCII without spaces, backslashes or control characters, which browsers read in their own ways.
_OURS = re.compile(
    r"/(account(/[a-z0-9_-]+)*"
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


def onward_targets(destination: str, trusted: Sequence[str]) -> list[str]:
    """The addresses elsewhere to which `destination` leads on without another page in between.

    Browsers hold a form against its page's policy along all redirects.

    :param trusted: clients to which people are sent without being asked
    """
    path, _, query = destination.partition("?")
    if "/login/sso/redirect" not in path:
        return []
    try:
        address = checked_redirect_url(parse_qs(query).get("redirectUrl", [""])[-1])
    except InvalidParam:
        return []
    return [address] if is_trusted(address, trusted) else []
