"""Requests about the user who makes them."""

from __future__ import annotations

from homeserver.accounts.interactive_auth import Proof
from homeserver.accounts.oauth2.key_reset import ACTION, OPERATION, key_reset_challenge, with_stage
from homeserver.accounts.oauth2.metadata import account_management_url
from homeserver.accounts.owner_challenge import owner_challenge
from homeserver.client_api.auth_metadata import oauth2_address
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
    if requester.client_id is not None:
        return await _prove_in_browser(services, request, body, operation)
    challenge = await owner_challenge(
        services.uia,
        services.config,
        services.login_attempts,
        services.secrets,
        user_id=requester.user_id,
        user_nid=requester.user_nid,
        operation=operation,
        address=request.client_address,
    )
    return await challenge.answer(body)


async def _prove_in_browser(services: Services, request: ApiRequest, body: JsonObject, operation: str) -> Proof:
    """For a session of OAuth 2.0, which must not be asked for a password.

    # spec: client-server-api/#oauth-20-api
    """
    requester = request.requester
    address = oauth2_address(services, request)
    if operation != OPERATION:
        page = account_management_url(address, "org.matrix.profile")
        raise Forbidden(f"This application can't do that. Do it in the browser: {page}")
    url = account_management_url(address, ACTION)
    challenge = key_reset_challenge(services.uia, user_id=requester.user_id, user_nid=requester.user_nid, url=url)
    return await challenge.answer(with_stage(body))
