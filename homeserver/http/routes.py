"""The table of routes, and how a path finds its route.

Paths are cut at `/` first and each segment is percent-decoded afterwards, so that an encoded `/` stays inside its
parameter. A segment that is spelled out wins over a parameter in the same place.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote_to_bytes

from homeserver.protocol.errors import InvalidParam

if TYPE_CHECKING:
    from homeserver.http.requests import ApiRequest
    from homeserver.http.responses import Response
    from homeserver.protocol.errors import MatrixError
    from homeserver.services import Services

JsonObject: TypeAlias = dict[str, Any]
Handler: TypeAlias = "Callable[[Services, ApiRequest], Awaitable[JsonObject | Response]]"
ErrorPage: TypeAlias = "Callable[[Services, ApiRequest, MatrixError], Response]"


class Auth(Enum):
    """Who may call a route."""

    NONE = auto()  # anyone; a token is not looked at
    SERVER = auto()  # other servers; the handler itself checks their signature and counts what they ask for
    OPTIONAL = auto()  # anyone; a token that is given must be good
    USER = auto()  # accounts that are not guests
    GUEST = auto()  # accounts, guests too
    ADMIN = auto()  # administrators of this server


@dataclass(frozen=True, slots=True)
class Route:
    """One method at one path. `{name}` stands for exactly one segment, which is not empty.

    `limit` names a limit of `config.rate_limits` that applies besides `request`. A `long_poll` is cancelled when its
    client goes away or the server stops, so it must not be in the middle of changing anything while it waits.

    A route with an `error_page` is for people and their browsers: that makes of an error what they see, and scripts of
    other sites may not read the answer.
    """

    method: str
    path: str
    handler: Handler
    auth: Auth
    limit: str | None = None
    long_poll: bool = False
    error_page: ErrorPage | None = None


def client_routes(
    method: str,
    path: str,
    handler: Handler,
    auth: Auth,
    *,
    versions: Iterable[str] = ("v3", "r0"),
    unstable: Iterable[str] = (),
    limit: str | None = None,
    long_poll: bool = False,
) -> list[Route]:
    """The routes of one endpoint of the client-server API.

    :param path: below the version, e.g. `/rooms/{roomId}/state`
    :param versions: path versions, e.g. `("v1",)` for `/_matrix/client/v1/…`
    :param unstable: prefixes of proposals, e.g. `org.matrix.msc3575`; an empty one is `/_matrix/client/unstable` itself
    """
    prefixes = [f"/_matrix/client/{version}" for version in versions]
    prefixes += [f"/_matrix/client/unstable/{name}" if name else "/_matrix/client/unstable" for name in unstable]
    return [Route(method, prefix + path, handler, auth, limit, long_poll) for prefix in prefixes]


@dataclass(slots=True)
class _Node:
    spelled: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    routes: dict[str, tuple[Route, tuple[str, ...]]] = field(default_factory=dict)  # method -> route, parameter names


class Router:
    """Finds routes. Built once; a route that is there twice is a bug and raises ValueError."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node, names = self._root, []
        for segment in route.path.split("/")[1:]:
            if match := _PARAMETER.fullmatch(segment):
                names.append(match.group(1))
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.spelled.setdefault(segment, _Node())
        if route.method in node.routes:
            raise ValueError(f"{route.method} {route.path} is routed twice")
        node.routes[route.method] = (route, tuple(names))

    def find(self, method: str, path: str) -> tuple[Route | None, dict[str, str], frozenset[str]]:
        """The route for a raw (still percent-encoded) path.

        HEAD finds the route of GET.

        :returns: the route, its parameters, and the methods that the path has; without a route the methods say whether
            the path is unknown (none) or only the method is
        :raises InvalidParam: for a path that is not percent-encoded UTF-8 or has a NUL character in it
        """
        segments = [_decode(segment) for segment in path.split("/")[1:]]
        method = "GET" if method == "HEAD" else method
        found = _walk(self._root, segments, 0, (), method)
        if found is None:
            elsewhere = _walk(self._root, segments, 0, (), None)
            return None, {}, frozenset(elsewhere[0].routes if elsewhere is not None else ())
        node, values = found
        route, names = node.routes[method]
        return route, dict(zip(names, values, strict=True)), frozenset()


_PARAMETER = re.compile(r"\{(\w+)\}")


def _walk(
    node: _Node, segments: list[str], index: int, values: tuple[str, ...], method: str | None
) -> tuple[_Node, tuple[str, ...]] | None:
    """Where the segments from `index` on lead to a route for `method`, or without one to any route."""
    if index == len(segments):
        return (node, values) if (method in node.routes if method is not None else node.routes) else None
    segment = segments[index]
    below = node.spelled.get(segment)
    if below is not None and (found := _walk(below, segments, index + 1, values, method)):
        return found
    if node.parameter is not None and segment:
        return _walk(node.parameter, segments, index + 1, (*values, segment), method)
    return None


def _decode(segment: str) -> str:
    if "%" not in segment and segment.isascii():
        return segment
    try:
        # The server hands raw bytes that are not ASCII over as surrogates.
        text = unquote_to_bytes(segment.encode("utf-8", "surrogateescape")).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidParam("The path is not UTF-8") from None
    if "\0" in text:
        raise InvalidParam("The path has a NUL character in it")
    return text
