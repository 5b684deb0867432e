"""Which addresses a client may have people sent back to. A client proves who it is by receiving what is sent there.

Addresses are compared as text and never repaired: what a browser and this file might read differently (a user name, a
backslash, a fragment, white space, capitals in a host) is refused when the client registers.

# spec: client-server-api/#client-registration
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlencode, urlsplit

_MAX_LENGTH = 2048
_PRINTABLE = re.compile(r"[!-~]+", re.ASCII)
_UNSAFE = re.compile(r'["<>\\^`{|}]')
_SCHEME = re.compile(r"[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)*", re.ASCII)
_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*", re.ASCII)
_LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}
_LOOPBACK_URI = re.compile(r"http://(localhost|127\.0\.0\.1|\[::1\])(?::([0-9]{1,5}))?([/?].*)?", re.ASCII)


def client_host(client_uri: str) -> str | None:
    """The host of a `client_uri`; None if that is no address that the specification allows."""
    parts = _https(client_uri)
    return parts.hostname if parts is not None else None


def is_below(uri: str, host: str) -> bool:
    """Whether `uri` is an https address on that host or below it.  # spec: client-server-api/#client-metadata"""
    parts = _https(uri)
    if parts is None or parts.hostname is None:
        return False
    # A name without a dot, and an address, have nothing below them that belongs to the same owner.
    return parts.hostname == host or ("." in host and not _is_address(host) and parts.hostname.endswith(f".{host}"))


def may_register(uri: str, host: str, application_type: str) -> bool:
    """Whether a client whose `client_uri` is on `host` may have people sent to `uri`."""
    if not _is_plain(uri):
        return False
    if is_below(uri, host):
        return True
    return application_type == "native" and (_is_loopback(uri) or _is_private_use(uri, host))


def matches(requested: str, registered: str) -> bool:
    """Whether a request may use that address: exactly what was registered, but for the port on the loopback interface.

    # spec: client-server-api/#redirect-uri-validation
    """
    if requested == registered:
        return True
    ours, theirs = _LOOPBACK_URI.fullmatch(registered), _LOOPBACK_URI.fullmatch(requested)
    if ours is None or theirs is None or ours[2] is not None or not _is_plain(requested):
        return False
    port = theirs[2]
    return (ours[1], ours[3]) == (theirs[1], theirs[3]) and port is not None and 0 < int(port) < 65536


def with_parameters(uri: str, parameters: dict[str, str], *, fragment: bool) -> str:
    """`uri` with these parameters in its fragment, or added to its query."""
    encoded = urlencode(parameters)
    if fragment:
        return f"{uri}#{encoded}"
    separator = "" if uri.endswith(("?", "&")) else "&" if "?" in uri else "?"
    return f"{uri}{separator}{encoded}"


def _is_plain(uri: str) -> bool:
    return (
        len(uri) <= _MAX_LENGTH
        and _PRINTABLE.fullmatch(uri) is not None
        and _UNSAFE.search(uri) is None
        and "#" not in uri
    )


def _https(uri: str) -> SplitResult | None:
    if not _is_plain(uri) or not uri.startswith("https://"):
        return None
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return None
    authority = uri[len("https://") :].split("/", 1)[0].split("?", 1)[0]
    host = authority if port is None else authority.removesuffix(f":{port}")
    if port == 0 or parts.hostname != host.strip("[]"):  # a user name, an empty port, leading zeros, capitals
        return None
    return parts if _HOST.fullmatch(host) or _is_address(host.strip("[]")) else None


def _is_loopback(uri: str) -> bool:
    match = _LOOPBACK_URI.fullmatch(uri)
    return match is not None and match[2] is None


def _is_private_use(uri: str, host: str) -> bool:
    scheme, colon, rest = uri.partition(":")
    reverse = ".".join(reversed(host.split(".")))
    return (
        bool(colon)
        and "." in host
        and not _is_address(host)
        and _SCHEME.fullmatch(scheme) is not None
        and (scheme == reverse or scheme.startswith(f"{reverse}."))
        and not rest.startswith("//")
        and bool(rest)
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
