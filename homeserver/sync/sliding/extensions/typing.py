"""Who is typing (a proposal, MSC3961)."""

from __future__ import annotations

from collections.abc import Mapping

from homeserver.protocol.events import JsonObject
from homeserver.sync.sliding.connections import Position
from homeserver.sync.sliding.extensions.context import Context
from homeserver.sync.sliding.request import ExtensionConfig


async def complete(context: Context, config: ExtensionConfig) -> JsonObject | None:
    """The rooms in which anybody is."""
    return _json(context, _typing_in(context, context.covered(config)))


async def incremental(context: Context, config: ExtensionConfig, since: Position) -> JsonObject | None:
    """The rooms in which who is typing has changed, and those new to the client in which anybody is."""
    covered = context.covered(config) & context.view.joined
    new = {nid for nid, room in context.rooms.items() if room.initial}
    changed = dict(context.view.sources.typing.changed_since(since.typing, covered - new))
    if not config.unlimited:
        # Rooms that were not covered until now may have changed before.
        changed |= {nid: context.view.sources.typing.in_room(nid) for nid in covered & context.rooms.keys() - new}
    return _json(context, changed | _typing_in(context, covered & new))


def _typing_in(context: Context, room_nids: set[int]) -> dict[int, list[str]]:
    typing = context.view.sources.typing
    return {nid: users for nid in room_nids & context.view.joined if (users := typing.in_room(nid))}


def _json(context: Context, typing: Mapping[int, list[str]]) -> JsonObject | None:
    if not typing:
        return None
    ignored = context.view.ignored_ids
    return {
        "rooms": {
            context.found.rooms[nid].room_id: {
                "type": "m.typing",
                "content": {"user_ids": [user_id for user_id in users if user_id not in ignored]},
            }
            for nid, users in typing.items()
        }
    }
