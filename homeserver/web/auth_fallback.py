"""The stages of user-interactive authentication as pages, for clients that have no form of their own for one.

The client opens the page with the id of its session; what is proved here is noted in that session, and the client's
next request goes on from there. Whoever opens the page sees what it is for: a thief of an access token could send the
link to its owner.

# spec: client-server-api/#fallback
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlencode

from homeserver.accounts.email_validation import EMAIL_STAGE, Purpose, email_stage
from homeserver.accounts.interactive_auth import (
    REGISTRATION_TOKEN,
    OpenSession,
    Stage,
    complete_stage,
    prove_stage,
    read_session,
)
from homeserver.accounts.owner_challenge import PASSWORD, SSO, owner_challenge
from homeserver.accounts.registration import DUMMY, RECAPTCHA, TERMS, RegistrationParts, flows, registration_challenge
from homeserver.accounts.web_sessions import is_fresh
from homeserver.http import Response
from homeserver.protocol.errors import Forbidden, InvalidParam, MatrixError, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.storage.accounts import find_account
from homeserver.translations import mark
from homeserver.web.captcha import captcha
from homeserver.web.messages import sentence
from homeserver.web.pages import page, redirect
from homeserver.web.proving_mail import SentMail, send_mail, sent_mail
from homeserver.web.routing import page_routes, to_sign_in
from homeserver.web.sign_in import to_confirm
from homeserver.web.visits import Visit

_MAX_SESSION = 1000
_OAUTH = "m.oauth"

# Word for word the script of the specification.
_DONE_SCRIPT = """
if (window.onAuthDone) {
    window.onAuthDone();
} else if (window.opener && window.opener.postMessage) {
    window.opener.postMessage("authDone", "*");
}
"""

_WRONG = {
    PASSWORD: mark("That is not the right password."),
    REGISTRATION_TOKEN: mark("This registration token is not valid."),
    RECAPTCHA: mark("The puzzle was not solved. Try again."),
    EMAIL_STAGE: mark("The address is not confirmed yet. Follow the link in the mail first."),
}

# What an operation is, for people: the first that matches.
_PURPOSES = [
    (r"POST /register$", mark("Your app wants to create an account.")),
    (r"POST /account/password$", mark("Your app wants to change your password.")),
    (r"POST /account/deactivate$", mark("Your app wants to deactivate your account, for good.")),
    (r"(DELETE /devices/|POST /delete_devices$)", mark("Your app wants to sign out sessions of yours.")),
    (r"POST /keys/device_signing/upload$", mark("Your app wants to replace your encryption keys.")),
    (r"POST /account/3pid", mark("Your app wants to add an address to your account.")),
    (r".*two_factor", mark("Your app wants to change how you sign in.")),
    (r"", mark("Your app wants to change something in your account.")),
]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A stage that a page is for. `stage` is None where the page itself has to know what is proved."""

    session: OpenSession
    name: str
    stage: Stage | None


async def get_fallback(visit: Visit) -> Response:
    """The page of a stage."""
    query = visit.request.query
    asked = await _find(visit, query.string("session", default="", max_length=_MAX_SESSION))
    if asked.name in asked.session.completed:
        return _done(visit)
    if asked.name == _OAUTH:
        return redirect(visit, "/account/reset-keys")
    if asked.name == SSO:
        return _sso_page(visit, asked)
    return _page(visit, asked)


async def post_fallback(visit: Visit) -> Response:
    """Takes the proof."""
    asked = await _find(visit, visit.text("session", _MAX_SESSION))
    if asked.name == SSO:
        return await _sso(visit, asked)
    try:
        if asked.name == EMAIL_STAGE and "send" in visit.form:
            return await _send_mail(visit, asked)
        if asked.name == TERMS and "terms" not in visit.form:
            return _page(visit, asked, 400, visit.translate(mark("The terms must be accepted.")))
        if asked.stage is None:
            raise _unknown()
        await prove_stage(
            visit.services.uia, asked.session.session_id, asked.name, asked.stage, _auth(visit, asked.name)
        )
    except NotFound:
        raise
    except MatrixError as error:
        otherwise = _WRONG.get(asked.name, mark("That did not work. Check what you have entered."))
        return _page(visit, asked, error.status, sentence(visit, error, otherwise))
    return _done(visit)


async def _find(visit: Visit, session_id: str) -> _Asked:
    """The stage and its session. Raises NotFound if there is no such session, or no page for the stage."""
    session = await read_session(visit.services.uia, session_id) if session_id else None
    if session is None:
        raise NotFound("There is no such authentication session (any more)")
    name = visit.request.params["authType"]
    stages = await _stages(visit, session)
    if name not in stages and name not in (SSO, _OAUTH):
        raise _unknown()
    if name == SSO and session.user_id is None:
        raise _unknown()
    return _Asked(session, name, stages.get(name))


