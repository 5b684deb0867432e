"""The accounts elsewhere with which one can sign in to this one: seen, added, taken away."""

from __future__ import annotations

from homeserver.accounts.single_sign_on.linking import unlink
from homeserver.accounts.web_sessions import is_fresh
from homeserver.http import Response
from homeserver.protocol.errors import BadRequest
from homeserver.storage import single_sign_on
from homeserver.storage.accounts import find_password_hash
from homeserver.translations import mark
from homeserver.web.pages import page, redirect
from homeserver.web.routing import page_routes
from homeserver.web.sign_in import to_confirm
from homeserver.web.visits import Visit

PATH = "/account/sign-in-services"
_NOTICES = {"removed": mark("Removed. You can no longer sign in with it.")}


async def get_services(visit: Visit) -> Response:
    """All of them."""
    notice = _NOTICES.get(visit.request.query.string("done", default=""), "")
    return await _services_page(visit, notice=visit.translate(notice) if notice else "")


async def post_services(visit: Visit) -> Response:
    """Takes one away."""
    if not is_fresh(visit.user):
        return to_confirm(visit)
    user_nid = visit.user.user_nid
    try:
        async with visit.services.pool.acquire() as conn, conn.transaction():
            # Of two that are taken away at once the second must see that it is the last.
            await conn.execute("SELECT FROM accounts WHERE user_nid = $1 FOR UPDATE", user_nid)
            has_password = await find_password_hash(conn, user_nid) is not None
            await unlink(conn, user_nid, visit.text("provider"), visit.text("subject"), has_password=has_password)
    except BadRequest as error:
        return await _services_page(visit, error.status, problem=visit.translate(error.message))
    return redirect(visit, f"{PATH}?done=removed")


async def _services_page(visit: Visit, status: int = 200, *, notice: str = "", problem: str = "") -> Response:
    async with visit.services.pool.acquire() as conn:
        links = await single_sign_on.external_ids_of(conn, visit.user.user_nid)
    providers = [provider.config for provider in visit.services.single_sign_on.values()]
    return page(
        visit,
        "sign_in_services.html",
        status=status,
        tab="security",
        notice=notice,
        problem=problem,
        links=links,
        names={provider.id: provider.name for provider in providers},
        providers=providers,
    )


ROUTES = page_routes(PATH, get=get_services, post=post_services, signed_in=True)
