"""Messages to the device. They have a token of their own, which acknowledges what came before (a proposal, MSC3885)."""

from __future__ import annotations

import re

from homeserver.protocol.errors import InvalidParam
from homeserver.protocol.events import JsonObject
from homeserver.sync.sliding.connections import Position
from homeserver.sync.sliding.extensions.context import Context
from homeserver.sync.sliding.request import ExtensionConfig

_TOKEN = re.compile(r"d?([0-9]{1,18})", re.ASCII)


async def complete(context: Context, config: ExtensionConfig) -> JsonObject:
    """The messages that the client has not acknowledged."""
    return _json(context, config)


async def incremental(context: Context, config: ExtensionConfig, since: Position) -> JsonObject:
    """The same: which those are is said by the extension's token, and by nothing else."""
    return _json(context, config)


def _json(context: Context, config: ExtensionConfig) -> JsonObject:
    if config.since is not None and _TOKEN.fullmatch(config.since) is None:
        raise InvalidParam("extensions.to_device.since is not a token of this server")
    return {"next_batch": f"d{context.view.until}", "events": []}
