"""What accounts under moderation may not do: the whole of it in one place, by route.

A locked account can only log out. A suspended one reads, leaves and logs out, and says nothing. One that is
shadow-banned gets the answers that everyone gets, and nothing of what it says reaches anyone: it is not even kept.

# spec: client-server-api/#account-moderation
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from functools import lru_cache

from homeserver.accounts.moderation import locked_error, suspended_error
from homeserver.http.requests import ApiRequest
from homeserver.http.routes import Route
from homeserver.protocol.events import JsonObject

# What has only an unstable name, because it is ours, keeps it.
_PREFIX = re.compile(
    r"/_matrix/(?:client|media)/(?:r0|v\d+|unstable(?:/(?!org\.talkpai)[a-z0-9-]+(?:\.[\w-]+)+)?)(?=/)"
)
_LOGOUT = {("POST", "/logout"), ("POST", "/logout/all")}
_SEND = ("PUT", "/rooms/{roomId}/send/{eventType}/{txnId}")

REFUSED_WHEN_SUSPENDED = {
    ("POST", "/createRoom"),
    ("POST", "/join/{roomIdOrAlias}"),
    ("POST", "/rooms/{roomId}/join"),
    ("POST", "/knock/{roomIdOrAlias}"),
    ("POST", "/rooms/{roomId}/invite"),
    ("POST", "/rooms/{roomId}/kick"),
    ("POST", "/rooms/{roomId}/ban"),
    ("POST", "/rooms/{roomId}/unban"),
    ("POST", "/rooms/{roomId}/upgrade"),
    ("PUT", "/rooms/{roomId}/delayed_event/{eventType}/{txnId}"),
    ("PUT", "/rooms/{roomId}/state/{eventType}"),
    ("PUT", "/rooms/{roomId}/state/{eventType}/"),
    ("PUT", "/rooms/{roomId}/state/{eventType}/{stateKey}"),
    ("PUT", "/rooms/{roomId}/typing/{userId}"),
    ("PUT", "/profile/{userId}/{keyName}"),
    ("DELETE", "/profile/{userId}/{keyName}"),
    ("PUT", "/presence/{userId}/status"),
    ("PUT", "/directory/room/{roomAlias}"),
    ("DELETE", "/directory/room/{roomAlias}"),
    ("PUT", "/directory/list/room/{roomId}"),
    ("POST", "/upload"),
    ("POST", "/create"),
    ("PUT", "/upload/{serverName}/{mediaId}"),
    ("POST", "/account/3pid/bind"),
    ("POST", "/account/3pid/unbind"),
    ("POST", "/account/3pid/delete"),
    _SEND,  # but for redactions, of which `rooms` lets only those of one's own events through
}


@lru_cache(maxsize=4096)
def endpoint(route: Route) -> tuple[str, str]:
    """Method and path of a route without the prefix that says the version, so that all versions are one."""
    return route.method, _PREFIX.sub("", route.path)


def check_not_locked(request: ApiRequest, locked: bool) -> None:
    """:raises Unauthorized: M_USER_LOCKED, with soft_logout, for all that a locked account may not do

    # spec: client-server-api/#account-locking
    """
    if locked and endpoint(request.route) not in _LOGOUT:
        raise locked_error()


def check_not_suspended(request: ApiRequest, suspended: bool) -> None:
    """:raises Forbidden: M_USER_SUSPENDED for what a suspended account may not do

    # spec: client-server-api/#account-suspension
    """
    if not suspended:
        return
    called = endpoint(request.route)
    if called in REFUSED_WHEN_SUSPENDED and not (called == _SEND and request.params["eventType"] == "m.room.redaction"):
        raise suspended_error()


async def shadow_answer(request: ApiRequest) -> JsonObject | None:
    """What a shadow-banned user is told instead of anything being done; None for what is done as for everyone.

    Some requests are done in part: see where `shadow_banned` is asked for (createRoom without invitations, messages
    between devices to one's own only, joining without a reason).

    :raises MatrixError: for a body that is no JSON object
    """
    answer = _SHADOW_ANSWERS.get(endpoint(request.route))
    if answer is None:
        return None
    await request.json(allow_empty=True)
    return answer(request)


def _event(request: ApiRequest) -> JsonObject:
    if any(name in request.query for name in ("delay", "org.matrix.msc4140.delay")):
        return _delayed(request)
    return {"event_id": f"${_made_up(request, 32)}"}


def _delayed(request: ApiRequest) -> JsonObject:
    return {"delay_id": _made_up(request, 18)}


def _replacement(request: ApiRequest) -> JsonObject:
    return {"replacement_room": f"!{_made_up(request, 32)}"}


def _nothing(request: ApiRequest) -> JsonObject:
    return {}


def _made_up(request: ApiRequest, size: int) -> str:
    """An id as they look, of `size` bytes; a request that is repeated gets the same."""
    asked = f"{request.requester.user_id} {request.requester.device_id} {request.raw_target}"
    return (
        base64.urlsafe_b64encode(hashlib.sha256(asked.encode("utf-8", "surrogatepass")).digest()[:size])
        .decode()
        .rstrip("=")
    )


_SHADOW_ANSWERS: dict[tuple[str, str], Callable[[ApiRequest], JsonObject]] = {
    _SEND: _event,
    ("PUT", "/rooms/{roomId}/redact/{eventId}/{txnId}"): _event,
    ("PUT", "/rooms/{roomId}/state/{eventType}"): _event,
    ("PUT", "/rooms/{roomId}/state/{eventType}/"): _event,
    ("PUT", "/rooms/{roomId}/state/{eventType}/{stateKey}"): _event,
    ("PUT", "/rooms/{roomId}/delayed_event/{eventType}/{txnId}"): _delayed,
    ("POST", "/rooms/{roomId}/invite"): _nothing,
    ("POST", "/rooms/{roomId}/kick"): _nothing,
    ("POST", "/rooms/{roomId}/ban"): _nothing,
    ("POST", "/rooms/{roomId}/unban"): _nothing,
    ("POST", "/rooms/{roomId}/upgrade"): _replacement,
    ("PUT", "/rooms/{roomId}/typing/{userId}"): _nothing,
    ("PUT", "/profile/{userId}/{keyName}"): _nothing,
    ("DELETE", "/profile/{userId}/{keyName}"): _nothing,
    ("PUT", "/presence/{userId}/status"): _nothing,
    ("PUT", "/directory/room/{roomAlias}"): _nothing,
    ("DELETE", "/directory/room/{roomAlias}"): _nothing,
    ("PUT", "/directory/list/room/{roomId}"): _nothing,
}
