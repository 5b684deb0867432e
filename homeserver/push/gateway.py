"""One request to a push gateway, and what its answer means.

# spec: push-gateway-api/#post_matrixpushv1notify
"""

from __future__ import annotations

from enum import Enum, auto

from homeserver.outbound import OutboundClient, RequestFailed
from homeserver.protocol.canonical_json import decode_json, encode_json
from homeserver.protocol.errors import NotJson
from homeserver.protocol.events import JsonObject

_SECONDS = 30.0
_MOST_ANSWER = 64 * 1024
_REFUSALS = frozenset({400, 413, 414, 422})  # about what was sent rather than about who sent it, or when


class Outcome(Enum):
    """What became of a request."""

    TAKEN = auto()
    REJECTED = auto()  # the push key is good no more
    REFUSED = auto()  # this request will hardly ever be taken
    FAILED = auto()  # another time, perhaps


async def post_notification(
    outbound: OutboundClient, url: str, pushkey: str, notification: JsonObject
) -> tuple[Outcome, str]:
    """Sends a notification to a gateway. With the outcome comes a reason, for the log.

    # spec: push-gateway-api/#homeserver-behaviour
    """
    try:
        response = await outbound.request(
            "POST",
            url,
            headers={"Content-Type": "application/json"},
            body=encode_json({"notification": notification}),
            timeout=_SECONDS,
            max_bytes=_MOST_ANSWER,
        )
    except RequestFailed as error:
        return Outcome.FAILED, str(error)
    if response.status in _REFUSALS:
        return Outcome.REFUSED, f"it answered {response.status}"
    if not 200 <= response.status < 300:
        return Outcome.FAILED, f"it answered {response.status}"
    try:
        answer = decode_json(response.body)
    except NotJson:
        # Whatever that is (the page of a hotel's Wi-Fi), it is no gateway that has taken anything.
        return Outcome.FAILED, "its answer is not JSON"
    rejected = answer.get("rejected") if isinstance(answer, dict) else None
    if isinstance(rejected, list) and pushkey in rejected:
        return Outcome.REJECTED, "it rejects the push key"
    return Outcome.TAKEN, ""
