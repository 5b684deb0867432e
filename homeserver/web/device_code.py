"""Signing in a device that has no browser: its code is typed in here, or comes along in a link or QR code.

A code in a link is never enough: whoever follows it sees which application asks, and is warned, because somebody may
have sent them the link to get into their account.

# spec: client-server-api/#device-authorisation-grant
"""

from __future__ import annotations

from homeserver.accounts.oauth2 import device_grants
from homeserver.accounts.oauth2.device_grants import DeviceGrant
from homeserver.accounts.oauth2.metadata import DEVICE_PATH
from homeserver.http import Response
from homeserver.protocol.errors import Forbidden, LimitExceeded, MatrixError, NotFound
from homeserver.rate_limits import address_key
from homeserver.translations import mark
from homeserver.web.authorize import place_of
from homeserver.web.messages import sentence, too_often
from homeserver.web.pages import page
from homeserver.web.routing import page_routes
from homeserver.web.visits import Visit

_UNKNOWN = mark("This code is not known, or no longer good. Look at your device for a new one.")


async def get_device(visit: Visit) -> Response:
    """Asks for the code, or with it shows who asks."""
    code = visit.request.query.string("user_code", default="", max_length=64)
    return await _shown(visit, code) if code else _code_page(visit)


async def post_device(visit: Visit) -> Response:
    """Takes the code, and then the answer."""
    code, answer = visit.text("user_code", 64), visit.text("answer")
    if not answer:
        return await _shown(visit, code)
    try:
        grant = await _find(visit, code)
        if grant is None:
            return _code_page(visit, code, visit.translate(_UNKNOWN))
        async with visit.services.pool.acquire() as conn, conn.transaction():
            if answer == "allow":
                await device_grants.approve(conn, grant, visit.user.user_nid)
            else:
                await device_grants.deny(conn, grant)
    except NotFound:
        return _code_page(visit, "", visit.translate(_UNKNOWN))
    except MatrixError as error:
        text = sentence(visit, error, mark("The application can't become this session. Start again on the device."))
        return _code_page(visit, "", text)
    if answer == "allow":
        title, text = mark("Your device is signed in"), mark("You can go on there, and close this page.")
    else:
        title, text = mark("The device was refused"), mark("It has no access to your account.")
    return page(
        visit,
        "message.html",
        title=visit.translate(title),
        text=visit.translate(text),
        link="/account/sessions",
        link_text=visit.translate(mark("Your sessions")),
    )


async def _find(visit: Visit, code: str) -> DeviceGrant | None:
    """The grant behind a code. Codes are short, so wrong ones are counted, by user and by address.

    :raises LimitExceeded: for too many
    """
    services = visit.services
    attempts = services.login_attempts
    place = address_key(visit.request.client_address)
    try:
        async with attempts.guess("code", f"device {visit.user.user_id}"), attempts.guess("code", f"device {place}"):
            async with services.pool.acquire() as conn:
                grant = await device_grants.find(conn, services.config.oauth2, code)
            if grant is None:
                raise Forbidden("There is no such code")
            return grant
    except Forbidden:
        return None


async def _shown(visit: Visit, code: str) -> Response:
    try:
        grant = await _find(visit, code)
    except LimitExceeded as error:
        return _code_page(visit, code, too_often(visit.language, error), error.status)
    if grant is None:
        return _code_page(visit, code, visit.translate(_UNKNOWN))
    return page(
        visit,
        "consent.html",
        client=grant.client,
        client_place=place_of(visit, grant.client),
        goes_to="",
        to_an_app=False,
        device=None,
        code=code,
    )


def _code_page(visit: Visit, code: str = "", problem: str = "", status: int = 400) -> Response:
    return page(visit, "device_code.html", status=status if problem else 200, code=code, problem=problem)


ROUTES = page_routes(DEVICE_PATH, get=get_device, post=post_device, signed_in=True)
