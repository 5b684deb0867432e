"""The password, and what else keeps an account safe."""

from __future__ import annotations

from homeserver.accounts import two_factor
from homeserver.accounts.notices import notify_password_changed
from homeserver.accounts.password import hash_new_password, set_password
from homeserver.accounts.web_sessions import start_session
from homeserver.devices.device_lists import mark_changed
from homeserver.http import Response
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.identifiers import localpart_of
from homeserver.storage.web_sessions import delete_all_sessions
from homeserver.translations import mark
from homeserver.web.messages import sentence
from homeserver.web.pages import page, redirect
from homeserver.web.routing import page_routes
from homeserver.web.sign_in import check_password
from homeserver.web.visits import Visit, set_token

_NOTICES = {
    "password": mark("Your password has been changed."),
}


async def get_security(visit: Visit) -> Response:
    """What there is to make an account safe with."""
    notice = _NOTICES.get(visit.request.query.string("done", default=""), "")
    async with visit.services.pool.acquire() as conn:
        second_factor = (await two_factor.status(conn, visit.user.user_nid)).enabled
    return page(
        visit,
        "security.html",
        tab="security",
        notice=visit.translate(notice) if notice else "",
        second_factor=second_factor,
        services=bool(visit.services.single_sign_on),
    )


async def get_password(visit: Visit) -> Response:
    """Asks for the old password and a new one."""
    return _password_page(visit)


async def post_password(visit: Visit) -> Response:
    """Changes the password. All browsers are signed out but this one, which gets a new token."""
    services, user = visit.services, visit.user
    new = visit.text("new_password")
    if new != visit.text("repeated"):
        return _password_page(visit, 400, visit.translate(mark("The two new passwords are not the same.")))
    try:
        account = await check_password(visit, user.user_id, visit.text("password"))
    except MatrixError as error:
        text = sentence(visit, error, mark("That is not your password until now."))
        return _password_page(visit, error.status, text)
    try:
        password_hash = await hash_new_password(new, services.config.passwords, localpart_of(user.user_id))
    except MatrixError as error:
        text = sentence(visit, error, mark("This password can't be used. It may be too long."))
        return _password_page(visit, error.status, text)
    async with services.stream.write() as write:
        gone = await set_password(
            write.conn, user_id=user.user_id, password_hash=password_hash, logout_devices="logout" in visit.form
        )
        if gone:
            await mark_changed(write, account.user_nid, gone)
        await delete_all_sessions(write.conn, account.user_nid)
        await notify_password_changed(write.conn, services.config, account.user_nid, language=visit.language)
        token = await start_session(write.conn, account.user_nid, keep=user.keep)
    visit.request.sessions_changed(account.user_nid)
    services.mail.wake()
    response = redirect(visit, "/account/security?done=password")
    set_token(visit, response, token, keep=user.keep)
    return response


def _password_page(visit: Visit, status: int = 200, problem: str = "") -> Response:
    return page(visit, "password.html", status=status, tab="security", notice="", problem=problem)


ROUTES = [
    *page_routes("/account/security", get=get_security, signed_in=True),
    *page_routes("/account/password", get=get_password, post=post_password, signed_in=True),
]
