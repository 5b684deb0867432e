"""Rooms that this server is not in but has a user invited to, or knocking at: what is known of them comes from others.

# spec: client-server-api/#stripped-state
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.protocol.events import JsonObject

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
