"""Where clients and servers that know only the server name find this server."""

from __future__ import annotations

from urllib.parse import urlsplit

from homeserver.http import ApiRequest, Auth, Route
from homeserver.protocol.errors import NotFound
from homeserver.protocol.events import JsonObject
from homeserver.services import Services


async def get_client(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#getwell-knownmatrixclient"""
    if services.config.public_baseurl is None:
        raise NotFound("public_baseurl is not configured")
    return {"m.homeserver": {"base_url": services.config.public_baseurl}}


async def get_server(services: Services, request: ApiRequest) -> JsonObject:
    """Sends other servers to the host of `public_baseurl`, where a proxy hands federation through too.

    # spec: server-server-api/#getwell-knownmatrixserver
    """
    config = services.config
    if config.public_baseurl is None or not config.federation.enabled:
        raise NotFound("public_baseurl is not configured, or federation is off")
    address = urlsplit(config.public_baseurl)
    if address.scheme != "https":
        raise NotFound("public_baseurl is not https, which federation needs")
    host = address.hostname or ""
    return {"m.server": f"{f'[{host}]' if ':' in host else host}:{address.port or 443}"}


async def get_support(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#getwell-knownmatrixsupport"""
    support = services.config.support
    answer: JsonObject = {}
    if support.contacts:
        answer["contacts"] = [contact.model_dump(exclude_none=True) for contact in support.contacts]
    if support.page is not None:
        answer["support_page"] = support.page
    if not answer:
        raise NotFound("support is not configured")
    return answer


async def get_policy_server(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#getwell-knownmatrixpolicy_server"""
    key = services.config.policy_server.public_key
    if key is None:
        raise NotFound("policy_server is not configured")
    return {"public_keys": {"ed25519": key}}


ROUTES = [
    Route("GET", "/.well-known/matrix/support", get_support, Auth.NONE),
    Route("GET", "/.well-known/matrix/policy_server", get_policy_server, Auth.NONE),
    Route("GET", "/.well-known/matrix/client", get_client, Auth.NONE),
    Route("GET", "/.well-known/matrix/server", get_server, Auth.NONE),
]
