"""Who asks: checks the X-Matrix signature of a request before its handler runs.

# spec: server-server-api/#request-authentication
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from federation.peers import Federation, PeerHandler, PeerRequest
from federation.signed_requests import XMatrix, check_request, parse_authorization
from homeserver.http import ApiRequest, Response
from homeserver.http.routes import Handler
from homeserver.protocol.errors import Forbidden, InvalidSignature, Unauthorized, Unavailable
from homeserver.protocol.events import JsonObject
from homeserver.services import Services

_MOST_SIGNATURES = 4


def signed(federation: Federation, handler: PeerHandler) -> Handler:
    """`handler`, for requests that another server has signed and that this server takes from it."""

    async def handle(services: Services, request: ApiRequest) -> JsonObject | Response:
        return await handler(federation, await authenticate(federation, request))

    return handle


async def authenticate(federation: Federation, request: ApiRequest) -> PeerRequest:
    """The request with its origin.

    :raises Unauthorized: if it is not signed by the server that it names, or not for this one
    :raises Forbidden: if the operator does not let this server talk with that one
    :raises LimitExceeded: if that server asks too often
    :raises NotJson, BadJson, TooLarge: if the body can't be read
    """
    config = federation.services.config.federation
    if not config.enabled:
        raise Forbidden("This server does not federate")
    authorizations = _authorizations(request)
    origin = authorizations[0].origin
    if not config.may_talk_with(origin):
        raise Forbidden(f"This server does not talk with {origin}")
    content = await request.json() if await request.body() else None
    await _check_signature(federation, request, authorizations, content)
    request.limit("federation", origin)
    federation.outbox.heard_from(origin)
    return PeerRequest(origin, request.params, request.query, content)


def _authorizations(request: ApiRequest) -> Sequence[XMatrix]:
    # A server that changes its key may sign with both, in a header each.
    headers = request.raw.headers.getall("Authorization", [])[:_MOST_SIGNATURES]
    if not headers:
        raise Unauthorized("The request is not signed", errcode="M_UNAUTHORIZED")
    parsed = [parse_authorization(header) for header in headers]
    if any(one.origin != parsed[0].origin for one in parsed):
        raise Unauthorized("The request names several origins", errcode="M_UNAUTHORIZED")
    return parsed


async def _check_signature(
    federation: Federation, request: ApiRequest, authorizations: Sequence[XMatrix], content: JsonObject | None
) -> None:
    now_ms = int(time.time() * 1000)
    failure = "no signature"
    for auth in authorizations:
        try:
            key = await federation.key_ring.verify_key(auth.origin, auth.key_id, valid_at_ms=now_ms)
            check_request(request.method, request.raw_target, auth, federation.server_name, key, content)
        except (InvalidSignature, Unavailable) as error:
            failure = str(error)
        else:
            return
    raise Unauthorized(f"The signature can't be verified: {failure}", errcode="M_UNAUTHORIZED")
