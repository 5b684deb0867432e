"""The kinds of work in the background that only administrators order, and the function that does each."""

from __future__ import annotations

from collections.abc import Mapping

from homeserver.accounts.jobs import Handler
from homeserver.admin_api.delete_room import DELETE_ROOM, do_delete_room
from homeserver.admin_api.purge_history import PURGE_HISTORY, do_purge_history

ADMIN_JOB_KINDS: Mapping[str, Handler] = {
    DELETE_ROOM: do_delete_room,
    PURGE_HISTORY: do_purge_history,
}
