"""One request by a browser: its cookie, its session, its language, what it has filled in.

Whether a form is ours is proved twice. Its token is made of the browser's cookie, which no other site can read or (over
HTTPS, by the `__Host-` prefix) set; and browsers say themselves where a request comes from.
"""

from __future__ import annotations

import hashlib
import hmac
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from homeserver.accounts import web_sessions
from homeserver.http import ApiRequest
from homeserver.protocol.errors import BadRequest, Forbidden, InvalidParam
from homeserver.services import Services
from homeserver.storage.web_sessions import WebSession
from homeserver.translations import LANGUAGES, best_language, mark, translator

FORM_TOKEN = "form_token"  # noqa: S105 - the name of a field
_LANGUAGE_COOKIE = "talkpai_language"
_MAX_FORM = 64 * 1024  # bytes
_MAX_FIELDS = 200


@dataclass(frozen=True, slots=True)
class Visit:
    """What a page's handler is given.

    `token` is what the browser's cookie holds, or will hold after this answer. `session` is there for whoever is signed
    in; `half_way` instead of it for whoever owes a second factor.
    """

    services: Services
    request: ApiRequest
    language: str
    chosen_language: bool  # by this very request, so that the answer must remember it
    token: str
    new_token: bool
    session: WebSession | None = None
    half_way: WebSession | None = None
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def form_token(self) -> str:
        """What forms carry to prove that they are ours and this browser's."""
        return hmac.new(self.token.encode(), b"form token", hashlib.sha256).hexdigest()

    @property
    def user(self) -> WebSession:
        """Who is signed in. Only for pages that ask for it."""
        assert self.session is not None, "the page does not ask for a session"
        return self.session

    def text(self, name: str, max_length: int = 1000) -> str:
        """A field of the form; "" if it was not sent. Raises InvalidParam if it is too long."""
        value = self.form.get(name, "")
        if len(value) > max_length:
            raise InvalidParam(f"{name} is longer than {max_length} characters")
        return value

    def translate(self, text: str) -> str:
        """A text that is marked elsewhere, in the visitor's language."""
        return translator(self.language)(text)


async def open_visit(services: Services, request: ApiRequest) -> Visit:
    """Reads cookies and language, looks the session up, and checks a form that is posted.

    :raises Forbidden: for a form that is not ours, or another browser's
    :raises BadRequest: for a body that is no form
    """
    token = read_token(services, request)
    session = half_way = None
    if token:
        async with services.pool.acquire() as conn:
            found = await web_sessions.find_session(conn, services.config.web, token)
        if found is not None and found.authenticated_ts is not None:
            session = found
        else:
            half_way = found
    language, chosen = _language(request)
    visit = Visit(
        services=services,
        request=request,
        language=language,
        chosen_language=chosen,
        token=token or web_sessions.new_token(),
        new_token=not token,
        session=session,
        half_way=half_way,
        form=await _form(services, request) if request.method == "POST" else {},
    )
    if request.method == "POST" and not hmac.compare_digest(
        visit.form_token.encode(), visit.form.get(FORM_TOKEN, "").encode("utf-8", "surrogatepass")
    ):
        raise Forbidden(mark("This form is no longer valid. Go back, load the page again and repeat what you did."))
    return visit


def language_of(request: ApiRequest) -> str:
    """The language in which to tell a visitor that something went wrong."""
    try:
        return _language(request)[0]
    except InvalidParam:
        return best_language(request.headers.get("Accept-Language", ""))


def _language(request: ApiRequest) -> tuple[str, bool]:
    asked = request.query.string("lang")
    if asked in LANGUAGES:
        return asked, True
    remembered = _cookies(request).get(_LANGUAGE_COOKIE, "")
    if remembered in LANGUAGES:
        return remembered, False
    # OpenID Connect's way for a client to say it; separated by spaces, the best one first.
    wanted = (request.query.string("ui_locales") or "").replace(" ", ",")
    return best_language(wanted or request.headers.get("Accept-Language", "")), False


def own_target(request: ApiRequest) -> str:
    """Path and query of this page in ASCII, without the server that stands before them when a proxy sends them on."""
    target = request.raw_target
    if not target.startswith("/"):
        target = "/" + target.partition("://")[2].partition("/")[2]
    return target if target.isascii() else quote(target, safe=string.printable, errors="replace")


def switched_language(request: ApiRequest, language: str) -> str:
    """The query with which this page comes in another language."""
    pairs = parse_qsl(own_target(request).partition("?")[2].partition("#")[0], keep_blank_values=True)
    return "?" + urlencode([*((name, value) for name, value in pairs if name != "lang"), ("lang", language)])


async def _form(services: Services, request: ApiRequest) -> dict[str, str]:
    _check_same_site(services, request)
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise BadRequest("The body is no form")
    body = await request.body(_MAX_FORM)
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_FIELDS,
            strict_parsing=True,
        )
    except ValueError:
        raise BadRequest("The form is not encoded as forms are") from None
    if any("\0" in value for _, value in pairs):
        raise InvalidParam("The form has a NUL character in it")
    return dict(pairs)


def _check_same_site(services: Services, request: ApiRequest) -> None:
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site is not None:
        ours = site in ("same-origin", "none")
    elif origin is not None:
        base = services.config.public_baseurl
        expected = {request.headers.get("Host", "").lower()}
        if base is not None:
            expected.add(urlsplit(base).netloc.lower())
        ours = urlsplit(origin).netloc.lower() in expected
    else:
        ours = True  # an old browser; the token decides alone
    if not ours:
        raise Forbidden(mark("Another site has sent this form. Nothing was done."))


def is_secure(services: Services, request: ApiRequest) -> bool:
    """Whether browsers reach these pages over HTTPS."""
    base = services.config.public_baseurl
    return base.startswith("https:") if base is not None else request.raw.secure


def _session_cookie(services: Services, request: ApiRequest) -> str:
    return "__Host-talkpai_session" if is_secure(services, request) else "talkpai_session"


def read_token(services: Services, request: ApiRequest) -> str:
    """What the browser's cookie holds, "" if there is none or it can't be one of ours."""
    token = _cookies(request).get(_session_cookie(services, request), "")
    return token if web_sessions.is_token(token) else ""


def set_token(visit: Visit, response: Any, token: str, *, keep: bool) -> None:
    """Gives the browser a new token. With `keep` it outlives the closing of the browser."""
    seconds = visit.services.config.web.session_lifetime_days * 24 * 3600
    _set_cookie(visit, response, _session_cookie(visit.services, visit.request), token, seconds if keep else None)


def set_language(visit: Visit, response: Any) -> None:
    """Has the browser remember the language."""
    _set_cookie(visit, response, _LANGUAGE_COOKIE, visit.language, 365 * 24 * 3600)


def _set_cookie(visit: Visit, response: Any, name: str, value: str, seconds: int | None) -> None:
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        path="/",
        secure=is_secure(visit.services, visit.request),
        httponly=True,
        # Lax: whoever comes by a link from a client's site is signed in; forms that other sites send come without it.
        samesite="Lax",
    )


def _cookies(request: ApiRequest) -> dict[str, str]:
    cookies: SimpleCookie = SimpleCookie()
    try:
        cookies.load(request.headers.get("Cookie", ""))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in cookies.items()}
