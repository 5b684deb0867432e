"""Signing in with an account elsewhere: leaving for the provider, coming back, a user name for who is new.

A provider that posts its answer (Apple) does so from its own site, where browsers send none of our cookies along; the
answer is handed on into the address of the page that expects it in the query, and counts no more there than any other.
"""

from __future__ import annotations

import hmac
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from homeserver.accounts.moderation import check_may_sign_in
from homeserver.accounts.registration import TERMS, check_name, policies, register
from homeserver.accounts.single_sign_on.linking import account_of, link, suggested_localpart
from homeserver.accounts.single_sign_on.logins import Finished, begin, find_newcomer, finish, remember_newcomer
from homeserver.accounts.single_sign_on.logout import end_sessions
from homeserver.accounts.single_sign_on.provider import Identity, Provider, SingleSignOnFailed
from homeserver.accounts.web_sessions import is_fresh, token_hash
from homeserver.config.single_sign_on import ProviderConfig
from homeserver.http import ApiRequest, Auth, Response, Route
from homeserver.http.own_address import own_address
from homeserver.protocol.errors import BadRequest, Forbidden, MatrixError, NotFound
from homeserver.rate_limits import address_key
from homeserver.services import Services
from homeserver.storage import single_sign_on, threepids
from homeserver.storage.accounts import Account, update_profile_field
from homeserver.storage.stream import Connection
from homeserver.translations import mark
from homeserver.web.destinations import HOME, checked_destination
from homeserver.web.messages import sentence
from homeserver.web.pages import base_path, error_page, leave, page, redirect
from homeserver.web.routing import page_routes, to_sign_in
from homeserver.web.sign_in import signed_in
from homeserver.web.visits import Visit

_SERVICES = "/account/sign-in-services"
_MAX_ANSWER = 16 * 1024  # bytes
_MAX_DISPLAY_NAME = 255


async def get_leave(visit: Visit) -> Response:
    """Sends the visitor to a provider: to sign in, or with `link` to add it to the account that is signed in."""
    services, query = visit.services, visit.request.query
    provider = _provider(services, visit.request)
    visit.request.limit("login", address_key(visit.request.client_address))
    link_to = None
    wanted = query.string("link", default="")
    if wanted:
        # As long as a form's, because it changes the account as a form does.
        if visit.session is None or not hmac.compare_digest(wanted.encode(), visit.form_token.encode()):
            raise Forbidden(mark("This form is no longer valid. Go back, load the page again and repeat what you did."))
        if not is_fresh(visit.session):
            # A way in that is added stays when the session that has added it is gone.
            return redirect(visit, f"/account/confirm?{urlencode({'continue': _SERVICES})}")
        link_to = visit.session.user_nid
    try:
        address = await begin(
            services.pool,
            provider,
            browser=visit.token,
            redirect_uri=_callback(services, visit.request, provider),
            continue_to=_SERVICES if link_to else checked_destination(query.string("continue", default=HOME)),
            link_to=link_to,
            # Who is signed in and comes here all the same is to prove it once more.
            again=visit.session is not None and link_to is None,
        )
    except SingleSignOnFailed as error:
        return _failed(visit, error)
    return leave(visit, address)


async def get_callback(visit: Visit) -> Response:
    """Takes in whoever comes back from a provider."""
    services = visit.services
    provider = _provider(services, visit.request)
    answer = dict(parse_qsl(visit.request.raw_target.partition("?")[2], keep_blank_values=True, max_num_fields=50))
    redirect_uri = _callback(services, visit.request, provider)
    try:
        done = await finish(services.pool, provider, browser=visit.token, redirect_uri=redirect_uri, answer=answer)
        if done.link_to is not None:
            return await _link(visit, provider, done)
        account = await _find_account(visit, provider, done)
    except SingleSignOnFailed as error:
        return _failed(visit, error)
    if account is None:
        return redirect(visit, "/account/sso/new")
    return await _sign_in(visit, provider.config, done.identity, account, done.continue_to)


async def post_callback(services: Services, request: ApiRequest) -> Response:
    """Hands an answer that was posted on into the address."""
    provider = _provider(services, request)
    body = await request.body(_MAX_ANSWER)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=50)
    except ValueError:
        raise BadRequest("The body is no form") from None
    # Not `user`, in which Apple puts the name at the first time only, unsigned.
    answer = [(name, value) for name, value in pairs if name in ("state", "code", "error", "iss")]
    location = f"{base_path(services)}/account/sso/{provider.config.id}/callback?{urlencode(answer)}"
    return web.Response(status=303, headers={"Location": location, "Cache-Control": "no-store"})


async def post_logout(services: Services, request: ApiRequest) -> Response:
    """What a provider reports of sessions there that have ended (OpenID Connect back-channel logout)."""
    provider = _provider(services, request)
    request.limit("login", address_key(request.client_address))
    form = dict(parse_qsl((await request.body(_MAX_ANSWER)).decode("ascii", "replace"), max_num_fields=50))
    try:
        logout = await provider.ended(form.get("logout_token", ""))
    except SingleSignOnFailed:
        return web.json_response({"error": "invalid_request"}, status=400, headers={"Cache-Control": "no-store"})
    for user_nid in await end_sessions(services.stream, provider, logout):
        request.sessions_changed(user_nid)
    return web.Response(status=200, headers={"Cache-Control": "no-store"})


async def get_new(visit: Visit) -> Response:
    """Asks somebody who is new for a user name."""
    async with visit.services.pool.acquire() as conn:
        found = await find_newcomer(conn, visit.token)
    if found is None:
        return to_sign_in(visit)
    return _new_page(visit, found[1], username=suggested_localpart(found[1]), display_name=found[1].display_name or "")


