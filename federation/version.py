"""Which software this is.  # spec: server-server-api/#server-implementation"""

from __future__ import annotations

from homeserver.http import ApiRequest
from homeserver.http.software import software_version
from homeserver.protocol.events import JsonObject
from homeserver.services import Services


async def get_version(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1version"""
    return {"server": {"name": "Talk pAI", "version": software_version()}}
