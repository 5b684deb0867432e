"""Keys of this server's users, looked up and claimed by other servers.

# spec: server-server-api/#end-to-end-encryption
"""

from __future__ import annotations

from typing import Any

from federation.peers import Federation, PeerRequest
from homeserver.devices.keys import claim_own_keys, own_keys
from homeserver.devices.wanted_keys import wanted_devices, wanted_keys
from homeserver.http.bodies import json_object
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of


async def post_query(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#post_matrixfederationv1userkeysquery"""
    wanted = wanted_devices(json_object(request.body, "device_keys", required=True))
    async with federation.services.pool.acquire() as conn:
        # The names that users give their devices tell more of them than other servers need to know.
        answer = await own_keys(conn, _own(federation, wanted), None, names=False)
    del answer["user_signing_keys"]
    return answer


async def post_claim(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#post_matrixfederationv1userkeysclaim"""
    wanted = wanted_keys(json_object(request.body, "one_time_keys", required=True))
    claimed = await claim_own_keys(federation.services.stream, _own(federation, wanted))
    return {"one_time_keys": claimed}


def _own(federation: Federation, wanted: dict[str, Any]) -> dict[str, Any]:
    return {user_id: value for user_id, value in wanted.items() if domain_of(user_id) == federation.server_name}
