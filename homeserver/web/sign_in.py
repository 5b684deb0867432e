"""Signing in with name and password, proving once more that it is oneself, and signing out.

A sign-in gives the browser a new token, whatever it held before. Where to go afterwards comes along as `continue`,
which leads to pages of ours only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from homeserver.accounts.identifiers import named_user
from homeserver.accounts.moderation import check_may_sign_in
from homeserver.accounts.password import check_credentials
from homeserver.accounts.web_sessions import end_session, new_token, start_session
from homeserver.http import Response
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.storage.accounts import Account
from homeserver.storage.stream import Connection
from homeserver.translations import mark
from homeserver.web.destinations import HOME, checked_destination, onward_targets
from homeserver.web.messages import sentence
from homeserver.web.pages import page, redirect
from homeserver.web.routing import page_routes, to_sign_in
from homeserver.web.visits import Visit, set_token

_WRONG = mark("That is not the right user name or password.")
_NOTICES = {
    "recovered": mark("Your password has been changed. Sign in with the new one."),
    "everywhere": mark("You are signed out everywhere."),
    "deactivated": mark("Your account has been deactivated."),
}


async def get_sign_in(visit: Visit) -> Response:
    """Asks for name and password; whoever is signed in goes on at once."""
    query = visit.request.query
    if visit.session is not None:
        return redirect(visit, checked_destination(query.string("continue", default=HOME)))
    notice = _NOTICES.get(query.string("done", default=""), "")
    return _sign_in_page(
        visit,
        query.string("continue", default=HOME),
        username=query.string("username", default="", max_length=255),
        notice=visit.translate(notice) if notice else "",
    )


async def post_sign_in(visit: Visit) -> Response:
    """Signs in."""
    name, password, continue_to = visit.text("username"), visit.text("password"), visit.text("continue", 20_000)
    try:
        account = await check_password(visit, name, password)
    except MatrixError as error:
        return _sign_in_page(visit, continue_to, username=name, error=error)
    return await signed_in(visit, account, continue_to, keep="keep" in visit.form)


async def check_password(visit: Visit, name: str, password: str) -> Account:
    """The account of this name whose password this is.

    :param name: a user name, with or without @ and server, or an e-mail address of the account
    :raises Forbidden, LimitExceeded, BadRequest, Unauthorized: if there is none such, or it may not sign in
    """
    services, request = visit.services, visit.request
    async with services.pool.acquire() as conn:
        user_id = await named_user(conn, _named(name.strip(), services.server_name), services.server_name)
    async with services.login_attempts.attempt(request.client_address, user_id):
        account = await check_credentials(services.pool, services.config.passwords, user_id, password)
    async with services.pool.acquire() as conn:
        await check_may_sign_in(conn, account.user_nid)
    return account


def _named(name: str, server_name: str) -> JsonObject:
    """What a client would send to name whom the visitor has named: by user name, user id or e-mail address.

    People leave out the @ of `@alice:example.org`.
    """
    if "@" in name[1:]:
        return {"identifier": {"type": "m.id.thirdparty", "medium": "email", "address": name}}
    user = name if name.startswith("@") else name.removesuffix(f":{server_name}")
    return {"identifier": {"type": "m.id.user", "user": user}}


async def signed_in(
    visit: Visit,
    account: Account,
    continue_to: str,
    *,
    keep: bool,
    also: Callable[[Connection, str], Awaitable[None]] | None = None,
) -> Response:
    """Opens a session for the browser and sends it on.

    :param also: what else is written in the transaction in which the session begins, given its token
    """
    async with visit.services.pool.acquire() as conn, conn.transaction():
        token = await start_session(conn, account.user_nid, instead_of=visit.token)
        if also is not None:
            await also(conn, token)
    response = redirect(visit, checked_destination(continue_to))
    set_token(visit, response, token, keep=keep)
    return response


def _sign_in_page(
    visit: Visit, continue_to: str, *, username: str = "", notice: str = "", error: MatrixError | None = None
) -> Response:
    continue_to = checked_destination(continue_to)
    return page(
        visit,
        "sign_in.html",
        status=error.status if error is not None else 200,
        form_targets=onward_targets(continue_to, visit.services.config.web.trusted_clients),
        continue_to=continue_to,
        username=username,
        keep="keep" in visit.form,
        notice=notice,
        problem=sentence(visit, error, _WRONG) if error is not None else "",
        providers=[
            {"path": f"/account/sso/{one.id}?{urlencode({'continue': continue_to})}", "name": one.name}
            for one in visit.services.config.single_sign_on.providers
        ],
        recovery=visit.services.config.email.host is not None,
        registration=visit.services.config.registration.mode != "off",
    )


async def get_confirm(visit: Visit) -> Response:
    """Asks for the password once more, before something grave."""
    return page(
        visit,
        "confirm.html",
        continue_to=checked_destination(visit.request.query.string("continue", default=HOME)),
        problem="",
    )


async def post_confirm(visit: Visit) -> Response:
    """Takes the password as proof. The browser gets a new token."""
    continue_to = visit.text("continue", 20_000)
    try:
        account = await check_password(visit, visit.user.user_id, visit.text("password"))
    except MatrixError as error:
        return page(
            visit,
            "confirm.html",
            status=error.status,
            continue_to=checked_destination(continue_to),
            problem=sentence(visit, error, mark("That is not the right password.")),
        )
    return await signed_in(visit, account, continue_to, keep=True)


def to_confirm(visit: Visit) -> Response:
    """Sends the visitor to prove once more who they are, and then back to this page."""
    return to_sign_in(visit, "/account/confirm")


async def post_sign_out(visit: Visit) -> Response:
    """Signs this browser out, and no other."""
    async with visit.services.pool.acquire() as conn:
        await end_session(conn, visit.token)
    continue_to = checked_destination(visit.text("continue", 20_000))
    response = redirect(visit, f"/account/sign-in?{urlencode({'continue': continue_to})}")
    set_token(visit, response, new_token(), keep=False)
    return response


ROUTES = [
    *page_routes("/account/sign-in", get=get_sign_in, post=post_sign_in),
    *page_routes("/account/confirm", get=get_confirm, post=post_confirm, signed_in=True),
    *page_routes("/account/sign-out", post=post_sign_out),
]
