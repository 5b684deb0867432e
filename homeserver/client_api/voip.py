"""Credentials for the relays of calls.  # spec: client-server-api/#voice-over-ip"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.protocol.events import JsonObject
from homeserver.services import Services


async def get_turn_server(services: Services, request: ApiRequest) -> JsonObject:
    """`{}` where there is no relay.

    # spec: client-server-api/#get_matrixclientv3voipturnserver
    """
    turn = services.config.turn
    if not turn.uris or (request.requester.guest and not turn.guests):
        return {}
    if turn.shared_secret is not None:
        # The convention of TURN's REST API, which relays can check without asking anyone: the name says until when
        # it is good, and the password is its HMAC-SHA1.
        username = f"{int(time.time()) + turn.lifetime_seconds}:{request.requester.user_id}"
        secret = turn.shared_secret.get_secret_value().encode()
        password = base64.b64encode(hmac.new(secret, username.encode(), hashlib.sha1).digest()).decode()
    else:
        assert turn.username is not None
        assert turn.password is not None
        username, password = turn.username, turn.password.get_secret_value()
    return {"username": username, "password": password, "uris": list(turn.uris), "ttl": turn.lifetime_seconds}


ROUTES: list[Route] = client_routes("GET", "/voip/turnServer", get_turn_server, Auth.GUEST)
