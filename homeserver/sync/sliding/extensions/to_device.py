"""Messages to the device. They have a token of their own, which acknowledges what came before (a proposal, MSC3885)."""

from __future__ import annotations

import re

from homeserver.protocol.errors import InvalidParam
from homeserver.protocol.events import JsonObject
from homeserver.sync.sliding.connections import Position
from homeserver.sync.sliding.extensions.context import Context
from homeserver.sync.sliding.request import ExtensionConfig
from homeserver.sync.to_device import MOST_AT_ONCE, messages

_TOKEN = re.compile(r"d?([0-9]{1,18})", re.ASCII)


async def complete(context: Context, config: ExtensionConfig) -> JsonObject:
    """The messages that the client has not acknowledged."""
    return await _json(context, config)


async def incremental(context: Context, config: ExtensionConfig, since: Position) -> JsonObject:
    """The same: which those are is said by the extension's token, and by nothing else."""
    return await _json(context, config)


async def _json(context: Context, config: ExtensionConfig) -> JsonObject:
    view, since = context.view, _acknowledged(config.since)
    if since is not None and since > view.until:
        since = None  # from before the database was set back: what its client knows can't be built upon
    limit = MOST_AT_ONCE if config.limit is None else max(1, min(config.limit, MOST_AT_ONCE))
    found = await messages(view.conn, view.reader, since, view.until, limit)
    return {"next_batch": f"d{found.until}", "events": found.events}


def _acknowledged(token: str | None) -> int | None:
    """Up to where the client has its messages."""
    match = None if token is None else _TOKEN.fullmatch(token)
    if token is not None and match is None:
        raise InvalidParam("extensions.to_device.since is not a token of this server")
    return None if match is None else int(match[1])
