"""Requests about the user who makes them."""

from __future__ import annotations

from homeserver.accounts.interactive_auth import Proof
from homeserver.accounts.owner_challenge import owner_challenge
from homeserver.http import ApiRequest
from homeserver.protocol.errors import Forbidden
from homeserver.protocol.events import JsonObject
from homeserver.services import Services


def check_own_user(request: ApiRequest) -> None:
    """Checks that `{userId}` of the path is the user who asks. Raises Forbidden."""
    if request.params["userId"] != request.requester.user_id:
        raise Forbidden("This is another user's")


async def prove_owner(services: Services, request: ApiRequest, body: JsonObject, operation: str) -> Proof | None:
    """Has the user prove that the account is theirs; None for users of application services.

    :param operation: what it is for, named with its path
    :raises AuthRequired: until it is proved
    :raises LimitExceeded: for too many tries
    """
    requester = request.requester
    if requester.appservice_id is not None:
        return None
    challenge = await owner_challenge(
        services.uia,
        services.config,
        services.login_attempts,
        user_id=requester.user_id,
        user_nid=requester.user_nid,
        operation=operation,
        address=request.client_address,
    )
    return await challenge.answer(body)
