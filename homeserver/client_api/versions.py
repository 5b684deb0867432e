"""Which versions of the specification and which proposals this server speaks."""

from __future__ import annotations

from homeserver.http import ApiRequest, Auth, Route
from homeserver.protocol.events import JsonObject
from homeserver.services import Services

# Clients look for one they know, not for the newest, so every one is named.
VERSIONS = [
    *("r0.0.1", "r0.1.0", "r0.2.0", "r0.3.0", "r0.4.0", "r0.5.0", "r0.6.0", "r0.6.1"),
    *(f"v1.{minor}" for minor in range(1, 20)),
]

# Clients switch a feature on when they find it here: a flag goes in together with the last endpoint that it promises.
UNSTABLE_FEATURES: dict[str, bool] = {}


async def get_versions(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientversions"""
    return {"versions": VERSIONS, "unstable_features": UNSTABLE_FEATURES}


ROUTES = [Route("GET", "/_matrix/client/versions", get_versions, Auth.NONE)]
