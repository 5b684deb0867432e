"""One /sync request: read, and if there is nothing to tell, wait until there is.

# spec: client-server-api/#get_matrixclientv3sync
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from homeserver.protocol.events import JsonObject
from homeserver.protocol.filters import Filter
from homeserver.sync import response
from homeserver.sync.client_events import Reader
from homeserver.sync.device_keys import told_keys
from homeserver.sync.tokens import SyncToken
from homeserver.sync.view import Sources, open_view

LONGEST_WAIT = 300.0  # seconds; longer, and proxies on the way give up


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """`timeout` is how long to wait at most, in seconds. `state_after` is the key under which rooms are to have the
    state after their timelines; None: they have `state`, the one before.
    """

    reader: Reader
    filter: Filter
    since: SyncToken | None = None
    timeout: float = 0.0
    full_state: bool = False
    state_after: str | None = None


async def sync(sources: Sources, request: SyncRequest) -> JsonObject:
    """The response. May be cancelled while it waits."""
    since = request.since
    if since is not None and since.position > sources.stream.position:
        # From before the database was set back, or from another one: what its client knows can't be built upon.
        since = None
    if since is None or request.full_state:
        return (await _read(sources, request, since))[0]
    loop = asyncio.get_running_loop()
    deadline = loop.time() + min(request.timeout, LONGEST_WAIT)
    subscribed: set[int] = set()
    keys: JsonObject | None = None
    with sources.changes.subscribe(users=[request.reader.user_nid]) as subscription:
        while True:
            position, typing = sources.stream.position, sources.typing.position
            result, joined = await _read(sources, request, since)
            remaining = deadline - loop.time()
            keys = keys or told_keys(result)
            if remaining <= 0 or response.says_something(result) or keys != told_keys(result):
                return result
            if joined - subscribed:
                subscription.add_rooms(joined)
                subscribed |= joined
                if (sources.stream.position, sources.typing.position) != (position, typing):
                    continue  # something happened before these rooms could wake us
            await subscription.wait(remaining)


async def _read(sources: Sources, request: SyncRequest, since: SyncToken | None) -> tuple[JsonObject, set[int]]:
    """The response as of now, and the rooms that the user is joined to."""
    # Both before anything is read: what comes meanwhile is for the next sync.
    until, typing_until = sources.stream.position, sources.typing.position
    async with sources.pool.acquire() as conn:
        view = await open_view(
            conn,
            sources,
            request.reader,
            request.filter,
            since=None if since is None else since.position,
            until=until,
            typing_until=typing_until,
            full_state=request.full_state,
            state_after=request.state_after,
        )
        if since is None:
            result = await response.complete(view)
        else:
            result = await response.incremental(view, since)
        return result, view.joined
