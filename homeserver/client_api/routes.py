"""The whole client-server API as one table."""

from __future__ import annotations

from homeserver.client_api import (
    account,
    account_data,
    admin_register,
    capabilities,
    devices,
    filters,
    joined_rooms,
    list_public_rooms,
    login,
    logout,
    profile,
    push_rules,
    receipts,
    registration,
    room_aliases,
    room_creation,
    room_events_read,
    room_events_send,
    room_members_read,
    room_membership,
    room_state_read,
    sync,
    typing,
    versions,
    well_known,
)
from homeserver.http import Route

CLIENT_ROUTES: list[Route] = [
    *versions.ROUTES,
    *well_known.ROUTES,
    *capabilities.ROUTES,
    *registration.ROUTES,
    *login.ROUTES,
    *logout.ROUTES,
    *account.ROUTES,
    *devices.ROUTES,
    *profile.ROUTES,
    *filters.ROUTES,
    *account_data.ROUTES,
    *push_rules.ROUTES,
    *room_creation.ROUTES,
    *room_membership.ROUTES,
    *room_events_read.ROUTES,
    *room_events_send.ROUTES,
    *room_aliases.ROUTES,
    *list_public_rooms.ROUTES,
    *joined_rooms.ROUTES,
    *receipts.ROUTES,
    *room_members_read.ROUTES,
    *room_state_read.ROUTES,
    *sync.ROUTES,
    *typing.ROUTES,
]

# Served where a listener serves `admin`.
ADMIN_ROUTES: list[Route] = [*admin_register.ROUTES]
