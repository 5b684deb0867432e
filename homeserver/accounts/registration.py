"""Registering: what must be proved, and what is done when it has been, without HTTP.

The client API and the page in a browser do the same with it: `check_name` first, so that nobody proves anything in
vain; then `registration_challenge(…).answer` (or `answer_all`, for a form that asks everything at once); then, in one
transaction, `proof.use` and `register`.

# spec: client-server-api/#post_matrixclientv3register
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from homeserver.accounts import threepids
from homeserver.accounts.auto_join import order_joins
from homeserver.accounts.captcha import captcha_check
from homeserver.accounts.email_validation import email_stage, recorded_threepid
from homeserver.accounts.interactive_auth import REGISTRATION_TOKEN, Challenge, Flow, Sessions, Stage
from homeserver.accounts.login_attempts import LoginAttempts
from homeserver.accounts.register import check_available, create_account, generated_localpart
from homeserver.appservice_registrations import Appservices
from homeserver.config import Config, RegistrationConfig
from homeserver.outbound import OutboundClient
from homeserver.protocol.errors import BadRequest, Forbidden
from homeserver.protocol.events import JsonObject
from homeserver.rate_limits import address_key
from homeserver.storage import registration_tokens, registrations
from homeserver.storage.access_tokens import find_token, hash_token
from homeserver.storage.accounts import Account, find_account
from homeserver.storage.stream import Connection, Pool

DUMMY = "m.login.dummy"
EMAIL = "m.login.email.identity"
RECAPTCHA = "m.login.recaptcha"
TERMS = "m.login.terms"

_OPERATION = "POST /register"


@dataclass(frozen=True, slots=True)
class RegistrationParts:
    """The long-lived objects that a registration needs."""

    sessions: Sessions
    config: Config
    attempts: LoginAttempts
    outbound: OutboundClient


def flows(config: RegistrationConfig) -> list[Flow]:
    """The ways to register: the token first, since who has none need not go on; the e-mail, which takes longest, last.

    Where the e-mail is optional, the flow without it ends in a dummy, so that a client can say that it gives none.
    """
    first: list[str] = []
    if config.mode == "token":
        first.append(REGISTRATION_TOKEN)
    if config.captcha.public_key is not None:
        first.append(RECAPTCHA)
    if config.terms:
        first.append(TERMS)
    if config.email == "required":
        return [(*first, EMAIL)]
    if config.email == "optional":
        # spec: client-server-api/#dummy-auth
        return [(*first, DUMMY), (*first, EMAIL)]
    return [tuple(first) or (DUMMY,)]


def registration_challenge(parts: RegistrationParts, address: str) -> Challenge:
    """What must be proved to register.

    :param address: where the request comes from: guesses are counted by it
    """
    config = parts.config.registration
    stages: dict[str, Stage] = {}
    for name in {name for flow in flows(config) for name in flow}:
        match name:
            case "m.login.registration_token":
                stages[name] = _token_stage(parts, address)
            case "m.login.recaptcha":
                check = captcha_check(parts.outbound, config.captcha, parts.attempts, address)
                stages[name] = Stage(check=check, params={"public_key": config.captcha.public_key})
            case "m.login.terms":
                stages[name] = _terms_stage(config)
            case "m.login.email.identity":
                stages[name] = email_stage(parts.sessions.pool, "register")
            case _:
                stages[name] = Stage()
    return Challenge(parts.sessions, _OPERATION, flows(config), stages)


def wanted_localpart(username: str) -> str:
    """The name that somebody means who types `username`.

    Capitals become small, "Alice" alice; nothing else is made of anything else, since the small letters of some signs
    (the Kelvin sign, for one) are letters that others have in their names.
    """
    return username.lower() if username.isascii() else username


def check_reserved(config: RegistrationConfig, localpart: str) -> None:
    """Raises BadRequest M_USER_IN_USE for a name that nobody may take by themselves."""
    if any(re.fullmatch(pattern, localpart, re.IGNORECASE) for pattern in config.reserved_names):
        raise BadRequest("This user name is reserved", errcode="M_USER_IN_USE")


async def check_name(conn: Connection, config: Config, appservices: Appservices, localpart: str) -> None:
    """Checks that somebody could register with that name, before anything is proved or stored.

    :raises BadRequest: M_INVALID_USERNAME, M_EXCLUSIVE or M_USER_IN_USE
    """
    await check_available(conn, appservices, server_name=config.server_name, localpart=localpart)
    check_reserved(config.registration, localpart)


async def register(
    conn: Connection,
    config: Config,
    proved: Mapping[str, Any],
    *,
    localpart: str | None,
    password_hash: str | None,
    guest: Account | None = None,
) -> Account:
    """Makes the account, or makes one of `guest`. Inside the transaction in which the proof was used.

    The rooms that new users join are joined by jobs: wake those after the commit.

    :param proved: what `Proof.use` returned
    :param localpart: None for one that is made up
    :raises BadRequest: M_INVALID_USERNAME, M_USER_IN_USE or M_THREEPID_IN_USE
    """
    if guest is not None:
        if not await registrations.upgrade_guest(conn, guest.user_nid, password_hash):
            raise BadRequest("This guest is one no more", errcode="M_USER_IN_USE")
        account = await find_account(conn, guest.user_id)
        assert account is not None, "it was there a moment ago, and accounts stay"
    else:
        account = await create_account(
            conn,
            server_name=config.server_name,
            localpart=localpart or generated_localpart(),
            password_hash=password_hash,
        )
    now_ms = int(time.time() * 1000)
    token = proved.get(REGISTRATION_TOKEN)
    if isinstance(token, str):
        await registration_tokens.complete_use(conn, token)
    terms = proved.get(TERMS)
    if isinstance(terms, dict):
        await registrations.insert_accepted_terms(conn, account.user_nid, terms, now_ms)
    threepid = recorded_threepid(proved.get(EMAIL))
    if threepid is not None:
        await threepids.add(conn, account.user_nid, threepid)
    await order_joins(conn, account.user_id, config.registration.auto_join_rooms)
    return account


async def find_guest(conn: Connection, token: str, localpart: str | None) -> Account:
    """The guest who holds that access token and wants to become a user.

    # spec: client-server-api/#guest-access

    :raises BadRequest: if `localpart` is not the guest's own
    :raises Forbidden: if the token is no guest's
    """
    owner = await find_token(conn, hash_token(token))
    account = await find_account(conn, owner.user_id) if owner is not None else None
    now_ms = int(time.time() * 1000)
    if owner is None or account is None or not account.guest or account.deactivated or account.locked:
        raise Forbidden("guest_access_token is not that of a guest")
    if owner.expires_ts is not None and owner.expires_ts <= now_ms:
        raise Forbidden("guest_access_token has expired")
    if localpart is None or account.user_id.partition(":")[0] != f"@{localpart}":
        raise BadRequest("username must be that of the guest", errcode="M_INVALID_USERNAME")
    return account


async def is_valid_token(pool: Pool, config: RegistrationConfig, token: object) -> bool:
    """Whether that is a registration token with which somebody could register now."""
    if not isinstance(token, str) or "\0" in token or not token.isascii() or len(token) > 64:
        return False
    if _is_configured(config, token):
        return True
    async with pool.acquire() as conn:
        return await registration_tokens.is_usable(conn, token, int(time.time() * 1000))


def policies(config: RegistrationConfig) -> JsonObject:
    """The documents to accept, as clients are told of them.

    # spec: client-server-api/#definition-mloginterms-params
    """
    return {
        policy.id: {
            "version": policy.version,
            **{language: {"name": text.name, "url": text.url} for language, text in policy.texts.items()},
        }
        for policy in config.terms
    }


def _terms_stage(config: RegistrationConfig) -> Stage:
    """# spec: client-server-api/#terms-of-service-at-registration"""
    versions = {policy.id: policy.version for policy in config.terms}

    async def record(conn: Connection, auth: JsonObject) -> JsonObject:
        return dict(versions)

    return Stage(record=record, params={"policies": policies(config)})


def _token_stage(parts: RegistrationParts, address: str) -> Stage:
    """# spec: client-server-api/#token-authenticated-registration"""
    config = parts.config.registration

    async def check(auth: JsonObject) -> None:
        async with parts.attempts.guess("code", address_key(address)):
            if not await is_valid_token(parts.sessions.pool, config, auth.get("token")):
                raise Forbidden("The registration token is not valid")

    async def record(conn: Connection, auth: JsonObject) -> str | None:
        token = str(auth.get("token"))
        if _is_configured(config, token):
            return None  # as often as one likes, so there is nothing to count
        if not await registration_tokens.begin_use(conn, token, int(time.time() * 1000)):
            raise Forbidden("The registration token is used up")
        return token

    return Stage(check=check, record=record)


def _is_configured(config: RegistrationConfig, token: str) -> bool:
    given = token.encode()
    return any(hmac.compare_digest(given, known.get_secret_value().encode()) for known in config.tokens)
