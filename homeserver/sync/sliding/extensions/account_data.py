"""Account data: that for all rooms, and that of rooms which the client knows (a proposal, MSC3959)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import cast

from homeserver.protocol.events import JsonObject
from homeserver.storage.names import Room
from homeserver.sync import account_data
from homeserver.sync.sliding.connections import Position
from homeserver.sync.sliding.extensions.context import Context
from homeserver.sync.sliding.request import ExtensionConfig


async def complete(context: Context, config: ExtensionConfig) -> JsonObject | None:
    """All that there is, of the rooms that are covered."""
    covered = context.covered(config)
    _open(context)
    data = await account_data.complete(context.view, covered)
    _remember(context, covered, behind=context.known - covered, since=-1)
    return _json(context, data)


async def incremental(context: Context, config: ExtensionConfig, since: Position) -> JsonObject | None:
    """What was set since; of rooms that are new to the client, or were not covered lately, all."""
    known = context.known
    covered = context.covered(config)
    _open(context)
    new = {nid for nid, room in context.rooms.items() if room.initial and nid in covered}
    new |= {nid for nid, told in since.rooms.items() if told.data_pos is not None and nid in covered}
    data = await account_data.incremental(context.view, new, since.pos)
    # What is not covered now must be told once it is.
    missed = data.by_room.keys() - covered
    missed |= {nid for nid, room in context.rooms.items() if room.initial and nid in known - covered}
    for nid in missed:
        data.by_room.pop(nid, None)
    _remember(context, new, behind=missed & known, since=since.pos)
    return _json(context, data)


def _open(context: Context) -> None:
    """Lets account data of the known rooms through. Nothing but their ids is looked at."""
    rooms = {nid: context.found.rooms[nid] for nid in context.known}
    context.view.rooms = cast("Mapping[int, Room]", rooms)


def _remember(context: Context, covered: Iterable[int], *, behind: Iterable[int], since: int) -> None:
    for nid in covered:
        told = context.told(nid)
        if told is not None and told.data_pos is not None:
            context.changes[nid] = replace(told, data_pos=None)
    for nid in behind:
        told = context.told(nid)
        if told is not None and told.data_pos is None:
            context.changes[nid] = replace(told, data_pos=since)


def _json(context: Context, data: account_data.AccountData) -> JsonObject | None:
    json: JsonObject = {}
    if data.everywhere:
        json["global"] = data.everywhere
    if data.by_room:
        json["rooms"] = {context.view.rooms[nid].room_id: events for nid, events in data.by_room.items()}
    return json or None
