"""The admin API as one table."""

from __future__ import annotations

from homeserver.admin_api import (
    delete_room,
    event_reports,
    media,
    purge_history,
    registration_tokens,
    room_actions,
    room_history,
    rooms,
    server,
    user_actions,
    user_data,
    user_identities,
    users,
)
from homeserver.http import Route

ADMIN_API_ROUTES: list[Route] = [
    *users.ROUTES,
    *user_actions.ROUTES,
    *user_data.ROUTES,
    *user_identities.ROUTES,
    *registration_tokens.ROUTES,
    *rooms.ROUTES,
    *room_history.ROUTES,
    *room_actions.ROUTES,
    *delete_room.ROUTES,
    *purge_history.ROUTES,
    *event_reports.ROUTES,
    *media.ROUTES,
    *server.ROUTES,
]
