"""The endpoints of OAuth 2.0 that programs call. The pages that people see are in homeserver.web.

What is wrong is said in OAuth's own words (RFC 6749 5.2) where it is about OAuth, and in Matrix' where it is not: too
many requests, a body that is too large. Clients log out for the former and try again for the latter.

# spec: client-server-api/#oauth-20-api
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias
from urllib.parse import parse_qsl, unquote_plus

from homeserver.accounts.oauth2 import device_grants
from homeserver.accounts.oauth2.clients import Client, authenticate_client, find_client, register_client
from homeserver.accounts.oauth2.errors import OAuth2Error, invalid_client, invalid_request
from homeserver.accounts.oauth2.metadata import DEVICE_PATH, issuer_of
from homeserver.accounts.oauth2.signed_tokens import load_or_create_token_key
from homeserver.accounts.oauth2.tokens import Issuing, give_tokens, introspect, revoke
from homeserver.client_api.auth_metadata import oauth2_address
from homeserver.http import ApiRequest, Auth, Response, Route, json_response
from homeserver.protocol.errors import Forbidden, MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.rate_limits import address_key
from homeserver.services import Services
from homeserver.translations import best_language

_MAX_BODY = 64 * 1024
_FORM = "application/x-www-form-urlencoded"

_Handler: TypeAlias = Callable[[Services, ApiRequest], Awaitable[tuple[JsonObject, int]]]
Form: TypeAlias = dict[str, str]


async def _answer(handler: _Handler, services: Services, request: ApiRequest) -> Response:
    try:
        body, status = await handler(services, request)
    except OAuth2Error as error:
        body, status = error.body(), error.status
        if error.ended is not None:
            request.sessions_changed(error.ended)
    response = json_response(body, status)
    # RFC 6749 5.1
    response.headers["Cache-Control"] = "no-store"
    response.headers["Pragma"] = "no-cache"
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="oauth2"'
    return response


async def post_register(services: Services, request: ApiRequest) -> tuple[JsonObject, int]:
    """# spec: client-server-api/#dynamic-client-registration-flow"""
    oauth2_address(services, request)
    if not services.config.oauth2.registration:
        raise Forbidden("Clients can't register themselves here")
    request.limit("oauth2_registration", address_key(request.client_address))
    await request.body(_MAX_BODY)
    try:
        metadata = await request.json()
    except MatrixError as error:
        raise OAuth2Error("invalid_client_metadata", error.message) from None
    async with services.pool.acquire() as conn, conn.transaction():
        registration = await register_client(conn, services.config.oauth2, metadata)
    return registration.body(), 201


async def post_token(services: Services, request: ApiRequest) -> tuple[JsonObject, int]:
    """# spec: client-server-api/#authorisation-code-flow"""
    issuing = _issuing(services, request)
    form = await _form(request)
    client = await _client(services, request, form)
    issued = await give_tokens(services.stream, issuing, client, form)
    request.sessions_changed(issued.user_nid)
    services.mail.wake()
    return issued.body(), 200


async def post_revoke(services: Services, request: ApiRequest) -> tuple[JsonObject, int]:
    """# spec: client-server-api/#token-revocation"""
    oauth2_address(services, request)
    form = await _form(request)
    token = form.get("token")
    if not token:
        raise invalid_request("token is missing")
    await _check_credentials(services, request, form)
    user_nid = await revoke(services.stream, token)
    if user_nid is not None:
        request.sessions_changed(user_nid)
    return {}, 200


async def post_introspect(services: Services, request: ApiRequest) -> tuple[JsonObject, int]:
    """RFC 7662, for services of the configuration and for application services."""
    oauth2_address(services, request)
    form = await _form(request)
    token = form.get("token")
    if not token:
        raise invalid_request("token is missing")
    if not _is_appservice(request):
        client = await _client(services, request, form)
        if not client.introspection:
            raise OAuth2Error("unauthorized_client", "This client may not ask whose tokens are", status=403)
    return await introspect(services.pool, token), 200


