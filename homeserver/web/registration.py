"""Making an account: everything that has to be proved is asked for on one page.

# spec: client-server-api/#account-registration
"""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.accounts.interactive_auth import REGISTRATION_TOKEN, Flow
from homeserver.accounts.password import hash_new_password
from homeserver.accounts.password_policy import check_new_password
from homeserver.accounts.registration import (
    DUMMY,
    EMAIL,
    RECAPTCHA,
    TERMS,
    RegistrationParts,
    check_name,
    flows,
    register,
    registration_challenge,
    wanted_localpart,
)
from homeserver.config.registration import PolicyText, RegistrationConfig
from homeserver.http import Response
from homeserver.protocol.errors import Forbidden, MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.rate_limits import address_key
from homeserver.storage.accounts import Account
from homeserver.translations import mark
from homeserver.web.captcha import Captcha, captcha
from homeserver.web.destinations import HOME, checked_destination, onward_targets
from homeserver.web.messages import sentence
from homeserver.web.pages import page
from homeserver.web.proving_mail import SentMail, send_mail, sent_mail
from homeserver.web.routing import page_routes
from homeserver.web.sign_in import signed_in
from homeserver.web.visits import Visit

_FAILED = mark("That did not work. Check what you have entered.")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the page asks for besides name and password."""

    flow: Flow
    terms: list[PolicyText]
    captcha: Captcha | None


async def get_register(visit: Visit) -> Response:
    """Asks for what an account needs."""
    return _page(visit, visit.request.query.string("continue", default=HOME))


async def post_register(visit: Visit) -> Response:
    """Sends the mail that an account needs; or makes the account and signs in."""
    continue_to, name = visit.text("continue", 20_000), visit.text("username", 255)
    if "send" in visit.form:
        return await _send_mail(visit, continue_to)
    if visit.text("password") != visit.text("repeated"):
        return _page(visit, continue_to, problem=visit.translate(mark("The two passwords are not the same.")))
    try:
        account = await _register(visit, wanted_localpart(name.strip().removeprefix("@")), visit.text("password"))
    except MatrixError as error:
        return _page(visit, continue_to, status=error.status, problem=_problem(visit, error))
    return await signed_in(visit, account, continue_to, keep=False)


async def _send_mail(visit: Visit, continue_to: str) -> Response:
    try:
        if visit.services.config.registration.mode == "off":
            raise Forbidden("Registration is disabled")
        return _page(visit, continue_to, sent=await send_mail(visit, "register"))
    except MatrixError as error:
        return _page(visit, continue_to, problem=sentence(visit, error, mark("This is not an e-mail address.")))


async def _register(visit: Visit, localpart: str, password: str) -> Account:
    services, request = visit.services, visit.request
    config = services.config
    flow = _flow(config.registration)
    if flow is None:
        raise Forbidden("Registration is disabled")
    async with services.pool.acquire() as conn:
        await check_name(conn, config, request.http.appservices, localpart)
    check_new_password(password, config.passwords, localpart)
    parts = RegistrationParts(services.uia, config, services.login_attempts, services.outbound)
    challenge = registration_challenge(parts, request.client_address)
    proof = await challenge.answer_all({stage: _auth(visit, stage) for stage in flow})
    await services.login_attempts.use("registration", address_key(request.client_address))
    password_hash = await hash_new_password(password, config.passwords, localpart)
    async with services.stream.write() as write:
        proved = await proof.use(write.conn)
        account = await register(write.conn, config, proved, localpart=localpart, password_hash=password_hash)
    services.jobs.wake()
    return account


def _auth(visit: Visit, stage: str) -> JsonObject:
    """What a client would send for that stage."""
    match stage:
        case "m.login.registration_token":
            return {"type": stage, "token": visit.text("token").strip()}
        case "m.login.recaptcha":
            found = captcha(visit.services.config.registration.captcha)
            return {"type": stage, "response": visit.text(found.field, 10_000) if found is not None else ""}
        case "m.login.email.identity":
            sent = sent_mail(visit)
            return sent.auth() if sent is not None else {"type": stage}
        case "m.login.terms" if "terms" not in visit.form:
            raise Forbidden(mark("The terms must be accepted."))
        case _:
            return {"type": stage}


def _problem(visit: Visit, error: MatrixError) -> str:
    if error.errcode == "M_THREEPID_AUTH_FAILED":
        return visit.translate(mark("The address is not confirmed yet. Follow the link in the mail first."))
    if not isinstance(error, Forbidden):
        return sentence(visit, error, _FAILED)
    known = {
        "The registration token is not valid": mark("This registration token is not valid."),
        "The registration token is used up": mark("This registration token is used up."),
        "The captcha was not solved": mark("The puzzle was not solved. Try again."),
        "The answer to the captcha is missing": mark("The puzzle was not solved. Try again."),
        "The terms must be accepted.": "The terms must be accepted.",
    }
    return visit.translate(known.get(error.message, _FAILED))


def _flow(config: RegistrationConfig) -> Flow | None:
    """The way to register that this page offers; None if there is none."""
    if config.mode == "off":
        return None
    offered = flows(config)
    return next((flow for flow in offered if EMAIL not in flow), offered[0])


def _page(
    visit: Visit, continue_to: str, *, status: int = 400, problem: str = "", sent: SentMail | None = None
) -> Response:
    config = visit.services.config
    flow = _flow(config.registration)
    if flow is None:
        return page(
            visit,
            "message.html",
            status=403,
            title=visit.translate(mark("No new accounts")),
            text=visit.translate(mark("Nobody can register here by themselves. Ask the administrator of the server.")),
            link="/account/sign-in",
            link_text=visit.translate(mark("Sign in")),
        )
    continue_to = checked_destination(continue_to)
    asked = _Asked(flow, _terms(visit) if TERMS in flow else [], _captcha(visit) if RECAPTCHA in flow else None)
    assert set(flow) <= {DUMMY, TERMS, RECAPTCHA, REGISTRATION_TOKEN, EMAIL}, "the page knows no others"
    sent = sent or sent_mail(visit)
    return page(
        visit,
        "register_email.html" if EMAIL in flow and sent is None else "register.html",
        status=status if problem else 200,
        origins=asked.captcha.origins if asked.captcha is not None else (),
        captcha=asked.captcha,
        terms=asked.terms,
        token=REGISTRATION_TOKEN in flow,
        sent=sent if EMAIL in flow else None,
        form_targets=onward_targets(continue_to, config.web.trusted_clients),
        continue_to=continue_to,
        problem=problem,
        minimum_length=config.passwords.minimum_length,
    )


def _terms(visit: Visit) -> list[PolicyText]:
    """The documents, in the visitor's language or else in the first that there is."""
    return [
        policy.texts.get(visit.language) or next(iter(policy.texts.values()))
        for policy in visit.services.config.registration.terms
    ]


def _captcha(visit: Visit) -> Captcha | None:
    return captcha(visit.services.config.registration.captcha)


ROUTES = page_routes("/account/register", get=get_register, post=post_register)
