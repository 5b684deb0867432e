"""Signing a client in through the browser (m.login.sso), with this server's own pages as the place to do it.

It is the way for clients that know no OAuth 2.0 and can't ask for a second factor themselves. Whoever is signed in at
these pages, or has just done so, is asked whether the site that sent them may have their account; sites that the
operator trusts get it without a question. What the site gets is a token that logs in once, within seconds.

# spec: client-server-api/#sso-client-loginauthentication
"""

from __future__ import annotations

from urllib.parse import urlsplit

from homeserver.accounts.identity_providers import OWN_PAGE
from homeserver.accounts.login_tokens import create_login_token
from homeserver.accounts.moderation import check_may_sign_in
from homeserver.http import Response
from homeserver.protocol.errors import NotFound
from homeserver.translations import mark
from homeserver.web.pages import leave, page
from homeserver.web.redirect_urls import checked_redirect_url, is_trusted, shown_site, with_login_token
from homeserver.web.routing import page_routes, to_sign_in
from homeserver.web.visits import Visit

# spec: client-server-api/#handling-the-callback-from-the-authentication-server
_TOKEN_LIFETIME_MS = 30_000


async def get_redirect(visit: Visit) -> Response:
    """# spec: client-server-api/#get_matrixclientv3loginssoredirect"""
    address = _redirect_url(visit)
    if visit.session is None:
        registering = visit.request.query.string("action") == "register"
        offered = visit.services.config.registration.mode != "off"
        return to_sign_in(visit, "/account/register" if registering and offered else "/account/sign-in")
    if is_trusted(address, visit.services.config.web.trusted_clients):
        return await _send_back(visit, address)
    return page(
        visit,
        "sso_confirm.html",
        form_targets=[address],
        site=shown_site(address),
        is_app=urlsplit(address).scheme not in ("http", "https"),
    )


async def post_redirect(visit: Visit) -> Response:
    """The visitor has agreed."""
    return await _send_back(visit, _redirect_url(visit))


async def get_redirect_to_provider(visit: Visit) -> Response:
    """# spec: client-server-api/#get_matrixclientv3loginssoredirectidpid"""
    provider = _check_provider(visit)
    if visit.session is None and provider != OWN_PAGE:
        _redirect_url(visit)
        return to_sign_in(visit, f"/account/sso/{provider}")
    return await get_redirect(visit)


async def post_redirect_to_provider(visit: Visit) -> Response:
    """The visitor has agreed."""
    _check_provider(visit)
    return await post_redirect(visit)


def _check_provider(visit: Visit) -> str:
    provider = visit.request.params["idpId"]
    if provider not in (OWN_PAGE, *visit.services.single_sign_on):
        raise NotFound(mark("This server does not know that way to sign in."))
    return provider


def _redirect_url(visit: Visit) -> str:
    return checked_redirect_url(visit.request.query.string("redirectUrl", required=True))


async def _send_back(visit: Visit, address: str) -> Response:
    async with visit.services.pool.acquire() as conn, conn.transaction():
        await check_may_sign_in(conn, visit.user.user_nid)
        token = await create_login_token(conn, visit.user.user_nid, _TOKEN_LIFETIME_MS)
    return leave(visit, with_login_token(address, token))


ROUTES = [
    route
    for version in ("v3", "r0", "unstable")
    for route in [
        *page_routes(f"/_matrix/client/{version}/login/sso/redirect", get=get_redirect),
        *page_routes(f"/_matrix/client/{version}/login/sso/redirect", post=post_redirect, signed_in=True),
        *page_routes(f"/_matrix/client/{version}/login/sso/redirect/{{idpId}}", get=get_redirect_to_provider),
        *page_routes(
            f"/_matrix/client/{version}/login/sso/redirect/{{idpId}}", post=post_redirect_to_provider, signed_in=True
        ),
    ]
]