async def post_device_authorization(services: Services, request: ApiRequest) -> tuple[JsonObject, int]:
    """# spec: client-server-api/#device-authorisation-grant"""
    address = oauth2_address(services, request)
    form = await _form(request)
    client = await _client(services, request, form)
    async with services.pool.acquire() as conn, conn.transaction():
        codes = await device_grants.begin(conn, client, form.get("scope", ""))
    page = f"{address}{DEVICE_PATH}"
    return {
        "device_code": codes.device_code,
        "user_code": codes.user_code,
        "verification_uri": page,
        "verification_uri_complete": f"{page}?user_code={codes.user_code}",
        "expires_in": device_grants.LIFETIME_MS // 1000,
        "interval": device_grants.INTERVAL_MS // 1000,
    }, 200


async def get_keys(services: Services, request: ApiRequest) -> JsonObject:
    """The public keys that access tokens are signed with (RFC 7517); none where they are not."""
    oauth2_address(services, request)
    config = services.config
    keys = [load_or_create_token_key(config.data_dir).public_jwk()] if config.oauth2.jwt_access_tokens else []
    return {"keys": keys}


def _issuing(services: Services, request: ApiRequest) -> Issuing:
    config = services.config
    return Issuing(
        config=config,
        issuer=issuer_of(oauth2_address(services, request)),
        key=partial(load_or_create_token_key, config.data_dir) if config.oauth2.jwt_access_tokens else None,
        address=request.client_address,
        language=best_language(request.headers.get("Accept-Language", "")),
    )


async def _form(request: ApiRequest) -> Form:
    """The parameters of the body.

    :raises OAuth2Error: invalid_request for what is not a form, or has a parameter twice
    """
    raw = await request.body(_MAX_BODY)
    if request.raw.content_type != _FORM:
        raise invalid_request(f"The body must be {_FORM}")
    try:
        pairs = parse_qsl(raw.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise invalid_request("The body can't be read") from None
    form = dict(pairs)
    # RFC 6749 3.2
    if len(form) != len(pairs):
        raise invalid_request("A parameter is there twice")
    if any("\0" in text for pair in pairs for text in pair):
        raise invalid_request("The body has a NUL character in it")
    return {name: value for name, value in form.items() if value}


async def _client(services: Services, request: ApiRequest, form: Form) -> Client:
    async with services.pool.acquire() as conn:
        return await authenticate_client(conn, services.config.oauth2, form, _basic(request))


async def _check_credentials(services: Services, request: ApiRequest, form: Form) -> None:
    """Whoever has a token may end its session: what finds tokens that leaked must be able to. Who says who it is must
    be right, and a client that has a secret must show it.

    # spec: client-server-api/#token-revocation
    """
    basic = _basic(request)
    if basic is None and "client_secret" not in form:
        async with services.pool.acquire() as conn:
            client = await find_client(conn, services.config.oauth2, form.get("client_id", ""))
        if client is None or client.secret_hash is None:
            return
    await _client(services, request, form)


def _basic(request: ApiRequest) -> tuple[str, str] | None:
    """Id and secret of the Authorization header (RFC 6749 2.3.1); None without one."""
    header = request.headers.get("Authorization")
    if header is None:
        return None
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        raise invalid_client("The Authorization header must be: Basic …")
    try:
        name, colon, secret = base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        raise invalid_client("The Authorization header can't be read") from None
    if not colon:
        raise invalid_client("The Authorization header can't be read")
    return unquote_plus(name), unquote_plus(secret)


def _is_appservice(request: ApiRequest) -> bool:
    header = request.headers.get("Authorization", "")
    return header.lower().startswith("bearer ") and request.http.authenticator.appservice(request) is not None


def _route(path: str, handler: _Handler, limit: str | None = "oauth2") -> Route:
    return Route("POST", path, partial(_answer, handler), Auth.NONE, limit)


ROUTES = [
    _route("/oauth2/register", post_register, None),
    _route("/oauth2/token", post_token),
    _route("/oauth2/revoke", post_revoke),
    _route("/oauth2/introspect", post_introspect, None),
    _route("/oauth2/device_authorization", post_device_authorization),
    Route("GET", "/oauth2/keys.json", get_keys, Auth.NONE),
]
