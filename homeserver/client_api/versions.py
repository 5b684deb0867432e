"""Which versions of the specification and which proposals this server speaks."""

from __future__ import annotations

from homeserver.client_api import rendezvous
from homeserver.http import ApiRequest, Auth, Route
from homeserver.http.own_address import own_address
from homeserver.protocol.events import JsonObject
from homeserver.services import Services

# Clients look for one they know, not for the newest, so every one is named.
VERSIONS = [
    *("r0.0.1", "r0.1.0", "r0.2.0", "r0.3.0", "r0.4.0", "r0.5.0", "r0.6.0", "r0.6.1"),
    *(f"v1.{minor}" for minor in range(1, 20)),
]

# Clients switch a feature on when they find it here: a flag goes in together with the last endpoint that it promises.
UNSTABLE_FEATURES: dict[str, bool] = {
    "org.matrix.e2e_cross_signing": True,  # cross-signing, under the name of its proposal
    "org.matrix.simplified_msc3575": True,  # simplified sliding sync
    "org.matrix.msc2285.stable": True,  # private receipts
    "org.matrix.msc3440.stable": True,  # threads
    "org.matrix.msc3715.stable": True,  # relations in either direction
    "org.matrix.msc3827.stable": True,  # the directory by types of rooms
    "org.matrix.msc3856": True,  # lists of threads
    "org.matrix.msc3981": True,  # relations of relations
    "org.matrix.msc4222": True,  # the state after a sync's timeline
    "org.matrix.msc3391": True,  # deletion of account data
    "org.matrix.msc3881": True,  # pushers switched off from another device
    "org.matrix.msc4140": True,  # delayed events
    "org.matrix.msc4306": True,  # subscriptions to threads, and sliding sync telling of them (MSC4308)
    "org.matrix.msc4155": True,  # filters of invitations
    "org.matrix.msc4380": True,  # blocked invitations
    "org.matrix.msc4380.stable": True,
    "org.matrix.msc3030": True,  # timestamp_to_event
    "org.matrix.msc3916.stable": True,  # files only for those who are signed in
    "org.matrix.msc4151": True,  # reports of rooms
    "org.matrix.msc4260": True,  # reports of users
    "uk.half-shot.msc2666.query_mutual_rooms": True,
    "uk.half-shot.msc2666.query_mutual_rooms.stable": True,
    "uk.tcpip.msc4133": True,  # profile fields
    "uk.tcpip.msc4133.stable": True,
    "uk.timedout.msc4323": True,  # locking and suspending by administrators
}


async def get_versions(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientversions"""
    # Devices that meet here by a QR code also need to be signed in by OAuth 2.0.
    by_qr_code = rendezvous.is_available(services) and own_address(services.config, request) is not None
    return {"versions": VERSIONS, "unstable_features": {**UNSTABLE_FEATURES, "org.matrix.msc4108": by_qr_code}}


ROUTES = [Route("GET", "/_matrix/client/versions", get_versions, Auth.NONE)]
