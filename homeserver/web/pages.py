"""Templates -> responses. Every page leaves with headers that let the browser do nothing but show it.

Templates escape whatever they are given and fail on what they are not given. No page is framed, cached or told where
the visitor came from; nothing is loaded from elsewhere; forms go to this server, and the answer may lead on only to
where the page says so.
"""

from __future__ import annotations

import base64
import hashlib
import math
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from babel.dates import format_timedelta
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from homeserver.http import ApiRequest
from homeserver.protocol.errors import Forbidden, LimitExceeded, MatrixError
from homeserver.services import Services
from homeserver.translations import LANGUAGES, plural_translator, translator
from homeserver.web.messages import too_often
from homeserver.web.static import static_url
from homeserver.web.visits import (
    FORM_TOKEN,
    Visit,
    language_of,
    own_target,
    set_language,
    set_token,
    switched_language,
)

_TEMPLATES = Path(__file__).parent / "templates"


def _environment(language: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    install: Callable[..., None] = environment.install_gettext_callables  # type: ignore[attr-defined]
    install(translator(language), plural_translator(language), newstyle=True)
    environment.globals["language"] = language
    environment.globals["languages"] = LANGUAGES
    environment.filters["ago"] = lambda ts: _ago(ts, language)
    environment.filters["utc"] = lambda ts: time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(ts / 1000))
    environment.filters["iso"] = lambda ts: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ts / 1000))
    return environment


def _ago(ts: int, language: str) -> str:
    seconds = min(int(ts / 1000 - time.time()), -1)
    return format_timedelta(seconds, add_direction=True, locale=language)


_ENVIRONMENTS = {language: _environment(language) for language in LANGUAGES}


def page(
    visit: Visit,
    template: str,
    *,
    status: int = 200,
    form_targets: Iterable[str] = (),
    script: str = "",
    origins: Collection[str] = (),
    **values: Any,
) -> web.Response:
    """A page.

    :param template: its file name
    :param form_targets: addresses to which the answer to one of its forms may lead, besides this server
    :param script: the one script that it has, word for word; only for pages that must tell a client's script something
    :param origins: other sites that the page loads scripts and frames from; only for the puzzle of a captcha service
    :param values: what the template shows; everything is escaped
    """
    shown = {
        **values,
        "visit": visit,
        "form_token": visit.form_token,
        "form_token_name": FORM_TOKEN,
        "script": script,
        **_common(visit.services, visit.request),
    }
    response = _rendered(visit.language, template, status, shown, _policy(form_targets, script, origins))
    if visit.new_token:
        set_token(visit, response, visit.token, keep=False)
    if visit.chosen_language:
        set_language(visit, response)
    return response


def redirect(visit: Visit, path: str) -> web.Response:
    """Sends the browser on to a page of ours; `path` is without what stands in public_baseurl."""
    assert path.startswith("/"), path
    return _redirect(visit, base_path(visit.services) + path)


def leave(visit: Visit, address: str) -> web.Response:
    """Sends the browser on to somebody else's address, which must have been checked."""
    return _redirect(visit, address)


def _redirect(visit: Visit, location: str) -> web.Response:
    # yarl would encode the address anew, and what a client registered must come out letter by letter.
    assert location.isascii(), "not checked"
    assert location.isprintable(), "not checked"
    status = 303 if visit.request.method == "POST" else 302
    response = web.Response(status=status, headers={"Location": location, **_SAFE_HEADERS})
    if visit.new_token:
        set_token(visit, response, visit.token, keep=False)
    if visit.chosen_language:
        set_language(visit, response)
    return response


def error_page(services: Services, request: ApiRequest, error: MatrixError) -> web.Response:
    """What a browser is shown where an error ends its request."""
    language = language_of(request)
    _ = translator(language)
    message, detail = _("Something went wrong on this server. Try again in a moment."), ""
    if isinstance(error, LimitExceeded):
        message = too_often(language, error)
    elif isinstance(error, Forbidden):
        message = _(error.message)
    elif error.status == 404:
        message = _("There is nothing here.")
    elif error.status < 500:
        message, detail = _("This request can't be answered."), error.message
    shown = {"visit": None, "message": message, "detail": detail, "script": "", **_common(services, request)}
    response = _rendered(language, "error.html", error.status, shown, _policy())
    if isinstance(error, LimitExceeded):
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_ms / 1000))
    return response


def base_path(services: Services) -> str:
    """What stands before every path of ours, as browsers see them; "" unless public_baseurl has a path."""
    base = services.config.public_baseurl
    return urlsplit(base).path.rstrip("/") if base is not None else ""


def _common(services: Services, request: ApiRequest) -> dict[str, Any]:
    base = base_path(services)
    return {
        "server_name": services.server_name,
        "url": lambda path: base + path,
        "static": lambda name: base + static_url(name),
        "in_language": lambda language: switched_language(request, language),
        "path": own_target(request).partition("?")[0],
        "here": own_target(request),
    }


_SAFE_HEADERS = {
    "Cache-Control": "no-store",
    # Not no-referrer: browsers then no longer say which origin a form comes from.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def _rendered(language: str, template: str, status: int, values: dict[str, Any], policy: str) -> web.Response:
    text = _ENVIRONMENTS[language].get_template(template).render(values)
    headers = {"Content-Language": language, "Content-Security-Policy": policy, **_SAFE_HEADERS}
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=headers)


def _policy(form_targets: Iterable[str] = (), script: str = "", origins: Collection[str] = ()) -> str:
    """The Content-Security-Policy of a page."""
    directives = {
        "default-src": ["'none'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "form-action": ["'self'", *sorted({_source(target) for target in form_targets})],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        directives["script-src"] = [f"'sha256-{digest}'"]
    if origins:
        directives["style-src"].append("'unsafe-inline'")
        directives["script-src"] = [*directives.get("script-src", ()), *origins]
        directives["frame-src"] = directives["connect-src"] = list(origins)
    return "; ".join(" ".join([name, *sources]) for name, sources in directives.items())


def _source(address: str) -> str:
    """An address as a source of a Content-Security-Policy: its origin, or the scheme if that names an application."""
    parts = urlsplit(address)
    if parts.scheme in ("http", "https"):
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port is not None else "")
    return f"{parts.scheme}:"
