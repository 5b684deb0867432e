"""Who may use the admin API: administrators, and nobody else, whatever they try."""

from __future__ import annotations

import re

import pytest

from homeserver.admin_api.routes import ADMIN_API_ROUTES
from homeserver.client_api.routes import CLIENT_ROUTES
from homeserver.http import Auth, Route
from homeserver.main import _served_routes
from tests.support.api import Api

_NAMES = {
    "userId": "@alice:test.example",
    "roomId": "!room:test.example",
    "token": "token",
    "deviceId": "DEVICE",
    "reportId": "1",
    "destination": "far.example",
}
_ADMIN = [route for route in CLIENT_ROUTES if route.auth is Auth.ADMIN] + ADMIN_API_ROUTES


def _path(route: Route) -> str:
    return re.sub(r"\{(\w+)\}", lambda name: _NAMES.get(name[1], "x"), route.path)


def test_every_route_of_the_admin_api_is_for_administrators() -> None:
    """No route below /_synapse/admin can be called without their rights, but for the one that has a secret instead."""
    served = _served_routes(("admin",), None)  # type: ignore[arg-type]
    below = [route for route in served if route.path.startswith("/_synapse/admin")]
    open_to_others = {route.path for route in below if route.auth is not Auth.ADMIN}
    assert open_to_others == {"/_synapse/admin/v1/register"}
    assert len(below) > 60


async def test_nobody_else_gets_in(api: Api, alice: Api) -> None:
    """A user is refused with 403 and a stranger with 401, by every route, before anything is looked at."""
    for route in _ADMIN:
        refused = await alice.request(route.method, _path(route), {})
        assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN"), (route.method, route.path)
        stranger = await api.request(route.method, _path(route), {})
        assert (stranger.status, stranger.errcode) == (401, "M_MISSING_TOKEN"), (route.method, route.path)


async def test_who_is_an_administrator_no_more_is_out_at_once(admin: Api, alice: Api) -> None:
    """Rights that are taken away do not last until a token is forgotten."""
    path = f"/_synapse/admin/v1/users/{alice.user_id}/admin"
    assert (await admin.put(path, {"admin": True})).status == 200
    assert (await alice.get("/_synapse/admin/v2/users")).status == 200
    assert (await admin.put(path, {"admin": False})).status == 200
    assert (await alice.get("/_synapse/admin/v2/users")).status == 403


@pytest.mark.parametrize("user_id", ["@far:else.example", "nonsense", "@x%00y:test.example", "@" + "x" * 300])
async def test_only_users_of_this_server_are_administered(admin: Api, user_id: str) -> None:
    """A user of another server, or what is no user id, is a clear error everywhere and changes nothing."""
    for method, path, body in (
        ("GET", "/v2/users/{}", None),
        ("PUT", "/v2/users/{}", {"admin": True}),
        ("POST", "/v1/deactivate/{}", {}),
        ("POST", "/v1/reset_password/{}", {"new_password": "a good long password"}),
        ("POST", "/v1/users/{}/login", {}),
        ("PUT", "/v1/users/{}/admin", {"admin": True}),
        ("PUT", "/v1/suspend/{}", {"suspend": True}),
        ("POST", "/v1/users/{}/shadow_ban", None),
        ("GET", "/v2/users/{}/devices", None),
    ):
        answer = await admin.request(method, f"/_synapse/admin{path.format(user_id)}", body)
        assert answer.status in (400, 404), (method, path, answer)
