"""Proving that an e-mail address or a telephone number is one's own.

    request_token               writes a row and queues a message with a token, in one transaction
    submit_token                the token has come back
    use_validation              uses the proof up, in the transaction of what it was for
    email_stage, msisdn_stage   the same as stages of user-interactive authentication

A session (`sid`) belongs to who knows its `client_secret`, and is for one purpose: what was proved in order to register
sets no password. Each token works once, and so does the proof. Tokens and secrets are kept as hashes.

Nobody learns here who has an account. The answer to a request is the same, after the same statements, whether or not
the address is known; its owner is told what happened in the mail.

# spec: client-server-api/#adding-account-administrative-contact-information
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import urlencode, urlsplit

from homeserver.accounts.interactive_auth import Stage
from homeserver.config import Config
from homeserver.mail import Mail, queue_mail
from homeserver.protocol.errors import BadRequest, Forbidden, InvalidParam
from homeserver.protocol.events import JsonObject
from homeserver.protocol.threepids import EMAIL, MSISDN
from homeserver.storage import threepid_validations
from homeserver.storage.stream import Connection, Pool
from homeserver.storage.threepid_validations import Validation
from homeserver.storage.threepids import find_user_nid
from homeserver.storage.users import find_user_id

Purpose: TypeAlias = Literal["register", "password", "add"]

EMAIL_STAGE = "m.login.email.identity"
MSISDN_STAGE = "m.login.msisdn"
CONFIRM_PATH = "/account/confirm-address"
"""Where the links in mails lead."""
SUBMIT_PATH = "/_matrix/client/unstable/org.talkpai.threepid/submit_token"
"""Where clients send a code that somebody has typed."""

_LIFETIME_MS = 60 * 60 * 1000
_MOST_TOKENS = 5  # of several mails any one's link works
_MOST_FAILURES = 5
_DIGITS = 8  # of codes in text messages: five tries for each message must not add up to anything
_OPAQUE = re.compile(r"[0-9a-zA-Z.=_-]{1,255}", re.ASCII)
_MAX_NEXT_LINK = 2048


@dataclass(frozen=True, slots=True)
class Threepid:
    """Something that is proved to be somebody's. `address` is in its canonical form."""

    medium: str
    address: str
    validated_ts: int


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a client asks with. `address` is in its canonical form, `language` that of the message."""

    purpose: Purpose
    medium: str
    address: str
    client_secret: str
    send_attempt: int
    next_link: str | None = None
    language: str = "en"


@dataclass(frozen=True, slots=True)
class Submitted:
    """What has just been proved, and where the client wants people to go then (a place that is allowed)."""

    purpose: str
    address: str
    next_link: str | None


def checked_client_secret(value: str) -> str:
    """`value`, if it is of the form of client secrets and session ids. Raises InvalidParam."""
    if not _OPAQUE.fullmatch(value):
        raise InvalidParam("client_secret and sid must be 1 to 255 of the characters 0-9 a-z A-Z . = _ -")
    return value


def allowed_next_link(config: Config, next_link: str | None) -> str | None:
    """`next_link`, if people may be led there; None if not. Anyone can ask us to send a mail with any of them.

    :raises InvalidParam: if it is no web address at all
    """
    if not next_link:
        return None
    try:
        parts = urlsplit(next_link)
        origin = f"{parts.scheme}://{parts.netloc.lower()}"
    except ValueError:
        raise InvalidParam("next_link must be a web address") from None
    plain = next_link.isprintable() and not any(character in next_link for character in ' \\"<>')
    if parts.scheme not in ("http", "https") or not parts.hostname or len(next_link) > _MAX_NEXT_LINK or not plain:
        raise InvalidParam("next_link must be a web address")
    own = urlsplit(config.public_baseurl or "")
    origins = {*config.email.next_link_origins, f"{own.scheme}://{own.netloc.lower()}"}
    return next_link if origin in origins else None


async def request_token(conn: Connection, asked: TokenRequest) -> str:
    """Begins or goes on with proving an address, and queues the message. Inside a transaction.

    With the same or a smaller `send_attempt` than before nothing is sent again.

    :returns: the session id
    """
    user_nid = await find_user_nid(conn, asked.medium, asked.address)
    token = _new_token(asked.medium)
    sid, wanted = await _begin(conn, asked, token)
    if wanted:
        await _queue(conn, asked, sid, token, await _user_id(conn, user_nid))
    return sid


async def _begin(conn: Connection, asked: TokenRequest, token: str) -> tuple[str, bool]:
    """The session, and whether a message is to be sent."""
    now_ms = _now_ms()
    await threepid_validations.delete_expired(conn, now_ms)
    new = Validation(
        sid=secrets.token_urlsafe(18),
        secret_hash=_hash(asked.client_secret),
        purpose=asked.purpose,
        medium=asked.medium,
        address=asked.address,
        send_attempt=asked.send_attempt,
        token_hashes=(_hash(token),),
        failures=0,
        next_link=asked.next_link,
        expires_ts=now_ms + _LIFETIME_MS,
        validated_ts=None,
    )
    # Another request of the same client may just be inserting it: then the insert waits, and the next round finds it.
    while not await threepid_validations.insert_validation(conn, new, now_ms):
        old = await threepid_validations.lock_for_request(
            conn, secret_hash=new.secret_hash, purpose=new.purpose, medium=new.medium, address=new.address
        )
        if old is None:
            continue
        if old.expires_ts > now_ms and asked.send_attempt <= old.send_attempt:
            return old.sid, False
        if old.expires_ts > now_ms and old.validated_ts is None and old.failures < _MOST_FAILURES:
            kept = (*old.token_hashes, _hash(token))[-_MOST_TOKENS:]
            await threepid_validations.update_sent(
                conn, old.sid, send_attempt=asked.send_attempt, token_hashes=kept, next_link=asked.next_link
            )
            return old.sid, True
        await threepid_validations.delete_validation(conn, old.sid)
    return new.sid, True


async def _queue(conn: Connection, asked: TokenRequest, sid: str, token: str, user_id: str | None) -> None:
    """Queues the message, or something that looks like it where there is nobody to write to."""
    values = {"user_id": user_id or "", "code": token}
    if asked.medium == MSISDN:
        # Somebody with a telephone in their hand reads the code, so there is none to send for what can't succeed.
        wanted = (user_id is not None) == (asked.purpose == "password")
        mail = Mail("+" + asked.address, "text_code", asked.language, values, _LIFETIME_MS)
        await queue_mail(conn, mail, pretend=not wanted)
        return
    query = urlencode({"sid": sid, "token": token})
    values = {"user_id": user_id or "", "path": f"{CONFIRM_PATH}?{query}"}
    template, pretend = "confirm_address", False
    if asked.purpose == "password":
        template, pretend = "confirm_password_reset", user_id is None
    elif user_id is not None:
        template, values = "address_in_use", {"user_id": user_id, "path": "/account"}
    await queue_mail(conn, Mail(asked.address, template, asked.language, values, _LIFETIME_MS), pretend=pretend)


async def submit_token(pool: Pool, sid: str, token: str, *, client_secret: str | None = None) -> Submitted:
    """The token has come back: the address is proved. Each token is good for one time, and few tries are.

    :param client_secret: where the client submits it; a link in a mail has none
    :raises BadRequest: M_TOKEN_INCORRECT, or M_SESSION_EXPIRED where there is no such session (any more)
    """
    async with pool.acquire() as conn, conn.transaction():
        session = await threepid_validations.lock_validation(conn, sid)
        if session is not None and client_secret is not None and not _is_secret(session, client_secret):
            session = None
        if session is not None and client_secret is None and session.medium != EMAIL:
            session = None  # codes are short: only the client that has asked for one may try
        if session is None or session.expires_ts <= _now_ms():
            raise BadRequest("This has expired: begin anew", errcode="M_SESSION_EXPIRED")
        right = _is_token(session, token)
        if right:
            await threepid_validations.mark_validated(conn, sid, _now_ms())
        else:
            # Counting it must outlive the error, which is raised once this is committed.
            await threepid_validations.count_failure(conn, sid, _MOST_FAILURES)
    if not right:
        raise BadRequest("This code or link is wrong, or has been used", errcode="M_TOKEN_INCORRECT")
    return Submitted(session.purpose, session.address, session.next_link)


async def peek(pool: Pool, sid: str, token: str) -> Submitted | None:
    """What `submit_token` would return for the link of a mail; None where it would refuse. Changes nothing: programs
    that look at mails for their readers open links. Since it counts no tries, it says nothing about short codes."""
    async with pool.acquire() as conn:
        session = await threepid_validations.find_validation(conn, sid)
    if session is None or session.medium != EMAIL or session.expires_ts <= _now_ms():
        return None
    if not _is_token(session, token):
        return None
    return Submitted(session.purpose, session.address, session.next_link)


async def check_validation(conn: Connection, sid: str, client_secret: str, purpose: Purpose) -> Threepid:
    """What has been proved in this session; it stays proved.

    :raises Forbidden: (M_THREEPID_AUTH_FAILED) if nothing is, it has been used or is for another purpose
    """
    session = await threepid_validations.find_validation(conn, sid)
    if session is None or not _is_secret(session, client_secret) or session.purpose != purpose:
        session = None
    if session is None or session.validated_ts is None or session.expires_ts <= _now_ms():
        raise Forbidden("This address has not been confirmed", errcode="M_THREEPID_AUTH_FAILED")
    return Threepid(session.medium, session.address, session.validated_ts)


async def use_validation(conn: Connection, sid: str, client_secret: str, purpose: Purpose) -> Threepid:
    """What has been proved in this session, which ends with that. In the transaction of what it was proved for.

    :raises Forbidden: as `check_validation`, and if another request has just used it
    """
    threepid = await check_validation(conn, sid, client_secret, purpose)
    if not await threepid_validations.delete_validation(conn, sid):
        raise Forbidden("This address has not been confirmed", errcode="M_THREEPID_AUTH_FAILED")
    return threepid


def email_stage(pool: Pool, purpose: Purpose) -> Stage:
    """# spec: client-server-api/#email-based-identity--homeserver"""
    return _stage(pool, purpose, EMAIL)


