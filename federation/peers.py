"""What the handlers of requests from other servers are given: the request with its proven origin, and our objects.

Handlers are `async def handler(federation, request) -> JsonObject | Response` and stand in one file a part of the
specification; `routes` is the table of all of them, and `authentication` what runs before each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from homeserver.http import Query, Response
from homeserver.protocol.errors import BadJson, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.server_acls import ServerAcl
from homeserver.services import Services
from homeserver.storage.members import is_any_joined
from homeserver.storage.names import BoundedCache, Room

if TYPE_CHECKING:
    from federation.key_ring import KeyRing
    from federation.outbox import Outbox
    from federation.transactions import Transactions


@dataclass(frozen=True, slots=True)
class Federation:
    """The half of this server that speaks with other servers. `acls` remembers compiled ones by their event's id."""

    services: Services
    key_ring: KeyRing
    outbox: Outbox
    transactions: Transactions
    acls: BoundedCache[str, ServerAcl] = field(default_factory=lambda: BoundedCache(1_000))

    @property
    def server_name(self) -> str:
        return self.services.server_name


@dataclass(frozen=True, slots=True)
class PeerRequest:
    """A request that `origin` has signed. `content` is its JSON body, None if it has none."""

    origin: str
    params: Mapping[str, str]
    query: Query
    content: JsonObject | None

    @property
    def body(self) -> JsonObject:
        """:raises BadJson: if there is no body"""
        if self.content is None:
            raise BadJson("The request has no body")
        return self.content


PeerHandler: TypeAlias = Callable[[Federation, PeerRequest], Awaitable[JsonObject | Response]]


async def room_here(federation: Federation, room_id: str) -> Room:
    """The room of that id.

    :raises NotFound: if this server is not in it
    """
    services = federation.services
    room = await services.timeline.names.room(room_id)
    if room is not None:
        async with services.pool.acquire() as conn:
            if await is_any_joined(conn, room.nid, services.server_name):
                return room
    raise NotFound("This server is not in that room")
