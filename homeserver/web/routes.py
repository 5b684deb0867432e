"""All pages as one table. They are served where a listener serves `client`."""

from __future__ import annotations

from homeserver.http import Response, Route
from homeserver.protocol.errors import NotFound
from homeserver.web import (
    auth_fallback,
    authorize,
    confirm_address,
    device_code,
    emails,
    grave,
    login_fallback,
    profile,
    recovery,
    registration,
    second_factor,
    security,
    sessions,
    sign_in,
    sign_in_services,
    single_sign_on,
    sso_login,
    static,
)
from homeserver.web.routing import page_routes
from homeserver.web.visits import Visit


async def get_nothing(visit: Visit) -> Response:
    """For addresses that were mistyped: what says that there is nothing is a page, too."""
    raise NotFound("There is no such page")


WEB_ROUTES: list[Route] = [
    *static.ROUTES,
    *sign_in.ROUTES,
    *registration.ROUTES,
    *sso_login.ROUTES,
    *auth_fallback.ROUTES,
    *login_fallback.ROUTES,
    *authorize.ROUTES,
    *device_code.ROUTES,
    *single_sign_on.ROUTES,
    *sign_in_services.ROUTES,
    *profile.ROUTES,
    *sessions.ROUTES,
    *security.ROUTES,
    *second_factor.ROUTES,
    *emails.ROUTES,
    *grave.ROUTES,
    *recovery.ROUTES,
    *confirm_address.ROUTES,
    *page_routes("/account/{page}", get=get_nothing),
]
