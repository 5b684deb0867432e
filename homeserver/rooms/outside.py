"""Rooms that this server is not in but has a user invited to, or knocking at: what is known of them comes from others.

# spec: client-server-api/#stripped-state
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, is_user_id
from homeserver.storage.names import Room

_MOST_EVENTS = 50


def stripped_state_shown(events: Sequence[object]) -> list[JsonObject]:
    """The stripped state that another server shows, with nothing in it but what stripped state has.

    Malformed entries are dropped: they would be passed on to clients, which can't be expected to check them.
    """
    shown: list[JsonObject] = []
    for event in events[:_MOST_EVENTS]:
        if not isinstance(event, dict):
            continue
        type, state_key, sender, content = (event.get(key) for key in ("type", "state_key", "sender", "content"))
        if (
            isinstance(type, str)
            and isinstance(state_key, str)
            and isinstance(sender, str)
            and isinstance(content, dict)
        ):
            shown.append({"type": type, "state_key": state_key, "sender": sender, "content": content})
    return shown


def servers_of_knock(room: Room, stripped_state: bytes | None) -> list[str]:
    """The servers of a room that a user knocks at: of those who, by what it shows of itself, have had a say in it."""
    shown = orjson.loads(stripped_state) if stripped_state is not None else []
    servers = [domain_of(event["sender"]) for event in shown if is_user_id(event["sender"])]
    if ":" in room.room_id:
        servers.append(domain_of(room.room_id))
    return list(dict.fromkeys(servers))