async def _stages(visit: Visit, session: OpenSession) -> dict[str, Stage]:
    """The stages that a session may have, as its challenge has them."""
    services, address = visit.services, visit.request.client_address
    dummy = {DUMMY: Stage()}
    if session.user_id is not None:
        async with services.pool.acquire() as conn:
            account = await find_account(conn, session.user_id)
        if account is None:
            raise _unknown()
        challenge = await owner_challenge(
            services.uia,
            services.config,
            services.login_attempts,
            services.secrets,
            user_id=account.user_id,
            user_nid=account.user_nid,
            operation=session.operation,
            address=address,
        )
        return {**dummy, **challenge.stages}
    if session.operation == "POST /register":
        parts = RegistrationParts(services.uia, services.config, services.login_attempts, services.outbound)
        challenge = registration_challenge(parts, address)
        known = {name for flow in flows(services.config.registration) for name in flow}
        return {**dummy, **{name: stage for name, stage in challenge.stages.items() if name in known}}
    return {**dummy, EMAIL_STAGE: email_stage(services.pool, _purpose(session))}


def _purpose(session: OpenSession) -> Purpose:
    if session.operation == "POST /register":
        return "register"
    return "password" if session.operation == "POST /account/password" else "add"


def _auth(visit: Visit, name: str) -> JsonObject:
    """What a client would send."""
    auth: JsonObject = {"type": name}
    if name == RECAPTCHA:
        found = captcha(visit.services.config.registration.captcha)
        return {**auth, "response": visit.text(found.field, 10_000) if found is not None else ""}
    if name == EMAIL_STAGE:
        sent = sent_mail(visit)
        return sent.auth() if sent is not None else auth
    return {**auth, **{key: visit.text(key).strip() for key in ("token", "code")}, "password": visit.text("password")}


async def _send_mail(visit: Visit, asked: _Asked) -> Response:
    try:
        return _page(visit, asked, sent=await send_mail(visit, _purpose(asked.session)))
    except InvalidParam:
        return _page(visit, asked, 400, visit.translate(mark("This is not an e-mail address.")))


def _sso_page(visit: Visit, asked: _Asked) -> Response:
    """Signing in once more in this browser is the proof; the page says what for."""
    if visit.session is None:
        return to_sign_in(visit)
    if visit.session.user_id != asked.session.user_id:
        return _page(visit, asked, 403, visit.translate(mark("You are signed in here as somebody else.")))
    if not is_fresh(visit.session):
        return to_confirm(visit)
    return _page(visit, asked)


async def _sso(visit: Visit, asked: _Asked) -> Response:
    if visit.session is None or visit.session.user_id != asked.session.user_id or not is_fresh(visit.session):
        here = f"/_matrix/client/v3/auth/{SSO}/fallback/web"
        return redirect(visit, f"{here}?{urlencode({'session': asked.session.session_id})}")
    await complete_stage(visit.services.uia, asked.session.session_id, SSO, visit.session.user_id)
    return _done(visit)


def _page(visit: Visit, asked: _Asked, status: int = 200, problem: str = "", sent: SentMail | None = None) -> Response:
    puzzle = captcha(visit.services.config.registration.captcha) if asked.name == RECAPTCHA else None
    policies = visit.services.config.registration.terms if asked.name == TERMS else ()
    purpose = next(text for pattern, text in _PURPOSES if re.match(pattern, asked.session.operation))
    return page(
        visit,
        "auth_fallback.html",
        status=status,
        origins=puzzle.origins if puzzle is not None else (),
        session=asked.session,
        stage=asked.name,
        purpose=visit.translate(purpose),
        captcha=puzzle,
        terms=[policy.texts.get(visit.language) or next(iter(policy.texts.values())) for policy in policies],
        sent=sent or sent_mail(visit),
        problem=problem,
    )


def _done(visit: Visit) -> Response:
    return page(
        visit,
        "message.html",
        script=_DONE_SCRIPT,
        title=visit.translate(mark("Thank you")),
        text=visit.translate(mark("You can go back to your app, and close this page.")),
        link="",
        link_text="",
    )


def _unknown() -> Forbidden:
    return Forbidden(mark("There is no page for this step."))


ROUTES = [
    route
    for version in ("v3", "r0", "unstable")
    for route in page_routes(
        f"/_matrix/client/{version}/auth/{{authType}}/fallback/web", get=get_fallback, post=post_fallback
    )
]
