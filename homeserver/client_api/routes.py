"""The whole client-server API as one table."""

from __future__ import annotations

from homeserver.client_api import capabilities, versions, well_known
from homeserver.http import Route

CLIENT_ROUTES: list[Route] = [
    *versions.ROUTES,
    *well_known.ROUTES,
    *capabilities.ROUTES,
]

# What stands outside /_matrix/client but is served with the admin API.
ADMIN_ROUTES: list[Route] = []
