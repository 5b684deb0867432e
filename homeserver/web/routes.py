"""All pages as one table. They are served where a listener serves `client`."""

from __future__ import annotations

from homeserver.http import Route
from homeserver.web import (
    authorize,
    confirm_address,
    device_code,
    profile,
    registration,
    security,
    sessions,
    sign_in,
    sso_login,
    static,
)

WEB_ROUTES: list[Route] = [
    *static.ROUTES,
    *sign_in.ROUTES,
    *registration.ROUTES,
    *sso_login.ROUTES,
    *authorize.ROUTES,
    *device_code.ROUTES,
    *profile.ROUTES,
    *sessions.ROUTES,
    *security.ROUTES,
    *confirm_address.ROUTES,
]
