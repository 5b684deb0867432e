"""Receipts in the rooms of the windows: those at events that the client has, and the user's own (a proposal, MSC3960).

Of a room whose timeline the client gets anew there are no others, however many there may be.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import orjson

from homeserver.protocol.events import JsonObject
from homeserver.storage.receipts import ReceiptRow
from homeserver.storage.sliding_reads import receipts_at_events, receipts_set_since
from homeserver.sync.sliding.connections import Position
from homeserver.sync.sliding.extensions.context import Context
from homeserver.sync.sliding.request import ExtensionConfig


async def complete(context: Context, config: ExtensionConfig) -> JsonObject | None:
    """Those of every covered room."""
    return await _tell(context, config)


async def incremental(context: Context, config: ExtensionConfig, since: Position) -> JsonObject | None:
    """What is new; how far the client has been told is remembered for each room."""
    return await _tell(context, config)


async def _tell(context: Context, config: ExtensionConfig) -> JsonObject | None:
    view = context.view
    covered = context.covered(config) & context.found.wanted.keys() & view.joined
    anew: dict[int, int] = {}
    since: dict[int, int] = {}
    for nid in covered:
        told, room = context.told(nid), context.rooms.get(nid)
        if told is None:
            continue
        if told.receipts_pos is None or (room is not None and room.whole):
            anew[nid] = told.first_ord
        else:
            since[nid] = told.receipts_pos
    rows = await receipts_at_events(view.conn, view.reader.user_nid, anew, view.until)
    rows += await receipts_set_since(view.conn, view.reader.user_nid, since, view.until)
    contents = _by_room(rows)
    for nid in anew.keys() | contents.keys():
        told = context.told(nid)
        if told is not None:
            context.changes[nid] = replace(told, receipts_pos=view.until)
    if not contents:
        return None
    return {
        "rooms": {
            context.found.rooms[nid].room_id: {"type": "m.receipt", "content": content}
            for nid, content in contents.items()
        }
    }


def _by_room(rows: Iterable[ReceiptRow]) -> dict[int, JsonObject]:
    contents: dict[int, JsonObject] = {}
    for row in rows:
        data: Any = orjson.loads(row.data)
        if row.thread_id:
            data["thread_id"] = row.thread_id
        at_event = contents.setdefault(row.room_nid, {}).setdefault(row.event_id, {})
        at_event.setdefault(row.receipt_type, {})[row.user_id] = data
    return contents
