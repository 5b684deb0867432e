"""The authorization endpoint of OAuth 2.0 as a person sees it: signing in, who asks and for what, yes or no.

The request is checked anew from the address at every step, so that nothing of it has to be remembered. There is always
a question: an application gets nothing from a browser that happens to be signed in.

# spec: client-server-api/#authorisation-code-grant
"""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

from homeserver.accounts.oauth2.authorization import (
    AuthorizationRequest,
    check_authorization_request,
    deny,
    grant,
)
from homeserver.accounts.oauth2.clients import Client
from homeserver.accounts.oauth2.errors import AuthorizationError
from homeserver.accounts.oauth2.metadata import AUTHORIZE_PATH, issuer_of
from homeserver.accounts.web_sessions import is_fresh
from homeserver.http import Response
from homeserver.http.own_address import own_address
from homeserver.protocol.errors import NotFound
from homeserver.protocol.identifiers import localpart_of
from homeserver.storage.devices import find_device
from homeserver.translations import mark
from homeserver.web.pages import leave, page, redirect
from homeserver.web.redirect_urls import shown_site
from homeserver.web.routing import page_routes
from homeserver.web.sign_in import to_confirm
from homeserver.web.visits import Visit, own_target

# What people can understand, and do something about, has a sentence of its own.
_ERRORS = {
    "invalid_client": mark("The application that sent you here is not known to this server. Go back and try again."),
    "invalid_request": mark("The application that sent you here has made a mistake. Nothing was given to it."),
}
_MAX_HINT = 255


async def get_authorize(visit: Visit) -> Response:
    """Shows who asks; whoever is not signed in signs in first."""
    try:
        request = await _checked(visit)
    except AuthorizationError as error:
        return _failed(visit, error)
    if request.prompt == "create":
        if visit.services.config.registration.mode != "off":
            return redirect(visit, f"/account/register?{urlencode({'continue': _here(visit)})}")
    elif request.prompt == "login" and visit.session is not None and not is_fresh(visit.session):
        return to_confirm(visit)
    if visit.session is None:
        query = {"continue": _here(visit)}
        hint = _hinted_name(request, visit.services.server_name)
        return redirect(visit, f"/account/sign-in?{urlencode({**query, **({'username': hint} if hint else {})})}")
    async with visit.services.pool.acquire() as conn:
        device = await find_device(conn, visit.session.user_nid, request.device_id)
    return page(
        visit,
        "consent.html",
        form_targets=[request.redirect_uri],
        client=request.client,
        client_place=place_of(visit, request.client),
        goes_to=shown_site(request.redirect_uri),
        to_an_app=urlsplit(request.redirect_uri).scheme != "https",
        device=device,
        code="",
    )


async def post_authorize(visit: Visit) -> Response:
    """Takes the answer and sends the browser back with it."""
    try:
        request = await _checked(visit)
    except AuthorizationError as error:
        return _failed(visit, error)
    if visit.text("answer") != "allow":
        return leave(visit, deny(request))
    async with visit.services.pool.acquire() as conn, conn.transaction():
        address = await grant(conn, request, visit.user.user_nid)
    return leave(visit, address)


async def _checked(visit: Visit) -> AuthorizationRequest:
    services = visit.services
    address = own_address(services.config, visit.request)
    if not services.config.oauth2.enabled or address is None:
        raise NotFound("There is no OAuth 2.0 API here; it needs public_baseurl")
    async with services.pool.acquire() as conn:
        return await check_authorization_request(
            conn, services.config.oauth2, issuer_of(address), visit.request.raw_target.partition("?")[2]
        )


def _failed(visit: Visit, error: AuthorizationError) -> Response:
    if error.redirect is not None:
        return leave(visit, error.redirect)
    known = _ERRORS.get(error.error)
    return page(
        visit,
        "message.html",
        status=400,
        title=visit.translate(mark("That did not work")),
        text=visit.translate(known) if known is not None else error.description,
        link="",
        link_text="",
    )


def place_of(visit: Visit, client: Client) -> str:
    """What proves who the client is, for people to read."""
    return client.host or visit.translate(mark("Set up by the administrator of this server"))


def _here(visit: Visit) -> str:
    """This page, without what has been done by the time that the visitor comes back to it."""
    path, _, query = own_target(visit.request).partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    return f"{path}?{urlencode([(name, value) for name, value in pairs if name != 'prompt'])}"


def _hinted_name(request: AuthorizationRequest, server_name: str) -> str:
    """Who the client thinks the visitor is, to fill the form in with."""
    hint = (request.login_hint or "").removeprefix("mxid:")
    if len(hint) > _MAX_HINT or not hint.isprintable():
        return ""
    return localpart_of(hint) if hint.startswith("@") and hint.endswith(f":{server_name}") else hint


ROUTES = [
    *page_routes(AUTHORIZE_PATH, get=get_authorize),
    *page_routes(AUTHORIZE_PATH, post=post_authorize, signed_in=True),
]
