"""The e-mail addresses of one's account. One is added when the link of a mail to it has been followed.

Nothing is remembered in between but what the mail itself needs: the page that waits for it carries the rest.
"""

from __future__ import annotations

from homeserver.accounts import threepids
from homeserver.accounts.email_validation import checked_client_secret, use_validation
from homeserver.accounts.notices import notify_address_added, notify_address_removed
from homeserver.accounts.web_sessions import is_fresh
from homeserver.http import Response
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.threepids import EMAIL
from homeserver.translations import mark
from homeserver.web.messages import sentence
from homeserver.web.pages import page, redirect
from homeserver.web.proving_mail import SentMail, send_mail, sent_mail
from homeserver.web.routing import page_routes
from homeserver.web.sign_in import to_confirm
from homeserver.web.visits import Visit

_NOTICES = {"added": mark("The e-mail address has been added."), "removed": mark("The e-mail address was removed.")}


async def get_emails(visit: Visit) -> Response:
    """The addresses, and a form for another one."""
    if not is_fresh(visit.user):
        return to_confirm(visit)
    return await _page(visit)


async def post_emails(visit: Visit) -> Response:
    """Adds or removes an address, or sends the mail for one."""
    if not is_fresh(visit.user):
        return to_confirm(visit)
    match visit.text("do"):
        case "remove":
            return await _remove(visit)
        case "finish":
            return await _finish(visit)
        case _:
            return await _send(visit)


async def _send(visit: Visit) -> Response:
    try:
        sent = await send_mail(visit, "add")
    except MatrixError as error:
        return await _page(visit, error.status, sentence(visit, error, mark("This is not an e-mail address.")))
    return _waiting(visit, sent)


async def _finish(visit: Visit) -> Response:
    services, user, sent = visit.services, visit.user, sent_mail(visit)
    if sent is None:
        return await _page(visit, 400)
    try:
        sid, secret = checked_client_secret(sent.sid), checked_client_secret(sent.secret)
        async with services.pool.acquire() as conn, conn.transaction():
            proved = await use_validation(conn, sid, secret, "add")
            if await threepids.add(conn, user.user_nid, proved):
                await notify_address_added(
                    conn, services.config, user.user_nid, proved.address, language=visit.language
                )
    except MatrixError as error:
        if error.errcode == "M_THREEPID_AUTH_FAILED":
            problem = visit.translate(mark("The address is not confirmed yet. Follow the link in the mail first."))
            return _waiting(visit, sent, problem)
        return await _page(visit, error.status, sentence(visit, error, mark("This address can't be added.")))
    services.mail.wake()
    return redirect(visit, "/account/emails?done=added")


async def _remove(visit: Visit) -> Response:
    services, user = visit.services, visit.user
    address = visit.text("email", 255)
    async with services.pool.acquire() as conn, conn.transaction():
        if await threepids.delete(conn, user.user_nid, EMAIL, address):
            await notify_address_removed(conn, services.config, user.user_nid, address, language=visit.language)
    services.mail.wake()
    return redirect(visit, "/account/emails?done=removed")


def _waiting(visit: Visit, sent: SentMail, problem: str = "") -> Response:
    return page(
        visit,
        "email_sent.html",
        status=400 if problem else 200,
        tab="security",
        notice="",
        problem=problem,
        sent=sent,
    )


async def _page(visit: Visit, status: int = 200, problem: str = "") -> Response:
    async with visit.services.pool.acquire() as conn:
        emails = await threepids.emails_of(conn, visit.user.user_nid)
    notice = _NOTICES.get(visit.request.query.string("done", default=""), "")
    return page(
        visit,
        "emails.html",
        status=status,
        tab="security",
        notice=visit.translate(notice) if notice else "",
        problem=problem,
        emails=emails,
        can_send=visit.services.config.email.host is not None,
    )


ROUTES = page_routes("/account/emails", get=get_emails, post=post_emails, signed_in=True)
