"""What administrators may do about other servers: have one tried again that was given up for a while."""

from __future__ import annotations

from functools import partial

from federation.peers import Federation
from homeserver.http import ApiRequest, Auth, Route
from homeserver.protocol.errors import BadRequest
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage import audit_log
from homeserver.storage.audit_log import Actor
from homeserver.storage.destinations import Backoff, backoff_of, write_backoff

_PATH = "/_synapse/admin/v1/federation/destinations/{destination}/reset_connection"


async def post_reset_connection(federation: Federation, services: Services, request: ApiRequest) -> JsonObject:
    """Has a server that was given up for a while tried again at once."""
    destination = request.params["destination"]
    async with services.pool.acquire() as conn, conn.transaction():
        if await backoff_of(conn, destination) == Backoff():
            raise BadRequest("The retry timing does not need to be reset for this destination.")
        await write_backoff(conn, destination, Backoff())
        actor = Actor(request.requester.user_id, request.client_address)
        await audit_log.append(conn, actor, "destination.reset", destination, {})
    federation.outbox.retry_now(destination)
    return {}


def administration_routes(federation: Federation) -> list[Route]:
    """The routes for administrators that need the sender to other servers."""
    return [Route("POST", _PATH, partial(post_reset_connection, federation), Auth.ADMIN)]
