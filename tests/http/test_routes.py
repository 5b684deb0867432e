"""How a path finds its route."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.http import ApiRequest, Auth, Route, Router, client_routes
from homeserver.protocol.errors import InvalidParam
from homeserver.services import Services


async def _handler(services: Services, request: ApiRequest) -> dict[str, Any]:
    return {}


def _route(method: str, path: str) -> Route:
    return Route(method, path, _handler, Auth.NONE)


_ROUTER = Router(
    [
        _route("GET", "/rooms/{roomId}/state"),
        _route("GET", "/rooms/{roomId}/state/{type}"),
        _route("GET", "/rooms/{roomId}/state/{type}/"),
        _route("GET", "/rooms/{roomId}/state/{type}/{key}"),
        _route("PUT", "/rooms/{roomId}/state/{type}/{key}"),
        _route("GET", "/rooms/own/state/special"),
        _route("DELETE", "/rooms/{roomId}/state/special"),
        _route("POST", "/{anything}"),
    ]
)


@pytest.mark.parametrize(
    ("path", "route", "params"),
    [
        ("/rooms/!a:b/state", "/rooms/{roomId}/state", {"roomId": "!a:b"}),
        ("/rooms/%21a%3Ab/state", "/rooms/{roomId}/state", {"roomId": "!a:b"}),
        ("/rooms/a%2Fb%23/state/x%25", "/rooms/{roomId}/state/{type}", {"roomId": "a/b#", "type": "x%"}),
        ("/rooms/!r/state/t/", "/rooms/{roomId}/state/{type}/", {"roomId": "!r", "type": "t"}),
        ("/rooms/!r/state/t/k", "/rooms/{roomId}/state/{type}/{key}", {"roomId": "!r", "type": "t", "key": "k"}),
        ("/rooms/own/state/special", "/rooms/own/state/special", {}),
        ("/rooms/own/state/other", "/rooms/{roomId}/state/{type}", {"roomId": "own", "type": "other"}),
        ("/rooms/%F0%9F%98%80/state", "/rooms/{roomId}/state", {"roomId": "\U0001f600"}),
        ("/rooms/a+b/state", "/rooms/{roomId}/state", {"roomId": "a+b"}),
    ],
)
def test_a_path_finds_its_route(path: str, route: str, params: dict[str, str]) -> None:
    """What is spelled out wins over parameters; each segment is decoded once, after the cut."""
    found, values, _ = _ROUTER.find("GET", path)
    assert found is not None
    assert found.path == route
    assert values == params


@pytest.mark.parametrize("path", ["/", "", "/rooms//state", "/rooms/a/b", "/rooms/!r/state/t/k/more", "//"])
def test_a_path_that_is_not_there(path: str) -> None:
    """Parameters are never empty and never several segments."""
    assert _ROUTER.find("GET", path) == (None, {}, frozenset())


def test_a_method_that_is_not_there() -> None:
    """The methods that a path has are told; HEAD goes where GET goes; another way that has the method is found."""
    assert _ROUTER.find("DELETE", "/rooms/!r/state/t/k") == (None, {}, frozenset({"GET", "PUT"}))
    found, _, _ = _ROUTER.find("HEAD", "/rooms/!r/state")
    assert found is not None
    assert found.method == "GET"
    found, params, _ = _ROUTER.find("DELETE", "/rooms/own/state/special")
    assert found is not None
    assert params == {"roomId": "own"}


@pytest.mark.parametrize("path", ["/rooms/%FF/state", "/rooms/%00/state", "/rooms/%ED%A0%80/state", "/%C3"])
def test_a_path_that_is_no_text(path: str) -> None:
    """Broken UTF-8 and NUL characters are refused."""
    with pytest.raises(InvalidParam):
        _ROUTER.find("GET", path)


@given(st.text(min_size=1).filter(lambda text: "\0" not in text and text.isprintable()))
def test_any_parameter_arrives_as_it_was(text: str) -> None:
    """Whatever text a client percent-encodes is what the handler gets."""
    _, values, _ = _ROUTER.find("GET", f"/rooms/{quote(text, safe='')}/state")
    assert values == {"roomId": text}


def test_a_route_stands_once() -> None:
    """Two handlers for one method and path are a mistake that the start shows."""
    with pytest.raises(ValueError, match="twice"):
        Router([_route("GET", "/a/{b}"), _route("GET", "/a/{c}")])


def test_client_routes_have_their_prefixes() -> None:
    """An endpoint answers below each of its versions and proposals."""
    routes = client_routes("GET", "/x", _handler, Auth.USER, versions=("v1",), unstable=("org.matrix.msc1", ""))
    assert [route.path for route in routes] == [
        "/_matrix/client/v1/x",
        "/_matrix/client/unstable/org.matrix.msc1/x",
        "/_matrix/client/unstable/x",
    ]
    assert [route.path for route in client_routes("GET", "/x", _handler, Auth.USER)] == [
        "/_matrix/client/v3/x",
        "/_matrix/client/r0/x",
    ]
