"""The whole client-server API as one table."""

from __future__ import annotations

from homeserver.client_api import (
    capabilities,
    room_aliases,
    room_creation,
    room_events_send,
    room_membership,
    versions,
    well_known,
)
from homeserver.http import Route

CLIENT_ROUTES: list[Route] = [
    *versions.ROUTES,
    *well_known.ROUTES,
    *capabilities.ROUTES,
    *room_creation.ROUTES,
    *room_membership.ROUTES,
    *room_events_send.ROUTES,
    *room_aliases.ROUTES,
]

# What stands outside /_matrix/client but is served with the admin API.
ADMIN_ROUTES: list[Route] = []
