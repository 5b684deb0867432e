"""Signing in with name and password, proving once more that it is oneself, and signing out.

A sign-in gives the browser a new token, whatever it held before. Where to go afterwards comes along as `continue`,
which leads to pages of ours only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from homeserver.accounts import two_factor
from homeserver.accounts.identifiers import named_user
from homeserver.accounts.moderation import check_may_sign_in
from homeserver.accounts.password import claim_by_password
from homeserver.accounts.web_sessions import end_session, new_token, renew_session, start_session
from homeserver.http import Response
from homeserver.protocol.errors import Forbidden, MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.storage.accounts import Account, find_password_hash
from homeserver.storage.stream import Connection
from homeserver.translations import mark
from homeserver.web.destinations import HOME, checked_destination, onward_targets
from homeserver.web.messages import sentence
from homeserver.web.pages import page, redirect
from homeserver.web.routing import page_routes, to_sign_in
from homeserver.web.visits import Visit, set_token

WRONG_CODE = mark("This code is not right, or has been used.")
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
        account, claim = await _claim(visit, name, password)

        async def still_right(conn: Connection, token: str) -> None:
            await claim(conn)

        return await signed_in(visit, account, continue_to, keep="keep" in visit.form, also=still_right)
    except MatrixError as error:
        return _sign_in_page(visit, continue_to, username=name, error=error)


async def check_password(visit: Visit, name: str, password: str) -> Account:
    """The account of this name whose password this is.

    :param name: a user name, with or without @ and server, or an e-mail address of the account
    :raises Forbidden, LimitExceeded, BadRequest, Unauthorized: if there is none such, or it may not sign in
    """
    return (await _claim(visit, name, password))[0]


async def _claim(visit: Visit, name: str, password: str) -> tuple[Account, Callable[[Connection], Awaitable[Account]]]:
    """The same, with what must be awaited in the transaction of a session that is opened on the strength of it: the
    password may be changed meanwhile."""
    services, request = visit.services, visit.request
    async with services.pool.acquire() as conn:
        user_id = await named_user(conn, _named(name.strip(), services.server_name), services.server_name)
    async with services.login_attempts.attempt(request.client_address, user_id):
        claim = await claim_by_password(services.pool, services.config.passwords, user_id, password)
    async with services.pool.acquire() as conn:
        account = await claim(conn)
        await check_may_sign_in(conn, account.user_nid)
    return account, claim


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
    ask_second_factor: bool = True,
    also: Callable[[Connection, str], Awaitable[None]] | None = None,
) -> Response:
    """Opens a session for the browser and sends it on; first to the second factor, if the account has one.

    :param ask_second_factor: False if somebody else has already seen to it
    :param also: what else is written in the transaction in which the session begins, given its token
    """
    async with visit.services.pool.acquire() as conn, conn.transaction():
        due = ask_second_factor and (await two_factor.status(conn, account.user_nid)).enabled
        token = await start_session(conn, account.user_nid, instead_of=visit.token, second_factor_due=due, keep=keep)
        if also is not None:
            await also(conn, token)
    destination = checked_destination(continue_to)
    if due:
        destination = f"/account/second-factor?{urlencode({'continue': destination})}"
    response = redirect(visit, destination)
    set_token(visit, response, token, keep=keep and not due)
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
        providers=_providers(visit, continue_to),
        recovery=visit.services.config.email.host is not None,
        registration=visit.services.config.registration.mode != "off",
    )


def _providers(visit: Visit, continue_to: str) -> list[dict[str, str]]:
    """Where else the visitor may prove who they are."""
    return [
        {"path": f"/account/sso/{one.id}?{urlencode({'continue': continue_to})}", "name": one.name}
        for one in visit.services.config.single_sign_on.providers
    ]


async def get_confirm(visit: Visit) -> Response:
    """Asks for the password once more, before something grave."""
    return await _confirm_page(visit, visit.request.query.string("continue", default=HOME))


async def post_confirm(visit: Visit) -> Response:
    """Takes the password as proof. The browser gets a new token."""
    continue_to = visit.text("continue", 20_000)
    try:
        account = await check_password(visit, visit.user.user_id, visit.text("password"))
    except MatrixError as error:
        return await _confirm_page(visit, continue_to, error, mark("That is not the right password."))
    try:
        token = await prove_second_factor(visit, account.user_nid)
    except MatrixError as error:
        return await _confirm_page(visit, continue_to, error, WRONG_CODE)
    response = redirect(visit, checked_destination(continue_to))
    set_token(visit, response, token, keep=visit.user.keep)
    return response


async def prove_second_factor(visit: Visit, user_nid: int) -> str:
    """Takes the code that has been sent, if the account needs one, and renews the session. Returns its new token.

    :raises Forbidden: for a wrong code, which is counted, or a session that has ended
    :raises LimitExceeded: after too many wrong codes
    """
    services, token = visit.services, None
    async with services.pool.acquire() as conn, conn.transaction():
        right = not (await two_factor.status(conn, user_nid)).enabled or await two_factor.check_code(
            conn, services.secrets, services.config, user_nid, visit.text("code"), language=visit.language
        )
        if right:
            token = await renew_session(conn, visit.token)
    if token is None:
        raise Forbidden("This code is wrong, or has been used")
    services.mail.wake()
    return token


async def _confirm_page(
    visit: Visit, continue_to: str, error: MatrixError | None = None, otherwise: str = ""
) -> Response:
    continue_to = checked_destination(continue_to)
    async with visit.services.pool.acquire() as conn:
        has_password = await find_password_hash(conn, visit.user.user_nid) is not None
        has_second_factor = (await two_factor.status(conn, visit.user.user_nid)).enabled
    return page(
        visit,
        "confirm.html",
        status=error.status if error is not None else 200,
        form_targets=onward_targets(continue_to, visit.services.config.web.trusted_clients),
        continue_to=continue_to,
        has_password=has_password,
        has_second_factor=has_second_factor,
        providers=[] if has_password else _providers(visit, continue_to),
        problem=sentence(visit, error, otherwise) if error is not None else "",
    )


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
    *page_routes("/account/confirm", get=get_confirm, post=post_confirm, signed_in=True, needs_second_factor=False),
    *page_routes("/account/sign-out", post=post_sign_out, needs_second_factor=False),
]
