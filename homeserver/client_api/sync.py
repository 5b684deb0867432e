"""/sync.

# spec: client-server-api/#syncing
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from homeserver.http import ApiRequest, Auth, Requester, Route, client_routes
from homeserver.protocol.canonical_json import decode_json
from homeserver.protocol.errors import InvalidParam
from homeserver.protocol.events import JsonObject
from homeserver.protocol.filters import DEFAULT_FILTER, Filter, parse_filter
from homeserver.storage.filters import find_filter
from homeserver.sync.client_events import Reader
from homeserver.sync.service import LONGEST_WAIT, SyncRequest, sync
from homeserver.sync.tokens import parse_sync_token
from homeserver.sync.view import Sources

if TYPE_CHECKING:
    from homeserver.services import Services

_MAX_INTEGER = 2**63 - 1


def sync_sources(services: Services) -> Sources:
    """What syncs of this server read from."""
    return Sources(
        pool=services.pool,
        stream=services.stream,
        changes=services.changes,
        names=services.timeline.names,
        typing=services.typing,
        sent_members=services.sent_members,
        presence=services.presence,
    )


def reader_of(requester: Requester) -> Reader:
    """Who asks, as what reads for them needs it."""
    return Reader(requester.user_id, requester.user_nid, requester.device_id)


async def get_sync(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3sync"""
    query = request.query
    state = query.choice("set_presence", ("online", "offline", "unavailable"), default="online")
    since = query.string("since")
    timeout_ms = query.integer("timeout", default=0, minimum=0, maximum=_MAX_INTEGER)
    sync_request = SyncRequest(
        reader=reader_of(request.requester),
        filter=await _filter(services, request),
        since=parse_sync_token(since) if since else None,
        timeout=min(timeout_ms / 1000, LONGEST_WAIT),
        full_state=query.boolean("full_state"),
        state_after=_state_after(request),
    )
    requester = request.requester
    with services.presence.syncing(requester.user_nid, requester.user_id, requester.device_id, state):
        return await sync(sync_sources(services), sync_request)


def _state_after(request: ApiRequest) -> str | None:
    """The key for the state after the timeline: that of the proposal for clients that know only that."""
    if request.query.boolean("use_state_after"):
        return "state_after"
    if request.query.boolean("org.matrix.msc4222.use_state_after"):
        return "org.matrix.msc4222.state_after"
    return None


async def _filter(services: Services, request: ApiRequest) -> Filter:
    """The filter of the request, given by its number or whole."""
    text = request.query.string("filter")
    if not text:
        return DEFAULT_FILTER
    if text.startswith("{"):
        return parse_filter(decode_json(text))
    if text.isascii() and text.isdigit() and len(text) < 19:
        async with services.pool.acquire() as conn:
            stored = await find_filter(conn, request.requester.user_nid, int(text))
        if stored is not None:
            return parse_filter(decode_json(stored))
    raise InvalidParam("There is no such filter")


ROUTES: list[Route] = client_routes("GET", "/sync", get_sync, Auth.GUEST, long_poll=True)
