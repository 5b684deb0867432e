"""The authorization code grant, from the browser's request to the code that is sent back.

The page of the authorization endpoint checks the request first (`check_authorization_request`), lets the person sign
in, shows who asks, and calls `grant` or `deny`. It must hand both the request as it was checked, again from the query
string if it has been to the browser and back. The answer names its issuer (RFC 9207), so that a client which knows
several servers can't be made to hand the code of one to another.

# spec: client-server-api/#authorisation-code-grant
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl

from homeserver.accounts.moderation import check_may_sign_in
from homeserver.accounts.oauth2.clients import (
    AUTHORIZATION_CODE,
    Client,
    find_client,
    find_registered_client,
    note_client_used,
)
from homeserver.accounts.oauth2.errors import AuthorizationError
from homeserver.accounts.oauth2.redirect_uris import matches, with_parameters
from homeserver.accounts.oauth2.scope import parse_scope
from homeserver.config import OAuth2Config
from homeserver.storage import devices, oauth2, refresh_tokens
from homeserver.storage.access_tokens import hash_token
from homeserver.storage.stream import Connection

_CODE_LIFETIME_MS = 60 * 1000
_CODE_KEPT_MS = 24 * 3600 * 1000  # after it expired: one that comes again must be known for what it is
_MAX_QUERY = 16 * 1024
_MAX_STATE = 4096
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A request that may be shown to a person. `scope` is what will be granted, as the device `device_id`.

    `prompt` is "create" if the person wants to make an account, "login" or "consent" if the client wants that seen
    once more; `login_hint` is who the client thinks they are, its own word.
    """

    client: Client
    redirect_uri: str
    response_mode: str
    scope: str
    device_id: str
    state: str | None
    code_challenge: str
    prompt: str | None
    login_hint: str | None
    issuer: str


async def check_authorization_request(
    conn: Connection, config: OAuth2Config, issuer: str, query: str
) -> AuthorizationRequest:
    """The request that a browser brings to the authorization endpoint.

    :param issuer: this server's, as the metadata has it
    :param query: the query string as it came
    :raises AuthorizationError: if it can't go on; its `redirect` says whether the client may be told
    """
    parameters = _parse(query)
    client = await find_client(conn, config, parameters.get("client_id", ""))
    if client is None:
        raise AuthorizationError("invalid_client", "The application that sent you here is not known to this server")
    redirect_uri = parameters.get("redirect_uri", "")
    if not any(matches(redirect_uri, registered) for registered in client.redirect_uris):
        raise AuthorizationError(
            "invalid_request", "The application wants you sent back to an address that it has not registered"
        )
    state = parameters.get("state")
    fragment = parameters.get("response_mode") == "fragment"

    def refused(error: str, description: str) -> AuthorizationError:
        redirect = _redirect(redirect_uri, fragment, state, issuer, error=error, error_description=description)
        return AuthorizationError(error, description, redirect=redirect)

    if state is not None and len(state) > _MAX_STATE:
        state = None
        raise refused("invalid_request", "state is too long")
    return _checked(parameters, client, redirect_uri, state, issuer, refused)


def _checked(
    parameters: dict[str, str],
    client: Client,
    redirect_uri: str,
    state: str | None,
    issuer: str,
    refused: Callable[[str, str], AuthorizationError],
) -> AuthorizationRequest:
    """The rest of the request, of which the client may be told what is wrong."""
    for name in ("request", "request_uri", "registration"):
        if name in parameters:
            raise refused(f"{name}_not_supported", f"{name} is not supported")
    if parameters.get("response_type") != "code":
        raise refused("unsupported_response_type", "response_type must be code")
    if AUTHORIZATION_CODE not in client.grant_types:
        raise refused("unauthorized_client", "The client has not registered for this grant")
    response_mode = parameters.get("response_mode", "query")
    if response_mode not in ("query", "fragment"):
        raise refused("invalid_request", "response_mode must be query or fragment")
    # Without it anyone who gets hold of the code could use it, and `plain` would help nobody.
    code_challenge = parameters.get("code_challenge", "")
    if parameters.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(code_challenge):
        raise refused("invalid_request", "A code_challenge with code_challenge_method S256 is needed")
    try:
        scope = parse_scope(parameters.get("scope", ""))
    except ValueError as error:
        raise refused("invalid_scope", str(error)) from None
    prompts = parameters.get("prompt", "").split()
    if "none" in prompts:
        raise refused("interaction_required", "Nobody is signed in here without being asked")
    return AuthorizationRequest(
        client=client,
        redirect_uri=redirect_uri,
        response_mode=response_mode,
        scope=scope.text,
        device_id=scope.device_id,
        state=state,
        code_challenge=code_challenge,
        prompt=next((one for one in ("create", "login", "consent") if one in prompts), None),
        login_hint=parameters.get("login_hint"),
        issuer=issuer,
    )


