"""What end-to-end encryption needs: whose devices changed, how many keys the device has here (a proposal, MSC3884)."""

from __future__ import annotations

from homeserver.protocol.events import JsonObject
from homeserver.sync.device_keys import key_counts
from homeserver.sync.device_lists import DeviceLists, changes
from homeserver.sync.sliding.connections import Position
from homeserver.sync.sliding.extensions.context import Context
from homeserver.sync.sliding.request import ExtensionConfig


async def complete(context: Context, config: ExtensionConfig) -> JsonObject:
    """The keys. Of devices nothing: a client that starts anew follows nobody yet."""
    view = context.view
    return {"device_lists": DeviceLists().json(), **await key_counts(view)}


async def incremental(context: Context, config: ExtensionConfig, since: Position) -> JsonObject:
    """Whose devices changed since, and the keys."""
    view = context.view
    lists = await changes(view.conn, view.reader.user_nid, since.pos, view.until)
    return {"device_lists": lists.json(), **await key_counts(view)}
