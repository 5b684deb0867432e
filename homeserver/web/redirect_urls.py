"""Where a client that signs somebody in through the browser (m.login.sso) may have them sent back to.

Web sites and applications of the device. Never an address that the browser itself would run or open with rights of its
own. Whether the visitor is asked first is another question: `is_trusted`.

# spec: client-server-api/#client-login-via-sso
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote, unquote_plus, urlencode, urlsplit

from homeserver.protocol.errors import InvalidParam

_MAX_LENGTH = 8 * 1024  # characters
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.+)", re.ASCII | re.DOTALL)
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))
# What browsers run or open themselves, or what reaches into other applications.
_REFUSED = frozenset(
    [
        *("about", "blob", "chrome", "content", "data", "edge", "file", "filesystem", "ftp", "intent", "jar"),
        *("javascript", "mailto", "resource", "res", "sms", "tel", "vbscript", "view-source", "ws", "wss"),
    ]
)
_DOTS = re.compile(r"(^|/)(\.|%2e){1,2}(/|$)", re.IGNORECASE)


def checked_redirect_url(address: str) -> str:
    """`address` in ASCII, ready for a header, if somebody may be sent there.

    :raises InvalidParam: if not
    """
    match = _SCHEME.fullmatch(address)
    if match is None or len(address) > _MAX_LENGTH:
        raise InvalidParam("redirectUrl must be an address such as https://app.example.org/")
    if any(char <= " " or char == "\\" or char == "\x7f" for char in address):
        raise InvalidParam("redirectUrl has characters in it that no address has")
    scheme = match[1].lower()
    if scheme in _REFUSED or scheme.startswith(("ms-", "chrome-", "moz-")):
        raise InvalidParam("redirectUrl must lead to a web site or an application")
    try:
        encoded = quote(address, safe=_PRINTABLE)
        parts = urlsplit(encoded)
        host, _ = parts.hostname, parts.port
    except ValueError:  # UnicodeEncodeError is one
        raise InvalidParam("redirectUrl can't be read as an address") from None
    if scheme in ("http", "https") and (not host or "@" in parts.netloc or not match[2].startswith("//")):
        raise InvalidParam("redirectUrl must name a host, and no user")
    return encoded


def with_login_token(address: str, token: str) -> str:
    """`address` with the query parameter loginToken, instead of any that it has."""
    rest, mark, fragment = address.partition("#")
    path, _, query = rest.partition("?")
    kept = [pair for pair in query.split("&") if pair and unquote_plus(pair.partition("=")[0]) != "loginToken"]
    return f"{path}?{'&'.join([*kept, urlencode({'loginToken': token})])}{mark}{fragment}"


def is_trusted(address: str, trusted: Sequence[str]) -> bool:
    """Whether `address` is one of `trusted` or below it: the same scheme, host and port, and a path inside."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or _DOTS.search(parts.path):
        return False
    for one in trusted:
        base = urlsplit(one)
        folder = base.path.rstrip("/")
        if _origin(base.scheme, base.hostname, base.port) == _origin(parts.scheme, parts.hostname, parts.port) and (
            parts.path == folder or parts.path.startswith(f"{folder}/") or not folder
        ):
            return True
    return False


def _origin(scheme: str, host: str | None, port: int | None) -> tuple[str, str | None, int]:
    return scheme, host, port or (443 if scheme == "https" else 80)


def shown_site(address: str) -> str:
    """What to call the place on a page: the origin of a web site, the scheme of an application."""
    parts = urlsplit(address)
    if parts.scheme in ("http", "https"):
        return f"{parts.scheme}://{parts.netloc}"
    return f"{parts.scheme}:"
