"""Getting back in without the password, by a link in a mail.

What the page says after somebody has asked for the link is the same whether there is such an account or not. The link
leads to a form, and only the form changes anything.
"""

from __future__ import annotations

from homeserver.accounts.password import hash_new_password
from homeserver.accounts.recovery import RECOVERY_PATH, find_recovery, request_recovery, use_recovery
from homeserver.devices.device_lists import mark_changed
from homeserver.http import Response
from homeserver.protocol.errors import MatrixError, NotFound
from homeserver.protocol.identifiers import localpart_of
from homeserver.protocol.threepids import canonical_email
from homeserver.rate_limits import address_key
from homeserver.storage.web_sessions import delete_all_sessions
from homeserver.translations import mark
from homeserver.web.messages import sentence
from homeserver.web.pages import page, redirect
from homeserver.web.routing import page_routes
from homeserver.web.visits import Visit

_SENT = mark(
    "If there is an account with this e-mail address, a mail with a link is on its way. It is good once, for one hour."
)
_BAD_LINK = mark("This link is wrong, has been used, or is too old. Ask for a new one.")


async def get_recovery(visit: Visit) -> Response:
    """Asks for the e-mail address."""
    _check_offered(visit)
    return page(visit, "recovery.html", problem="", email="")


async def post_recovery(visit: Visit) -> Response:
    """Sends the link, if there is anybody to send it to."""
    services = visit.services
    _check_offered(visit)
    given = visit.text("email", 255).strip()
    try:
        email = canonical_email(given)
        await services.login_attempts.use("recovery", address_key(visit.request.client_address))
        await services.login_attempts.use("recovery", email)
    except MatrixError as error:
        problem = sentence(visit, error, mark("This is not an e-mail address."))
        return page(visit, "recovery.html", status=error.status, problem=problem, email=given)
    async with services.pool.acquire() as conn, conn.transaction():
        await request_recovery(conn, email, language=visit.language)
    services.mail.wake()
    return page(
        visit,
        "message.html",
        title=visit.translate(mark("Look into your mailbox")),
        text=visit.translate(_SENT),
        link="/account/sign-in",
        link_text=visit.translate(mark("Sign in")),
    )


async def get_new_password(visit: Visit) -> Response:
    """Where the link leads: asks for a new password."""
    return await _new_password_page(visit, visit.request.query.string("token", default=""))


async def post_new_password(visit: Visit) -> Response:
    """Sets the new password. All browsers are signed out, and the apps too if that was wanted."""
    services, token, new = visit.services, visit.text("token"), visit.text("new_password")
    if new != visit.text("repeated"):
        return await _new_password_page(visit, token, 400, mark("The two new passwords are not the same."))
    async with services.pool.acquire() as conn:
        user_id = await find_recovery(conn, token)
    if user_id is None:
        return await _new_password_page(visit, token)
    try:
        password_hash = await hash_new_password(new, services.config.passwords, localpart_of(user_id))
    except MatrixError as error:
        text = sentence(visit, error, mark("This password can't be used. It may be too long."))
        return await _new_password_page(visit, token, error.status, text)
    try:
        async with services.stream.write() as write:
            user_nid, gone = await use_recovery(
                write.conn,
                services.config,
                token,
                password_hash,
                logout_devices="logout" in visit.form,
                language=visit.language,
            )
            if gone:
                await mark_changed(write, user_nid, gone)
            await delete_all_sessions(write.conn, user_nid)
    except MatrixError:
        return await _new_password_page(visit, token, 400, _BAD_LINK)
    visit.request.sessions_changed(user_nid)
    services.mail.wake()
    return redirect(visit, "/account/sign-in?done=recovered")


async def _new_password_page(visit: Visit, token: str, status: int = 200, problem: str = "") -> Response:
    async with visit.services.pool.acquire() as conn:
        user_id = await find_recovery(conn, token)
    if user_id is None:
        return page(
            visit,
            "message.html",
            status=400,
            title=visit.translate(mark("That did not work")),
            text=visit.translate(_BAD_LINK),
            link="/account/recovery",
            link_text=visit.translate(mark("Ask for a new link")),
        )
    return page(
        visit,
        "new_password.html",
        status=status,
        problem=visit.translate(problem) if problem else "",
        token=token,
        user_id=user_id,
    )


def _check_offered(visit: Visit) -> None:
    if visit.services.config.email.host is None:
        raise NotFound("This server sends no mails")


ROUTES = [
    *page_routes("/account/recovery", get=get_recovery, post=post_recovery),
    *page_routes(RECOVERY_PATH, get=get_new_password, post=post_new_password),
]
