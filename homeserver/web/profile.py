"""One's own name, and the way into the account that clients link to.

# spec: client-server-api/#account-management-url-parameters
"""

from __future__ import annotations

from urllib.parse import urlencode

from homeserver.http import Response
from homeserver.rooms.profiles import update_member_events
from homeserver.storage.accounts import update_profile_field
from homeserver.translations import mark
from homeserver.web.pages import page, redirect
from homeserver.web.routing import page_routes
from homeserver.web.visits import Visit

_MAX_NAME = 256
_NOTICES = {"name": mark("Your name has been changed.")}

# What a client may ask for -> the page that does it. The short names are those of the proposal's first drafts.
# spec: client-server-api/#account-management-url-actions
_ACTIONS = {
    "org.matrix.profile": "/account",
    "org.matrix.devices_list": "/account/sessions",
    "org.matrix.device_view": "/account/session",
    "org.matrix.device_delete": "/account/session/end",
    "org.matrix.account_deactivate": "/account/deactivate",
    "org.matrix.cross_signing_reset": "/account/reset-keys",
    "profile": "/account",
    "sessions_list": "/account/sessions",
    "org.matrix.sessions_list": "/account/sessions",
    "session_view": "/account/session",
    "org.matrix.session_view": "/account/session",
    "session_end": "/account/session/end",
    "org.matrix.session_end": "/account/session/end",
}
_OF_A_DEVICE = ("/account/session", "/account/session/end")


async def get_account(visit: Visit) -> Response:
    """The profile; with `action` the page for that."""
    query = visit.request.query
    path = _ACTIONS.get(query.string("action", default=""), "/account")
    if path in _OF_A_DEVICE:
        device_id = query.string("device_id", max_length=255)
        return redirect(visit, f"{path}?{urlencode({'device_id': device_id})}" if device_id else "/account/sessions")
    if path != "/account":
        return redirect(visit, path)
    notice = _NOTICES.get(query.string("done", default=""), "")
    return page(
        visit,
        "profile.html",
        tab="profile",
        displayname=visit.user.displayname or "",
        problem="",
        notice=visit.translate(notice) if notice else "",
    )


async def post_account(visit: Visit) -> Response:
    """Changes the name, and tells the rooms."""
    services, user = visit.services, visit.user
    name = visit.text("displayname", 10_000).strip()
    if len(name) > _MAX_NAME or user.suspended:
        text = mark("Your account is suspended.") if user.suspended else mark("This name is too long.")
        return page(
            visit,
            "profile.html",
            status=403 if user.suspended else 400,
            tab="profile",
            displayname=name[:1000],
            problem=visit.translate(text),
            notice="",
        )
    changed = False
    if not user.shadow_banned:
        async with services.pool.acquire() as conn:
            changed = await update_profile_field(conn, user.user_nid, "displayname", name or None)
    if changed:
        await update_member_events(services.timeline, user.user_id)
    return redirect(visit, "/account?done=name")


ROUTES = page_routes("/account", get=get_account, post=post_account, signed_in=True)
