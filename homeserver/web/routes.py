"""All pages as one table. They are served where a listener serves `client`."""

from __future__ import annotations

from homeserver.http import Route
from homeserver.web import confirm_address, profile, registration, security, sessions, sign_in, sso_login, static

WEB_ROUTES: list[Route] = [
    *static.ROUTES,
    *sign_in.ROUTES,
    *registration.ROUTES,
    *sso_login.ROUTES,
    *profile.ROUTES,
    *sessions.ROUTES,
    *security.ROUTES,
    *confirm_address.ROUTES,
]
