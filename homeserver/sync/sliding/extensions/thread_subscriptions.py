"""Changes of the user's subscriptions to threads, the newest (a proposal, MSC4308)."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.protocol.events import JsonObject
from homeserver.storage.names import Names
from homeserver.storage.thread_subscriptions import ThreadSubscription, subscription_changes
from homeserver.sync.sliding.connections import Position
from homeserver.sync.sliding.extensions.context import Context
from homeserver.sync.sliding.request import ExtensionConfig

MOST = 100


async def complete(context: Context, config: ExtensionConfig) -> JsonObject | None:
    """The subscriptions that there are."""
    return await _json(context, config, -1, subscribed_only=True)


async def incremental(context: Context, config: ExtensionConfig, since: Position) -> JsonObject | None:
    """What changed since."""
    return await _json(context, config, since.pos)


async def _json(
    context: Context, config: ExtensionConfig, after: int, *, subscribed_only: bool = False
) -> JsonObject | None:
    view, limit = context.view, min(config.limit or MOST, MOST)
    found = await subscription_changes(
        view.conn,
        view.reader.user_nid,
        after=after,
        until=view.until,
        limit=limit + 1,
        subscribed_only=subscribed_only,
    )
    if not found:
        return None
    json = await subscriptions_json(view.names, found[:limit])
    if len(found) > limit:
        json["prev_batch"] = str(found[limit - 1].pos - 1)
    return json


async def subscriptions_json(names: Names, subscriptions: Sequence[ThreadSubscription]) -> JsonObject:
    """`subscribed` and `unsubscribed`, by room and thread."""
    rooms = await names.rooms({each.room_nid for each in subscriptions})
    json: JsonObject = {}
    for each in subscriptions:
        entry: JsonObject = {"bump_stamp": each.pos}
        if each.subscribed:
            entry["automatic"] = each.automatic
        of_kind = json.setdefault("subscribed" if each.subscribed else "unsubscribed", {})
        of_kind.setdefault(rooms[each.room_nid].room_id, {})[each.thread_id] = entry
    return json
