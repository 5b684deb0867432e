"""Where the links lead that prove an e-mail address.

The link only asks, and the button confirms: programs that look at mails for their readers open every link, and must
not confirm for somebody what they have not asked for.
"""

from __future__ import annotations

from homeserver.accounts.email_validation import CONFIRM_PATH, Submitted, peek, submit_token
from homeserver.http import Response
from homeserver.protocol.errors import BadRequest
from homeserver.web.pages import page
from homeserver.web.routing import page_routes
from homeserver.web.visits import Visit


async def get_confirm_address(visit: Visit) -> Response:
    """Asks whether it is the reader of the mail who wants this."""
    query = visit.request.query
    sid, token = query.string("sid", default="", max_length=255), query.string("token", default="", max_length=255)
    found = await peek(visit.services.pool, sid, token)
    return _page(visit, found, sid=sid, token=token, done=False)


async def post_confirm_address(visit: Visit) -> Response:
    """Confirms."""
    try:
        found = await submit_token(visit.services.pool, visit.text("sid", 255), visit.text("token", 255))
    except BadRequest:
        return _page(visit, None, sid="", token="", done=False)
    return _page(visit, found, sid="", token="", done=True)


def _page(visit: Visit, found: Submitted | None, *, sid: str, token: str, done: bool) -> Response:
    return page(
        visit,
        "confirm_address.html",
        status=200 if found is not None else 400,
        found=found,
        sid=sid,
        token=token,
        done=done,
    )


ROUTES = page_routes(CONFIRM_PATH, get=get_confirm_address, post=post_confirm_address)
