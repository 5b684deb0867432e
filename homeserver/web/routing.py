"""A page's handlers -> routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias
from urllib.parse import urlencode

from homeserver.accounts import two_factor
from homeserver.http import ApiRequest, Auth, Response, Route
from homeserver.services import Services
from homeserver.storage.accounts import find_account
from homeserver.storage.web_sessions import WebSession
from homeserver.web.pages import error_page, redirect
from homeserver.web.visits import Visit, open_visit, own_target

PageHandler: TypeAlias = Callable[[Visit], Awaitable[Response]]


def page_routes(
    path: str,
    *,
    get: PageHandler | None = None,
    post: PageHandler | None = None,
    signed_in: bool = False,
    needs_second_factor: bool = True,
) -> list[Route]:
    """The routes of one page.

    :param signed_in: whether it is only for who is signed in; others are sent to sign in first and then back here
    :param needs_second_factor: whether who is signed in, must have a second factor and has none is sent to set it up
    """
    handlers = {"GET": get, "POST": post}
    return [
        Route(method, path, _opening(handler, signed_in, needs_second_factor), Auth.NONE, error_page=error_page)
        for method, handler in handlers.items()
        if handler is not None
    ]


def _opening(
    handler: PageHandler, signed_in: bool, needs_second_factor: bool
) -> Callable[[Services, ApiRequest], Awaitable[Response]]:
    async def handle(services: Services, request: ApiRequest) -> Response:
        visit = await open_visit(services, request)
        if signed_in and visit.session is None:
            return to_sign_in(visit)
        if needs_second_factor and visit.session is not None and await _lacks_second_factor(visit, visit.session):
            return to_sign_in(visit, "/account/two-factor")
        return await handler(visit)

    return handle


async def _lacks_second_factor(visit: Visit, session: WebSession) -> bool:
    config = visit.services.config
    if config.two_factor.required == "none":
        return False
    async with visit.services.pool.acquire() as conn:
        account = await find_account(conn, session.user_id)
        found = await two_factor.status(conn, session.user_nid)
    return account is not None and two_factor.required_for(config, account) and not found.enabled


def to_sign_in(visit: Visit, path: str = "/account/sign-in") -> Response:
    """Sends whoever is not signed in to where they can be, and afterwards back to this page."""
    request = visit.request
    target = own_target(request)
    target = target if request.method != "POST" else target.partition("?")[0]
    return redirect(visit, f"{path}?{urlencode({'continue': target})}")
