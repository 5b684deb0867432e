"""Keys of devices: published, looked up and claimed, here and on other servers.

# spec: client-server-api/#key-management-api
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from homeserver.devices.keys import claim_own_keys, own_keys, upload_keys
from homeserver.devices.remote_device_lists import query_keys
from homeserver.devices.remote_keys import MAX_TIMEOUT, claim_remote_keys, query_remote_keys
from homeserver.devices.wanted_keys import wanted_devices, wanted_keys
from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.http.bodies import integer, json_object
from homeserver.protocol.errors import BadRequest
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of
from homeserver.services import Services
from homeserver.storage.cross_signing_keys import visible_signatures

_TIMEOUT_MS = 10_000


async def post_upload(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3keysupload"""
    requester = request.requester
    if requester.device_id is None:
        raise BadRequest("Only a device can publish keys")
    body = await request.json()
    counts = await upload_keys(
        services.stream,
        requester.user_id,
        requester.user_nid,
        requester.device_id,
        identity=json_object(body, "device_keys"),
        one_time=json_object(body, "one_time_keys") or {},
        fallback=json_object(body, "fallback_keys") or {},
    )
    return {"one_time_key_counts": counts}


async def post_query(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3keysquery"""
    body = await request.json()
    wanted = wanted_devices(json_object(body, "device_keys", required=True))
    timeout = _timeout(body)
    viewer = request.requester.user_id
    own, others = _split(services, wanted)
    async with services.pool.acquire() as conn:
        answer = await own_keys(conn, own, viewer, names=True)
        added = await visible_signatures(conn, others, viewer) if others else []
    answer["failures"] = {}
    if others:
        remote = await query_remote_keys(
            partial(query_keys, services.stream, services.remote), others, viewer, added, timeout
        )
        for section, found in remote.items():
            answer[section].update(found)
    return answer


async def post_claim(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3keysclaim"""
    body = await request.json()
    wanted = wanted_keys(json_object(body, "one_time_keys", required=True))
    timeout = _timeout(body)
    own, others = _split(services, wanted)
    claimed, remote = await asyncio.gather(
        claim_own_keys(services.stream, own), claim_remote_keys(services.remote, others, timeout)
    )
    return {"one_time_keys": {**remote["one_time_keys"], **claimed}, "failures": remote["failures"]}


def _timeout(body: JsonObject) -> float:
    """Seconds."""
    timeout_ms = integer(body, "timeout", minimum=0)
    return min((_TIMEOUT_MS if timeout_ms is None else timeout_ms) / 1000, MAX_TIMEOUT)


def _split(services: Services, wanted: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Users of this server, and the others."""
    own: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for user_id, value in wanted.items():
        (own if domain_of(user_id) == services.server_name else others)[user_id] = value
    return own, others


ROUTES = [
    *client_routes("POST", "/keys/upload", post_upload, Auth.GUEST),
    *client_routes("POST", "/keys/query", post_query, Auth.GUEST),
    *client_routes("POST", "/keys/claim", post_claim, Auth.GUEST),
]