async def post_new(visit: Visit) -> Response:
    """Makes the account of somebody new."""
    services, request = visit.services, visit.request
    username, display_name = visit.text("username").strip().lower(), visit.text("display_name").strip()
    async with services.pool.acquire() as conn:
        found = await find_newcomer(conn, visit.token)
    if found is None:
        return to_sign_in(visit)
    newcomer, identity = found
    provider = services.single_sign_on.get(newcomer.provider_id)
    if provider is None or not provider.config.registration:
        return _failed(visit, _nobody())
    try:
        request.limit("registration", address_key(request.client_address))
        if services.config.registration.terms and "terms" not in visit.form:
            raise BadRequest("The terms are not accepted", errcode="M_TERMS_NOT_ACCEPTED")
        async with services.pool.acquire() as conn:
            await check_name(conn, services.config, request.http.appservices, username)
        async with services.pool.acquire() as conn, conn.transaction():
            if await find_newcomer(conn, visit.token, use=True) is None:
                return to_sign_in(visit)
            account = await _make_account(conn, visit, provider.config, identity, username, display_name)
    except SingleSignOnFailed as error:
        return _failed(visit, error)
    except MatrixError as error:
        problem = sentence(visit, error, mark("This user name can't be used."))
        return _new_page(visit, identity, error.status, username=username, display_name=display_name, problem=problem)
    return await _sign_in(visit, provider.config, identity, account, newcomer.continue_to)


async def _make_account(
    conn: Connection, visit: Visit, config: ProviderConfig, identity: Identity, username: str, display_name: str
) -> Account:
    services = visit.services
    registration = services.config.registration
    proved = {TERMS: {policy.id: policy.version for policy in registration.terms}} if registration.terms else {}
    account = await register(conn, services.config, proved, localpart=username, password_hash=None)
    await link(conn, config, identity, account.user_nid)
    if display_name:
        await update_profile_field(conn, account.user_nid, "displayname", display_name[:_MAX_DISPLAY_NAME])
    if identity.email is not None:
        # Unless somebody else's: then it is not this account's.
        await threepids.insert_threepid(
            conn,
            account.user_nid,
            medium="email",
            address=identity.email,
            validated_ts=account.created_ts,
            added_ts=account.created_ts,
        )
    return account


async def _find_account(visit: Visit, provider: Provider, done: Finished) -> Account | None:
    """The account of whoever came back; None if a user name must be chosen first."""
    services = visit.services
    async with services.pool.acquire() as conn, conn.transaction():
        account = await account_of(conn, provider.config, done.identity, services.server_name)
        if account is None:
            if not provider.config.registration:
                raise _nobody()
            await remember_newcomer(conn, visit.token, provider.config.id, done.identity, done.continue_to)
        return account


async def _sign_in(
    visit: Visit, config: ProviderConfig, identity: Identity, account: Account, continue_to: str
) -> Response:
    async def note_session(conn: Connection, token: str) -> None:
        hashed = token_hash(token)
        await single_sign_on.insert_session(conn, hashed, config.id, identity.subject, identity.session_id)

    try:
        async with visit.services.pool.acquire() as conn:
            await check_may_sign_in(conn, account.user_nid)
    except MatrixError as error:
        return _failed(visit, error)
    return await signed_in(
        visit, account, continue_to, keep=True, ask_second_factor=config.second_factor, also=note_session
    )


async def _link(visit: Visit, provider: Provider, done: Finished) -> Response:
    """Adds a way to sign in to the account that is signed in."""
    if visit.session is None or visit.session.user_nid != done.link_to:
        raise SingleSignOnFailed(mark("You are not signed in any more. Sign in, and try again."))
    async with visit.services.pool.acquire() as conn:
        await link(conn, provider.config, done.identity, visit.session.user_nid)
    return redirect(visit, done.continue_to)


def _new_page(
    visit: Visit, identity: Identity, status: int = 200, *, username: str, display_name: str, problem: str = ""
) -> Response:
    terms = policies(visit.services.config.registration)
    texts = [policy.get(visit.language) or policy.get("en") or _any_text(policy) for policy in terms.values()]
    return page(
        visit,
        "single_sign_on_new.html",
        status=status,
        known_as=identity.shown_as,
        username=username,
        display_name=display_name,
        terms=texts,
        problem=problem,
    )


def _any_text(policy: dict[str, object]) -> object:
    return next(text for text in policy.values() if isinstance(text, dict))


def _failed(visit: Visit, error: MatrixError) -> Response:
    return page(
        visit,
        "message.html",
        status=error.status,
        title=visit.translate(mark("That did not work")),
        text=sentence(visit, error, error.message),
        link="/account/sign-in",
        link_text=visit.translate(mark("Back to sign-in")),
    )


def _nobody() -> SingleSignOnFailed:
    return SingleSignOnFailed(mark("You have no account on this server. Ask its administrator for one."))


def _provider(services: Services, request: ApiRequest) -> Provider:
    provider = services.single_sign_on.get(request.params["provider"])
    if provider is None:
        raise NotFound("There is no such sign-in service")
    return provider


def _callback(services: Services, request: ApiRequest, provider: Provider) -> str:
    address = own_address(services.config, request)
    if address is None:
        raise BadRequest("public_baseurl must be set for sign-in services to send people back")
    return f"{address}/account/sso/{provider.config.id}/callback"


ROUTES = [
    *page_routes("/account/sso/new", get=get_new, post=post_new),
    *page_routes("/account/sso/{provider}", get=get_leave),
    *page_routes("/account/sso/{provider}/callback", get=get_callback),
    Route("POST", "/account/sso/{provider}/callback", post_callback, Auth.NONE, error_page=error_page),
    Route("POST", "/account/sso/{provider}/logout", post_logout, Auth.NONE),
]
