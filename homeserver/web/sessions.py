"""Where one is signed in, and signing out of it.

A link of a client may lead to the end of a session (anyone can write such a link), so what it leads to is a page that
says what is about to happen; ending takes a form of ours and a proof that is not old.
"""

from __future__ import annotations

from urllib.parse import urlencode

from homeserver.accounts.sessions import end_sessions
from homeserver.accounts.web_sessions import is_fresh, new_token, start_session
from homeserver.http import Response
from homeserver.protocol.errors import NotFound
from homeserver.storage.devices import Device, find_device, list_devices
from homeserver.storage.web_sessions import delete_all_sessions
from homeserver.translations import mark
from homeserver.web.pages import page, redirect
from homeserver.web.routing import page_routes
from homeserver.web.sign_in import to_confirm
from homeserver.web.visits import Visit, set_token

_NOTICES = {
    "ended": mark("The session has been signed out."),
    "others": mark("All other sessions have been signed out."),
}


async def get_sessions(visit: Visit) -> Response:
    """All sessions, the one that was active last first."""
    async with visit.services.pool.acquire() as conn:
        devices = await list_devices(conn, visit.user.user_nid)
    devices.sort(key=lambda device: device.last_seen_ts or 0, reverse=True)
    notice = _NOTICES.get(visit.request.query.string("done", default=""), "")
    return page(
        visit,
        "sessions.html",
        tab="sessions",
        devices=devices,
        notice=visit.translate(notice) if notice else "",
    )


async def get_session(visit: Visit) -> Response:
    """One session."""
    return await _session_page(visit, ending=False)


async def get_session_end(visit: Visit) -> Response:
    """Asks whether to end one session."""
    if not is_fresh(visit.user):
        return to_confirm(visit)
    return await _session_page(visit, ending=True)


async def _session_page(visit: Visit, *, ending: bool) -> Response:
    device = await _device(visit, visit.request.query.string("device_id", default="", max_length=255))
    return page(visit, "session.html", tab="sessions", notice="", device=device, ending=ending)


async def post_session_end(visit: Visit) -> Response:
    """Ends one session."""
    device_id = visit.text("device_id", 255)
    if not is_fresh(visit.user):
        there = f"/account/session/end?{urlencode({'device_id': device_id})}"
        return redirect(visit, f"/account/confirm?{urlencode({'continue': there})}")
    await _device(visit, device_id)
    async with visit.services.stream.write() as write:
        await end_sessions(write, visit.user.user_nid, [device_id])
    visit.request.sessions_changed(visit.user.user_nid)
    return redirect(visit, "/account/sessions?done=ended")


async def get_sessions_end(visit: Visit) -> Response:
    """Asks whether to end all sessions."""
    if not is_fresh(visit.user):
        return to_confirm(visit)
    return page(visit, "sessions_end.html", tab="sessions", notice="")


async def post_sessions_end(visit: Visit) -> Response:
    """Ends all sessions, browsers' too, but for this one if that is wanted."""
    if not is_fresh(visit.user):
        return redirect(visit, f"/account/confirm?{urlencode({'continue': '/account/sessions/end'})}")
    user_nid, stay, token = visit.user.user_nid, "stay" in visit.form, new_token()
    async with visit.services.stream.write() as write:
        await end_sessions(write, user_nid)
        await delete_all_sessions(write.conn, user_nid)
        if stay:
            token = await start_session(write.conn, user_nid, keep=visit.user.keep)
    visit.request.sessions_changed(user_nid)
    response = redirect(visit, "/account/sessions?done=others" if stay else "/account/sign-in?done=everywhere")
    set_token(visit, response, token, keep=stay and visit.user.keep)
    return response


async def _device(visit: Visit, device_id: str) -> Device:
    async with visit.services.pool.acquire() as conn:
        device = await find_device(conn, visit.user.user_nid, device_id)
    if device is None:
        raise NotFound("You have no such session")
    return device


ROUTES = [
    *page_routes("/account/sessions", get=get_sessions, signed_in=True),
    *page_routes("/account/sessions/end", get=get_sessions_end, post=post_sessions_end, signed_in=True),
    *page_routes("/account/session", get=get_session, signed_in=True),
    *page_routes("/account/session/end", get=get_session_end, post=post_session_end, signed_in=True),
]
