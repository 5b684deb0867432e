"""Two things that can't be undone: replacing one's cross-signing keys, and the end of one's account.

Clients link to both, and so can anyone else; each says what is about to happen, wants a proof that is not old, and a
box ticked.

# spec: client-server-api/#account-management-url-actions
"""

from __future__ import annotations

from homeserver.accounts.deactivate import deactivate
from homeserver.accounts.oauth2.key_reset import allow_reset
from homeserver.accounts.web_sessions import is_fresh, new_token
from homeserver.http import Response
from homeserver.protocol.errors import MatrixError
from homeserver.storage.audit_log import Actor
from homeserver.translations import mark
from homeserver.web.messages import sentence
from homeserver.web.pages import page, redirect
from homeserver.web.routing import page_routes
from homeserver.web.sign_in import to_confirm
from homeserver.web.visits import Visit, set_token

_WAIT_SECONDS = 5.0  # for the rooms to be left; what takes longer goes on without the visitor
_NOT_TICKED = mark("Tick the box to go on.")


async def get_reset_keys(visit: Visit) -> Response:
    """Says what new keys mean."""
    return _reset_page(visit) if is_fresh(visit.user) else to_confirm(visit)


async def post_reset_keys(visit: Visit) -> Response:
    """Allows one replacement of the keys, for minutes.

    # spec: client-server-api/#oauth-authentication
    """
    if not is_fresh(visit.user):
        return to_confirm(visit)
    if "sure" not in visit.form:
        return _reset_page(visit, visit.translate(_NOT_TICKED))
    async with visit.services.pool.acquire() as conn, conn.transaction():
        await allow_reset(conn, visit.user.user_nid)
    return page(
        visit,
        "message.html",
        title=visit.translate(mark("Go back to your app")),
        text=visit.translate(mark("It may set up new keys within the next ten minutes. You can close this page.")),
        link="",
        link_text="",
    )


def _reset_page(visit: Visit, problem: str = "") -> Response:
    return page(visit, "reset_keys.html", status=400 if problem else 200, tab="security", notice="", problem=problem)


async def get_deactivate(visit: Visit) -> Response:
    """Says what the end of the account means."""
    return _deactivate_page(visit) if is_fresh(visit.user) else to_confirm(visit)


async def post_deactivate(visit: Visit) -> Response:
    """Ends the account."""
    services, user = visit.services, visit.user
    if not is_fresh(user):
        return to_confirm(visit)
    if "sure" not in visit.form:
        return _deactivate_page(visit, visit.translate(_NOT_TICKED))
    actor = Actor(user.user_id, visit.request.client_address)
    try:
        async with services.pool.acquire() as conn, conn.transaction():
            ended = await deactivate(conn, actor, user.user_id, erase="erase" in visit.form, keep_one=True)
    except MatrixError as error:
        text = mark("The last administrator can't leave. Make somebody else an administrator first.")
        return _deactivate_page(visit, sentence(visit, error, text))
    visit.request.sessions_changed(user.user_nid)
    await services.jobs.wait(ended.job_id, _WAIT_SECONDS)
    response = redirect(visit, "/account/sign-in?done=deactivated")
    set_token(visit, response, new_token(), keep=False)
    return response


def _deactivate_page(visit: Visit, problem: str = "") -> Response:
    return page(visit, "deactivate.html", status=400 if problem else 200, tab="security", notice="", problem=problem)


ROUTES = [
    *page_routes("/account/reset-keys", get=get_reset_keys, post=post_reset_keys, signed_in=True),
    *page_routes("/account/deactivate", get=get_deactivate, post=post_deactivate, signed_in=True),
]
