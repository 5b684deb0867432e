"""Cross-signing: a user's own signing keys, and signatures on keys.

# spec: client-server-api/#cross-signing
"""

from __future__ import annotations

from homeserver.accounts.interactive_auth import Proof
from homeserver.client_api.own_user import prove_owner
from homeserver.devices.cross_signing import (
    needs_proof,
    parse_signing_keys,
    stored_signing_keys,
    upload_signing_keys,
)
from homeserver.devices.signatures import upload_signatures
from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.protocol.events import JsonObject
from homeserver.services import Services


async def post_device_signing_upload(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3keysdevice_signingupload"""
    requester = request.requester
    body = await request.json()
    new = parse_signing_keys(body, requester.user_id)
    async with services.pool.acquire() as conn:
        stored = await stored_signing_keys(conn, requester.user_id)
    proof: Proof | None = None
    needed = needs_proof(stored, new)
    if needed:
        proof = await prove_owner(services, request, body, "POST /keys/device_signing/upload")
    async with services.stream.write() as write:
        if proof is not None:
            await proof.use(write.conn)
        exempt = requester.appservice_id is not None
        await upload_signing_keys(write, requester.user_id, requester.user_nid, new, proved=needed or exempt)
    return {}


async def post_signatures_upload(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3keyssignaturesupload"""
    requester = request.requester
    failures = await upload_signatures(
        services.stream,
        services.remote,
        services.server_name,
        requester.user_id,
        requester.user_nid,
        await request.json(),
    )
    return {"failures": failures}


_UNSTABLE = ("",)  # where MSC1756 had them

ROUTES = [
    *client_routes("POST", "/keys/device_signing/upload", post_device_signing_upload, Auth.USER, unstable=_UNSTABLE),
    *client_routes("POST", "/keys/signatures/upload", post_signatures_upload, Auth.USER, unstable=_UNSTABLE),
]
