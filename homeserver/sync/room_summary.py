"""The summary of a joined room: how many are in it, and after whom to name it if it has no name.

# spec: client-server-api/#get_matrixclientv3sync summary
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from homeserver.protocol.events import JsonObject
from homeserver.storage.events import events_by_nid
from homeserver.storage.sync_reads import heroes, joined_and_invited_counts, state_of_keys
from homeserver.sync.room_state_delta import StatePart
from homeserver.sync.view import View


async def summaries(view: View, parts: Sequence[StatePart]) -> dict[int, JsonObject]:
    """room_nid -> summary."""
    if not parts:
        return {}
    rooms = [part.room_nid for part in parts]
    counts = await joined_and_invited_counts(view.conn, rooms)
    named = await _named(view, parts)
    nameless = [room_nid for room_nid in rooms if room_nid not in named]
    found = await heroes(view.conn, nameless, view.reader.user_nid) if nameless else {}
    result: dict[int, JsonObject] = {}
    for room_nid in rooms:
        joined, invited = counts.get(room_nid, (0, 0))
        result[room_nid] = {"m.joined_member_count": joined, "m.invited_member_count": invited}
        if room_nid in found:
            result[room_nid]["m.heroes"] = found[room_nid]
    return result


async def _named(view: View, parts: Sequence[StatePart]) -> set[int]:
    """The rooms that have a name or an alias to go by."""
    keys = await view.names.state_key_nids([("m.room.name", ""), ("m.room.canonical_alias", "")])
    spans = await state_of_keys(view.conn, [(part.range, key) for part in parts for key in keys.values()])
    until = {part.room_nid: part.until for part in parts}
    events = await events_by_nid(
        view.conn, [span.event_nid for span in spans if span.to_pos > until[span.room_nid] >= span.from_pos]
    )
    return {event.room_nid for event in events.values() if _names(event.event.type, event.event.content)}


def _names(type: str, content: dict[str, Any]) -> bool:
    value = content.get("name" if type == "m.room.name" else "alias")
    return isinstance(value, str) and value != ""
