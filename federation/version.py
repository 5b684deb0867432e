"""Which software this is.  # spec: server-server-api/#server-implementation"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from homeserver.http import ApiRequest
from homeserver.protocol.events import JsonObject
from homeserver.services import Services


async def get_version(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1version"""
    try:
        number = version("talk-pai")
    except PackageNotFoundError:  # run from a directory into which it was never installed
        number = "unknown"
    return {"server": {"name": "Talk pAI", "version": number}}