def msisdn_stage(pool: Pool, purpose: Purpose) -> Stage:
    """# spec: client-server-api/#phone-numbermsisdn-based-identity--homeserver"""
    return _stage(pool, purpose, MSISDN)


def _stage(pool: Pool, purpose: Purpose, medium: str) -> Stage:
    """What is recorded is the threepid as [medium, address, validated_ts]: see `recorded_threepid`."""

    async def check(auth: JsonObject) -> None:
        async with pool.acquire() as conn:
            _check_medium(await check_validation(conn, *credentials_of(auth), purpose), medium)

    async def record(conn: Connection, auth: JsonObject) -> list[str | int]:
        threepid = await use_validation(conn, *credentials_of(auth), purpose)
        _check_medium(threepid, medium)
        return [threepid.medium, threepid.address, threepid.validated_ts]

    return Stage(check=check, record=record)


def recorded_threepid(recorded: object) -> Threepid | None:
    """What such a stage has recorded; None of a stage that was not done."""
    if not isinstance(recorded, list):
        return None
    medium, address, validated_ts = recorded
    return Threepid(medium, address, validated_ts)


def credentials_of(auth: JsonObject) -> tuple[str, str]:
    """`sid` and `client_secret` of an `auth` object, as clients of any age spell it. Raises Forbidden."""
    creds = auth.get("threepid_creds", auth.get("threepidCreds"))
    sid, secret = (creds.get("sid"), creds.get("client_secret")) if isinstance(creds, dict) else (None, None)
    if not isinstance(sid, str) or not isinstance(secret, str):
        raise Forbidden("threepid_creds must have a sid and a client_secret")
    try:
        return checked_client_secret(sid), checked_client_secret(secret)
    except InvalidParam as error:
        raise Forbidden(error.message) from None


def _check_medium(threepid: Threepid, medium: str) -> None:
    if threepid.medium != medium:
        raise Forbidden("This is an address of another kind", errcode="M_THREEPID_AUTH_FAILED")


async def _user_id(conn: Connection, user_nid: int | None) -> str | None:
    # Asked in either case: how long this takes must not tell.
    return await find_user_id(conn, user_nid if user_nid is not None else 0)


def _new_token(medium: str) -> str:
    if medium == MSISDN:
        return f"{secrets.randbelow(10**_DIGITS):0{_DIGITS}}"
    return secrets.token_urlsafe(32)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _is_secret(session: Validation, client_secret: str) -> bool:
    return hmac.compare_digest(session.secret_hash, _hash(client_secret))


def _is_token(session: Validation, token: str) -> bool:
    given = _hash(token)
    return any(hmac.compare_digest(given, known) for known in session.token_hashes)


def _now_ms() -> int:
    return int(time.time() * 1000)
