"""Which servers a room lets take part: m.room.server_acl compiled for look-ups.

Room administrators write these lists by the thousand and every incoming PDU and EDU is held against them, so they are
compiled once for each event. Their number has no cap of its own: the size limit of events bounds it, matching is linear
(see globs), and leaving out entries would let in servers that a room has denied.

# spec: client-server-api/#server-access-control-lists-acls-for-rooms
# spec: server-server-api/#server-access-control-lists-acls
"""

from __future__ import annotations

import re
from typing import Any

from homeserver.protocol.globs import GlobSet

_PORT = re.compile(r":[0-9]*\Z")
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}\Z")


class ServerAcl:
    """The rules of one m.room.server_acl event, in the order in which the specification applies them."""

    __slots__ = ("_allow", "_allow_ip_literals", "_deny")

    def __init__(self, allow: list[str], deny: list[str], *, allow_ip_literals: bool) -> None:
        self._allow = GlobSet(pattern.casefold() for pattern in allow)
        self._deny = GlobSet(pattern.casefold() for pattern in deny)
        self._allow_ip_literals = allow_ip_literals

    def allows(self, server_name: str) -> bool:
        """Whether the server may take part in the room. The name may have a port, which is not considered.

        # spec: client-server-api/#mroomserver_acl
        """
        host = _host(server_name).casefold()
        if not self._allow_ip_literals and _is_ip_literal(host):
            return False
        if self._deny.matches(host):
            return False
        return self._allow.matches(host)


EVERYONE = ServerAcl(["*"], [], allow_ip_literals=True)
"""What holds in a room without an m.room.server_acl event."""


def parse_server_acl(content: Any) -> ServerAcl:
    """The ACL of that event content, or EVERYONE for None: no such event in the room's state.

    Content that is not as it should be never fails. `allow` and `deny` are empty unless they are lists, entries that
    are not strings match nothing, and `allow_ip_literals` is true unless it is false.
    # spec: client-server-api/#mroomserver_acl
    """
    if content is None:
        return EVERYONE
    fields = content if isinstance(content, dict) else {}
    return ServerAcl(
        _patterns(fields.get("allow")),
        _patterns(fields.get("deny")),
        allow_ip_literals=fields.get("allow_ip_literals") is not False,
    )


def _patterns(value: Any) -> list[str]:
    return [pattern for pattern in value if isinstance(pattern, str)] if isinstance(value, list) else []


def _host(server_name: str) -> str:
    """The server name without its port. IPv6 literals keep their brackets.  # spec: appendices/#server-name"""
    if not server_name.startswith("[") and server_name.count(":") > 1:
        return server_name  # an IPv6 address without its brackets; the last group is no port
    return _PORT.sub("", server_name)


def _is_ip_literal(host: str) -> bool:
    # A server name with a colon that isn't a port's can only be an IPv6 address. Leading zeros don't make a name of an
    # IPv4 address: resolvers take such an address too.
    if host.startswith("[") or ":" in host:
        return True
    return _IPV4.match(host) is not None and all(int(part) <= 255 for part in host.split("."))
