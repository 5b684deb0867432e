"""A whole login as a page, for applications that show it in a view of their own and are handed the result by a script.

# spec: client-server-api/#login-fallback
"""

from __future__ import annotations

from homeserver.accounts.sessions import open_client_session
from homeserver.http import Response
from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.events import JsonObject
from homeserver.translations import mark
from homeserver.web.pages import page
from homeserver.web.routing import page_routes
from homeserver.web.visits import Visit

_MAX_TEXT = 255


async def get_login(visit: Visit) -> Response:
    """Says who would be signed in."""
    return page(
        visit,
        "login_fallback.html",
        name=visit.request.query.string("initial_device_display_name", default="")[:_MAX_TEXT],
    )


async def post_login(visit: Visit) -> Response:
    """Logs in, and hands the result to the application."""
    services, query = visit.services, visit.request.query
    async with services.pool.acquire() as conn, conn.transaction():
        session = await open_client_session(
            conn,
            services.config.sessions,
            visit.user.user_nid,
            device_id=query.string("device_id", max_length=_MAX_TEXT) or None,
            display_name=query.string("initial_device_display_name", max_length=_MAX_TEXT),
            refreshable=query.boolean("refresh_token"),
        )
    visit.request.sessions_changed(visit.user.user_nid)
    answer: JsonObject = {
        "user_id": visit.user.user_id,
        **session.fields(),
        "home_server": services.server_name,
    }
    if services.config.public_baseurl is not None:
        answer["well_known"] = {"m.homeserver": {"base_url": services.config.public_baseurl}}
    return page(
        visit,
        "message.html",
        script=_script(answer),
        title=visit.translate(mark("You are signed in")),
        text=visit.translate(mark("You can go back to your app, and close this page.")),
        link="",
        link_text="",
    )


def _script(answer: JsonObject) -> str:
    # Inside a script element only `<` could end it, and these two separators end lines in old JavaScript.
    text = encode_json(answer).decode()
    for char in "<\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return f"if (window.matrixLogin && window.matrixLogin.onLogin) {{ window.matrixLogin.onLogin({text}); }}"


ROUTES = [
    route
    for path in ("/_matrix/static/client/login/", "/_matrix/static/client/login")
    for route in page_routes(path, get=get_login, post=post_login, signed_in=True)
]