async def grant(conn: Connection, request: AuthorizationRequest, user_nid: int) -> str:
    """The person has agreed. Inside a transaction.

    :returns: where to send the browser, with a code that is good once and for a minute; or with an error, if the
        device that the client asks for is another's
    :raises Unauthorized: M_USER_LOCKED
    :raises Forbidden: M_USER_DEACTIVATED
    """
    await check_may_sign_in(conn, user_nid)
    if not await may_use_device(conn, request.client, user_nid, request.device_id):
        return _answer(request, error="invalid_scope", error_description="You have this device in another application")
    await note_client_used(conn, request.client)
    code = secrets.token_urlsafe(32)
    now_ms = int(time.time() * 1000)
    await oauth2.insert_code(
        conn,
        hash_token(code),
        oauth2.Code(
            client_id=request.client.client_id,
            user_nid=user_nid,
            redirect_uri=request.redirect_uri,
            scope=request.scope,
            device_id=request.device_id,
            code_challenge=request.code_challenge,
            expires_ts=now_ms + _CODE_LIFETIME_MS,
            used=False,
            family_hash=None,
        ),
        forget_before=now_ms - _CODE_KEPT_MS,
    )
    return _answer(request, code=code)


def deny(request: AuthorizationRequest) -> str:
    """The person has refused. Returns where to send the browser."""
    return _answer(request, error="access_denied", error_description="The user refused")


async def may_use_device(conn: Connection, client: Client, user_nid: int, device_id: str) -> bool:
    """Whether a client may become that device of a user: a new one, or one that was signed in by the same client.

    Taking over a device means to be sent what was encrypted for it and to end its session, which its own application
    may do after a soft logout, and no other.

    # spec: client-server-api/#relationship-between-access-tokens-and-devices
    """
    if not await devices.device_exists(conn, user_nid, device_id):
        return True
    holder = await refresh_tokens.client_of_session(conn, user_nid, device_id)
    if holder is None:
        return False
    if holder == client.client_id:
        return True
    # A newer version of the same application may have registered with other metadata.
    other = await find_registered_client(conn, holder)
    return other is not None and other.host == client.host != ""


def _parse(query: str) -> dict[str, str]:
    """:raises AuthorizationError: for what can't be read, and for a parameter that is there twice"""
    broken = AuthorizationError("invalid_request", "The address that the application sent you to is broken")
    if len(query) > _MAX_QUERY:
        raise broken
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise broken from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs) or any("\0" in text for pair in pairs for text in pair):
        raise broken
    # RFC 6749 3.1: a parameter without a value counts as not there.
    return {name: value for name, value in parameters.items() if value}


def _answer(request: AuthorizationRequest, **parameters: str) -> str:
    fragment = request.response_mode == "fragment"
    return _redirect(request.redirect_uri, fragment, request.state, request.issuer, **parameters)


def _redirect(redirect_uri: str, fragment: bool, state: str | None, issuer: str, **parameters: str) -> str:
    if state is not None:
        parameters["state"] = state
    return with_parameters(redirect_uri, {**parameters, "iss": issuer}, fragment=fragment)
