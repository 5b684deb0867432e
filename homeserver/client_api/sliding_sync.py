"""Simplified sliding sync (a proposal, MSC4186; clients know it as `org.matrix.simplified_msc3575`)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from homeserver.client_api.sliding_sync_request import parse_sliding_request
from homeserver.client_api.sync import reader_of, sync_sources
from homeserver.http import ApiRequest, Auth, Route
from homeserver.http.bodies import string
from homeserver.protocol.errors import InvalidParam
from homeserver.protocol.events import JsonObject
from homeserver.sync.sliding.connections import Connections
from homeserver.sync.sliding.service import sliding_sync

if TYPE_CHECKING:
    from homeserver.services import Services
    from homeserver.storage.stream import Stream

_PRESENCES = ("online", "offline", "unavailable")
_connections: WeakKeyDictionary[Stream, Connections] = WeakKeyDictionary()


async def post_sliding_sync(services: Services, request: ApiRequest) -> JsonObject:
    """POST …/sync"""
    body, query, requester = await request.json(allow_empty=True), request.query, request.requester
    presence = query.string("set_presence") or string(body, "set_presence") or "online"
    if presence not in _PRESENCES:
        raise InvalidParam(f"set_presence must be one of {', '.join(_PRESENCES)}")
    wanted = parse_sliding_request(
        reader_of(requester),
        body,
        pos=query.string("pos", max_length=255),
        timeout_ms=query.integer("timeout", minimum=0),
    )
    connections = _connections.get(services.stream)
    if connections is None:
        connections = _connections.setdefault(services.stream, Connections(services.pool))
    with services.presence.syncing(requester.user_nid, requester.user_id, requester.device_id, presence):
        return await sliding_sync(sync_sources(services), connections, wanted)


ROUTES: list[Route] = [
    Route("POST", path, post_sliding_sync, Auth.GUEST, long_poll=True)
    for path in ("/_matrix/client/v4/sync", "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync")
]
