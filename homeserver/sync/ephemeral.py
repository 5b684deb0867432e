"""What happens in rooms without being kept in their history: who is typing, how far others have read.

# spec: client-server-api/#typing-notifications  client-server-api/#receipts
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import orjson

from homeserver.protocol.events import JsonObject
from homeserver.storage.receipts import ReceiptRow, receipts_between
from homeserver.sync.view import View


async def complete(view: View, room_nids: Collection[int]) -> dict[int, list[JsonObject]]:
    """room_nid -> every receipt there is, and who is typing, if anyone is."""
    return await _events(view, [], room_nids, since=0, typing_since=None)


async def incremental(
    view: View, room_nids: Collection[int], new_rooms: Collection[int], since: int, typing_since: int
) -> dict[int, list[JsonObject]]:
    """The same, with what changed since, in `room_nids`, and all there is in `new_rooms`."""
    return await _events(view, room_nids, new_rooms, since=since, typing_since=typing_since)


async def _events(
    view: View, room_nids: Collection[int], new_rooms: Collection[int], *, since: int, typing_since: int | None
) -> dict[int, list[JsonObject]]:
    filter = view.filter.ephemeral
    room_nids = [nid for nid in room_nids if filter.includes_room(view.rooms[nid].room_id)]
    new_rooms = [nid for nid in new_rooms if filter.includes_room(view.rooms[nid].room_id)]
    found: dict[int, list[JsonObject]] = {}
    # These events have no sender, so lists of senders don't apply to them.
    if _passes(view, "m.typing"):
        typing = {nid: users for nid in new_rooms if (users := view.sources.typing.in_room(nid))}
        if typing_since is not None:
            typing.update(view.sources.typing.changed_since(typing_since, room_nids))
        for nid, users in typing.items():
            shown = [user_id for user_id in users if user_id not in view.ignored_ids]
            found.setdefault(nid, []).append({"type": "m.typing", "content": {"user_ids": shown}})
    if _passes(view, "m.receipt"):
        if view.standing is not None:  # a room whose receipts have all been told need not be asked for them
            room_nids = [nid for nid in room_nids if nid in view.standing.receipts]
        rows: list[ReceiptRow] = []
        if room_nids or new_rooms:
            rows = await receipts_between(view.conn, view.reader.user_nid, room_nids, since, view.until, new_rooms)
        for (nid, _), content in _by_room_and_thread(rows).items():
            found.setdefault(nid, []).append({"type": "m.receipt", "content": content})
    return found


def _passes(view: View, type: str) -> bool:
    filter = view.filter.ephemeral
    return filter.matches(type=type, sender=(filter.senders or ("",))[0], contains_url=bool(filter.contains_url))


def _by_room_and_thread(rows: Iterable[ReceiptRow]) -> dict[tuple[int, str], JsonObject]:
    """The contents of m.receipt events: one a room and thread, as one user may have several at the same event."""
    contents: dict[tuple[int, str], JsonObject] = {}
    for row in rows:
        data: Any = orjson.loads(row.data)
        if row.thread_id:
            data["thread_id"] = row.thread_id
        content = contents.setdefault((row.room_nid, row.thread_id), {})
        content.setdefault(row.event_id, {}).setdefault(row.receipt_type, {})[row.user_id] = data
    return contents
