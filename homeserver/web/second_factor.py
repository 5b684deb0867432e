"""The second factor: asked for at sign-in, set up with a picture for the authenticator app, taken away again.

Backup codes are shown once, on the page that answers the form which has made them.
"""

from __future__ import annotations

from homeserver.accounts import two_factor
from homeserver.accounts.web_sessions import is_fresh
from homeserver.http import Response
from homeserver.protocol.errors import Forbidden, MatrixError
from homeserver.storage.accounts import find_account
from homeserver.translations import mark
from homeserver.web.destinations import HOME, checked_destination, onward_targets
from homeserver.web.messages import sentence
from homeserver.web.pages import page, redirect
from homeserver.web.routing import page_routes
from homeserver.web.sign_in import WRONG_CODE, prove_second_factor, to_confirm
from homeserver.web.visits import Visit, set_token

_NOTICES = {"off": mark("The second factor is turned off.")}


async def get_code(visit: Visit) -> Response:
    """Asks whoever has given the password for a code."""
    return _code_page(visit, visit.request.query.string("continue", default=HOME))


async def post_code(visit: Visit) -> Response:
    """Takes the code; from then on the visitor is signed in."""
    continue_to = visit.text("continue", 20_000)
    if visit.half_way is None:
        return redirect(visit, "/account/sign-in")
    try:
        token = await prove_second_factor(visit, visit.half_way.user_nid)
    except MatrixError as error:
        return _code_page(visit, continue_to, error)
    response = redirect(visit, checked_destination(continue_to))
    set_token(visit, response, token, keep=visit.half_way.keep)
    return response


def _code_page(visit: Visit, continue_to: str, error: MatrixError | None = None) -> Response:
    continue_to = checked_destination(continue_to)
    if visit.session is not None:
        return redirect(visit, continue_to)
    if visit.half_way is None:
        return redirect(visit, "/account/sign-in")
    return page(
        visit,
        "second_factor.html",
        status=error.status if error is not None else 200,
        form_targets=onward_targets(continue_to, visit.services.config.web.trusted_clients),
        continue_to=continue_to,
        problem=sentence(visit, error, WRONG_CODE) if error is not None else "",
    )


async def get_two_factor(visit: Visit) -> Response:
    """How it stands, and what can be done."""
    return await _page(visit) if is_fresh(visit.user) else to_confirm(visit)


async def post_two_factor(visit: Visit) -> Response:
    """Begins, confirms, makes new backup codes, turns off."""
    if not is_fresh(visit.user):
        return to_confirm(visit)
    match visit.text("do"):
        case "begin":
            return await _begin(visit)
        case "confirm":
            return await _confirm(visit)
        case "codes":
            return await _new_codes(visit)
        case "off":
            return await _turn_off(visit)
        case _:
            return await _page(visit)


async def _begin(visit: Visit) -> Response:
    services = visit.services
    async with services.pool.acquire() as conn, conn.transaction():
        account = await find_account(conn, visit.user.user_id)
        assert account is not None, "its owner is signed in"
        setup = await two_factor.begin(conn, services.secrets, services.config, account)
    return _setup_page(visit, setup)


async def _confirm(visit: Visit) -> Response:
    services = visit.services
    try:
        async with services.pool.acquire() as conn, conn.transaction():
            codes = await two_factor.confirm(
                conn,
                services.secrets,
                services.config,
                visit.user.user_nid,
                visit.text("code"),
                language=visit.language,
            )
    except MatrixError as error:
        return await _page(visit, error.status, sentence(visit, error, mark("That took too long. Begin anew.")))
    if codes is None:
        text = mark("This code is not right. Check that the clock of your device is right, and enter the newest code.")
        return _setup_page(visit, None, visit.translate(text))
    services.mail.wake()
    return _codes_page(visit, codes)


async def _new_codes(visit: Visit) -> Response:
    services = visit.services
    try:
        async with services.pool.acquire() as conn, conn.transaction():
            codes = await two_factor.new_backup_codes(conn, services.secrets, visit.user.user_nid)
    except MatrixError:
        return await _page(visit, 400)
    return _codes_page(visit, codes)


async def _turn_off(visit: Visit) -> Response:
    services = visit.services
    async with services.pool.acquire() as conn, conn.transaction():
        account = await find_account(conn, visit.user.user_id)
        if account is None or two_factor.required_for(services.config, account):
            raise Forbidden(mark("The administrator of this server wants you to have a second factor."))
        await two_factor.disable(conn, services.config, visit.user.user_nid, language=visit.language)
    services.mail.wake()
    return redirect(visit, "/account/two-factor?done=off")


async def _page(visit: Visit, status: int = 200, problem: str = "") -> Response:
    async with visit.services.pool.acquire() as conn:
        found = await two_factor.status(conn, visit.user.user_nid)
        account = await find_account(conn, visit.user.user_id)
    assert account is not None, "its owner is signed in"
    notice = _NOTICES.get(visit.request.query.string("done", default=""), "")
    return page(
        visit,
        "two_factor.html",
        status=status,
        tab="security",
        notice=visit.translate(notice) if notice and not found.enabled else "",
        problem=problem,
        found=found,
        required=two_factor.required_for(visit.services.config, account),
    )


def _setup_page(visit: Visit, setup: two_factor.Setup | None, problem: str = "") -> Response:
    return page(
        visit,
        "two_factor_setup.html",
        status=400 if problem else 200,
        tab="security",
        notice="",
        problem=problem,
        setup=setup,
    )


def _codes_page(visit: Visit, codes: list[str]) -> Response:
    return page(visit, "backup_codes.html", tab="security", notice="", codes=codes, continue_to=_continue_to(visit))


def _continue_to(visit: Visit) -> str:
    """Where to go on to, for who was sent here on the way to somewhere else."""
    return checked_destination(visit.request.query.string("continue", default="/account/security"))


ROUTES = [
    *page_routes("/account/second-factor", get=get_code, post=post_code),
    *page_routes(
        "/account/two-factor", get=get_two_factor, post=post_two_factor, signed_in=True, needs_second_factor=False
    ),
]
