"""Messages to the device that syncs. They are kept until it comes back with the token that it got with them.

# spec: client-server-api/#extensions-to-sync
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from homeserver.protocol.events import JsonObject
from homeserver.storage.stream import Connection
from homeserver.storage.to_device import delete_messages, waiting_messages
from homeserver.sync.client_events import Reader
from homeserver.sync.tokens import SyncToken
from homeserver.sync.view import View

MOST_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class ToDevice:
    """Messages, and the position up to which they go: that of the reading, or a smaller one if there are more."""

    events: list[JsonObject]
    until: int


async def complete(view: View) -> ToDevice:
    """Everything that waits, from the oldest on. A client that starts anew has acknowledged nothing."""
    return await messages(view.conn, view.reader, None, view.until)


async def incremental(view: View, since: SyncToken) -> ToDevice:
    """What came since. What was told before is deleted: the client has shown that it has it."""
    if view.standing is not None and not view.standing.account.messages:
        return ToDevice([], view.until)
    return await messages(view.conn, view.reader, since.to_device, view.until)


async def messages(
    conn: Connection, reader: Reader, since: int | None, until: int, limit: int = MOST_AT_ONCE
) -> ToDevice:
    """The messages after `since`, up to `until`, at most `limit`; those up to `since` are deleted.

    :param since: the `until` of an answer that the client has; None: it has none
    """
    if reader.device_id is None:
        return ToDevice([], until)
    if since is not None:
        await delete_messages(conn, reader.user_nid, reader.device_id, since)
    found = await waiting_messages(conn, reader.user_nid, reader.device_id, since or 0, until, limit + 1)
    told = found[:limit]
    # Kept as JSON, they go out as they are.
    events: list[JsonObject] = [orjson.Fragment(one.message) for one in told]  # type: ignore[misc]
    return ToDevice(events, told[-1].pos if told and len(found) > limit else until)
