"""Who is online of those with whom the user shares rooms.

# spec: client-server-api/#get_matrixclientv3sync presence
"""

from __future__ import annotations

from collections.abc import Collection

from homeserver.protocol.events import JsonObject
from homeserver.storage.presence import members_among
from homeserver.sync.view import View


async def complete(view: View) -> list[JsonObject]:
    """Everyone who is not offline."""
    presence = view.sources.presence
    return [] if presence is None else await _events(view, presence.present(), view.joined)


async def incremental(view: View, rooms: JsonObject, new_rooms: Collection[int], since: int) -> list[JsonObject]:
    """Everyone whose presence changed since, and those who have come to share a room with the user: who is there in
    `new_rooms`, and who joined in the joined rooms' sections `rooms`."""
    presence = view.sources.presence
    if presence is None:
        return []
    wanted = set(presence.changed_since(since))
    came = _who_joined(rooms)
    if came:
        wanted.update(nid for nid in presence.present() if (user := presence.of(nid)) and user.user_id in came)
    if new_rooms:
        wanted |= await members_among(view.conn, new_rooms, presence.present())
    return await _events(view, wanted, view.joined)


def _who_joined(rooms: JsonObject) -> set[str]:
    return {
        event.get("state_key", "")
        for section in rooms.values()
        for event in section["timeline"]["events"]
        if event.get("type") == "m.room.member" and event.get("content", {}).get("membership") == "join"
    }


async def _events(view: View, user_nids: Collection[int], room_nids: Collection[int]) -> list[JsonObject]:
    presence = view.sources.presence
    if presence is None or not user_nids:
        return []
    shared = await members_among(view.conn, room_nids, user_nids)
    now = presence.clock()
    filter = view.filter.presence
    return [
        {"type": "m.presence", "sender": user.user_id, "content": user.content(now)}
        for nid in user_nids
        if nid in shared
        and (user := presence.of(nid)) is not None
        and user.user_id not in view.ignored_ids
        and filter.matches(type="m.presence", sender=user.user_id, contains_url=bool(filter.contains_url))
    ]
