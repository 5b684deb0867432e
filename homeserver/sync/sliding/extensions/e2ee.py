"""What end-to-end encryption needs: whose devices changed, how many keys the device has here (a proposal, MSC3884)."""

from __future__ import annotations

from homeserver.protocol.events import JsonObject
from homeserver.sync.sliding.connections import Position
from homeserver.sync.sliding.extensions.context import Context
from homeserver.sync.sliding.request import ExtensionConfig


async def complete(context: Context, config: ExtensionConfig) -> JsonObject:
    """All of it."""
    return {
        "device_lists": {"changed": [], "left": []},
        "device_one_time_keys_count": {},
        "device_unused_fallback_key_types": [],
    }


async def incremental(context: Context, config: ExtensionConfig, since: Position) -> JsonObject | None:
    """What is another than it was."""
    return None
