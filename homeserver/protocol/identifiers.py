"""The identifiers of Matrix: taking them apart and saying whether a string is one.

`is_…` take any value at all, since they stand where foreign JSON comes in, and are bounded by the 255 bytes that an
identifier may have.

# spec: appendices/#identifier-grammar
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import TypeGuard

from homeserver.protocol.errors import BadRequest

MAX_IDENTIFIER_BYTES = 255

_SERVER_NAME = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z.-]{1,255})(?::(?P<port>[0-9]{1,5}))?")
_LOCALPART = re.compile(r"[a-z0-9._=/+-]+")
_COMPLIANT_LOCALPART = re.compile(r"[\x21-\x39\x3b-\x7e]+")
_URLSAFE_HASH = re.compile(r"[A-Za-z0-9_-]{43}")


def domain_of(identifier: str) -> str:
    """The server name in `@localpart:domain` and its like; "" if there is none.

    # spec: appendices/#common-identifier-format
    """
    # A localpart has no colon, a server name may have several.
    return identifier.partition(":")[2]


def localpart_of(identifier: str) -> str:
    """What stands between the sigil and the first colon (or the end)."""
    return identifier.partition(":")[0][1:]


@lru_cache(maxsize=4096)
def _server_name_parts(name: str) -> tuple[str, int | None] | None:
    match = _SERVER_NAME.fullmatch(name)
    if match is None or len(name) > MAX_IDENTIFIER_BYTES:
        return None
    host, port = match["host"], match["port"]
    if host[0] == "[":
        try:
            IPv6Address(host[1:-1])
        except AddressValueError:
            return None
    if port is None:
        return host, None
    return (host, int(port)) if int(port) <= 65535 else None


def is_server_name(value: object) -> TypeGuard[str]:
    """Whether a value is a server name: DNS name, IPv4 or [IPv6], with or without a port.

    # spec: appendices/#server-name
    """
    return isinstance(value, str) and len(value) <= MAX_IDENTIFIER_BYTES and _server_name_parts(value) is not None


def split_server_name(name: str) -> tuple[str, int | None]:
    """Host (an IPv6 address keeps its brackets) and port of a server name.

    :raises ValueError: if it is none

    # spec: appendices/#server-name
    """
    parts = _server_name_parts(name) if len(name) <= MAX_IDENTIFIER_BYTES else None
    if parts is None:
        raise ValueError(f"Not a server name: {name[:MAX_IDENTIFIER_BYTES]!r}")
    return parts


def fits_identifier(value: str) -> bool:
    """Whether a string has at most 255 bytes as UTF-8 and no lone surrogates."""
    if len(value) > MAX_IDENTIFIER_BYTES:
        return False
    if value.isascii():
        return True
    try:
        return len(value.encode()) <= MAX_IDENTIFIER_BYTES
    except UnicodeEncodeError:
        return False


def _is_with_domain(value: object, sigil: str) -> TypeGuard[str]:
    """`&localpart:domain` with any localpart that was ever allowed: all but `:` and NUL, even the empty one."""
    if not isinstance(value, str) or not value.startswith(sigil) or not fits_identifier(value):
        return False
    localpart, colon, domain = value.partition(":")
    return bool(colon) and "\0" not in localpart and _server_name_parts(domain) is not None


def is_user_id(value: object) -> TypeGuard[str]:
    """Whether a value is a user id, historical ones included, which servers must accept in events.

    # spec: appendices/#historical-user-ids
    """
    return _is_with_domain(value, "@")


def is_historical_user_id(value: object) -> TypeGuard[str]:
    """Whether a value is a user id of which today none could be registered.

    # spec: appendices/#historical-user-ids
    """
    return is_user_id(value) and _LOCALPART.fullmatch(localpart_of(value)) is None


def is_compliant_user_id(value: object) -> TypeGuard[str]:
    """Whether a user id may be told to clients outside of events: its localpart is within U+0021 to U+007E, not empty.

    # spec: appendices/#historical-user-ids
    """
    return is_user_id(value) and _COMPLIANT_LOCALPART.fullmatch(localpart_of(value)) is not None


def is_hash_room_id(value: object) -> TypeGuard[str]:
    """Whether a value is a room id of room version 12 on: the create event's id with `!` for `$`.

    # spec: rooms/v12#event-format
    """
    return isinstance(value, str) and value.startswith("!") and _URLSAFE_HASH.fullmatch(value, 1) is not None


def is_domain_room_id(value: object) -> TypeGuard[str]:
    """Whether a value is a room id of room versions 1 to 11.

    # spec: appendices/#room-ids
    """
    return _is_with_domain(value, "!")


def is_room_id(value: object) -> TypeGuard[str]:
    """Whether a value is a room id of any room version.

    # spec: appendices/#room-ids
    """
    return is_domain_room_id(value) or is_hash_room_id(value)


def is_room_alias(value: object) -> TypeGuard[str]:
    """Whether a value is a room alias.

    # spec: appendices/#room-aliases
    """
    return _is_with_domain(value, "#")


def is_event_id(value: object) -> TypeGuard[str]:
    """Whether a value is an event id of any room version. Its opaque part isn't looked at.

    # spec: appendices/#event-ids
    """
    return isinstance(value, str) and value[:1] == "$" and len(value) > 1 and fits_identifier(value)


def is_domain_event_id(value: object) -> TypeGuard[str]:
    """Whether a value is an event id of room versions 1 and 2: `$opaque:domain`.

    # spec: rooms/v1#event-ids
    """
    return _is_with_domain(value, "$")


def check_new_localpart(localpart: str, server_name: str = "") -> None:
    """Checks the localpart of a user id that is about to be made here. With `server_name` also the whole id's length.

    :raises BadRequest: M_INVALID_USERNAME

    # spec: appendices/#user-identifiers
    """
    if len(localpart) + len(server_name) + 2 > MAX_IDENTIFIER_BYTES:
        raise BadRequest("A user id may have at most 255 characters", errcode="M_INVALID_USERNAME")
    if _LOCALPART.fullmatch(localpart) is None:
        raise BadRequest("A user name consists of a-z, 0-9 and . _ = - / +", errcode="M_INVALID_USERNAME")
