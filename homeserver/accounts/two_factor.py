"""Second factors: codes of an authenticator app (TOTP, RFC 6238), and backup codes for when it is lost.

    begin         shows a new secret; the one in use stays in use
    confirm       the first code proves that the app has it; gives the backup codes, once
    check_code    whether a code is right; uses it up
    test_code, use_code   the two halves of that, for who must do more between them
    totp_stage    the same as a stage of user-interactive authentication
    log_in        what the legacy login asks for besides the password

A code is good for the 30 seconds that it is made for and the 30 before and after, and once: the account remembers the
time of the last one. Wrong codes are counted in the account's row and committed with it, so that neither a restart nor
another process forgets them. Secrets are encrypted with a key that is not in the database; backup codes, which are
short, are hashed with it.
"""

from __future__ import annotations

import hmac
import math
import os
import re
import secrets as randomness
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pyotp
import segno
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from homeserver.accounts.interactive_auth import AuthRequired, Stage
from homeserver.accounts.notices import notify_backup_code_used, notify_second_factor
from homeserver.config import Config
from homeserver.protocol.errors import BadRequest, Forbidden, LimitExceeded
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import localpart_of
from homeserver.secrets import Secrets
from homeserver.storage import two_factor
from homeserver.storage.accounts import Account
from homeserver.storage.stream import Connection, Pool
from homeserver.storage.two_factor import SecondFactor

TOTP = "org.talkpai.totp"
PASSWORD = "m.login.password"  # noqa: S105 - the name of a stage
NEEDED = "ORG.TALKPAI.SECOND_FACTOR_NEEDED"
REQUIRED = "ORG.TALKPAI.SECOND_FACTOR_REQUIRED"

_STEP_SECONDS = 30
_WINDOW = 1  # steps before and after the current one
_BACKUP_CODES = 10
_ALPHABET = "23456789abcdefghjkmnpqrstvwxyz"  # nothing that is read as something else
_PENDING_MS = 60 * 60 * 1000
# Five wrong codes at once and one a minute after that: a guesser who has the password needs years.
_BURST = 5
_TRY_MS = 60 * 1000
_NONCE_BYTES = 12
_MAX_CODE = 32


@dataclass(frozen=True, slots=True)
class TwoFactor:
    """`confirmed_ts` in milliseconds since 1970, None where it is not enabled."""

    enabled: bool
    confirmed_ts: int | None
    backup_codes_left: int


@dataclass(frozen=True, slots=True, repr=False)
class Setup:
    """What somebody puts into their app: the secret in base32, the same as an otpauth address, and as a picture."""

    secret: str
    uri: str
    qr_svg: str


async def status(conn: Connection, user_nid: int) -> TwoFactor:
    """Whether the account has a second factor."""
    found = await two_factor.find_second_factor(conn, user_nid)
    if found is None or found.secret is None:
        return TwoFactor(enabled=False, confirmed_ts=None, backup_codes_left=0)
    return TwoFactor(True, found.confirmed_ts, await two_factor.count_backup_codes(conn, user_nid))


def required_for(config: Config, account: Account) -> bool:
    """Whether the operator wants the account to have a second factor."""
    if account.guest or account.appservice_id is not None:
        return False
    required = config.two_factor.required
    return required == "all" or (required == "admins" and account.admin)


async def begin(conn: Connection, secrets: Secrets, config: Config, account: Account) -> Setup:
    """Makes a secret, to be confirmed within the hour. Whoever calls this has had the owner prove who they are."""
    secret = pyotp.random_base32()
    sealed = _seal(secrets, account.user_nid, secret)
    await two_factor.put_pending(conn, account.user_nid, sealed, _now_ms())
    issuer = config.two_factor.issuer or config.server_name.replace(":", " ")
    uri = pyotp.TOTP(secret).provisioning_uri(name=localpart_of(account.user_id), issuer_name=issuer)
    picture = segno.make(uri, error="m", micro=False)
    return Setup(secret, uri, picture.svg_inline(scale=5, border=4, dark="#000", light="#fff"))


async def confirm(
    conn: Connection, secrets: Secrets, config: Config, user_nid: int, code: str, *, language: str = "en"
) -> list[str] | None:
    """The first code of the app. In a transaction that is committed whatever this returns: wrong codes are counted.

    :returns: the backup codes, never to be shown again; None if the code is wrong
    :raises BadRequest: if nothing is waiting to be confirmed
    :raises LimitExceeded: after too many wrong codes
    """
    found = await two_factor.lock_second_factor(conn, user_nid)
    if found is None or found.pending_secret is None or (found.pending_ts or 0) <= _now_ms() - _PENDING_MS:
        raise BadRequest("There is nothing to confirm: begin anew")
    full_ts = _counted(found)
    step = _matching_step(_open(secrets, user_nid, found.pending_secret), _plain(code), after=0)
    if step is None:
        await two_factor.update_tries(conn, user_nid, full_ts)
        return None
    await two_factor.confirm_pending(conn, user_nid, step=step, now_ms=_now_ms())
    await notify_second_factor(conn, config, user_nid, on=True, language=language)
    return await new_backup_codes(conn, secrets, user_nid)


async def new_backup_codes(conn: Connection, secrets: Secrets, user_nid: int) -> list[str]:
    """Ten codes in place of those that there were. In a transaction. They are shown once and can't be shown again.

    :raises BadRequest: if the account has no second factor
    """
    if not await two_factor.has_second_factor(conn, user_nid):
        raise BadRequest("There is no second factor to have backup codes for")
    codes = ["".join(randomness.choice(_ALPHABET) for _ in range(10)) for _ in range(_BACKUP_CODES)]
    await two_factor.replace_backup_codes(conn, user_nid, [_backup_hash(secrets, user_nid, code) for code in codes])
    return [f"{code[:5]}-{code[5:]}" for code in codes]


async def disable(conn: Connection, config: Config, user_nid: int, *, language: str = "en") -> bool:
    """Takes the second factor away, with its backup codes, and tells the owner. In a transaction.

    :returns: whether there was one
    """
    done = await two_factor.delete_second_factor(conn, user_nid)
    if done:
        await notify_second_factor(conn, config, user_nid, on=False, language=language)
    return done


async def check_code(
    conn: Connection, secrets: Secrets, config: Config, user_nid: int, code: str, *, language: str = "en"
) -> bool:
    """Whether that is a code of the account's app or a backup code; it is used up with that.

    In a transaction that is committed whatever this returns: a wrong code is counted, too.

    :raises LimitExceeded: after too many wrong codes
    """
    return await test_code(conn, secrets, user_nid, code) and await use_code(
        conn, secrets, config, user_nid, code, language=language
    )


async def test_code(conn: Connection, secrets: Secrets, user_nid: int, code: str) -> bool:
    """Whether that code would be taken now. In a transaction that is committed whatever this returns.

    :raises LimitExceeded: after too many wrong codes
    """
    found = await two_factor.lock_second_factor(conn, user_nid)
    if found is None or found.secret is None:
        return False
    full_ts = _counted(found)
    plain = _plain(code)
    if _matching_step(_open(secrets, user_nid, found.secret), plain, after=found.last_step) is not None:
        return True
    if await two_factor.has_backup_code(conn, user_nid, _backup_hash(secrets, user_nid, plain)):
        return True
    await two_factor.update_tries(conn, user_nid, full_ts)
    return False


async def use_code(
    conn: Connection, secrets: Secrets, config: Config, user_nid: int, code: str, *, language: str = "en"
) -> bool:
    """Uses a code up, in the transaction of what it is for. Nothing is counted: `test_code` comes first.

    :returns: whether it was good; not if it has been used since
    """
    found = await two_factor.lock_second_factor(conn, user_nid)
    if found is None or found.secret is None:
        return False
    plain = _plain(code)
    step = _matching_step(_open(secrets, user_nid, found.secret), plain, after=found.last_step)
    if step is not None:
        await two_factor.update_last_step(conn, user_nid, step)
        return True
    if await two_factor.take_backup_code(conn, user_nid, _backup_hash(secrets, user_nid, plain)):
        left = await two_factor.count_backup_codes(conn, user_nid)
        await notify_backup_code_used(conn, config, user_nid, left, language=language)
        return True
    return False


def totp_stage(pool: Pool, secrets: Secrets, config: Config, user_nid: int) -> Stage:
    """A stage that takes `code`: of the authenticator app, or a backup code."""

    async def check(auth: JsonObject) -> None:
        code = auth.get("code")
        if not isinstance(code, str):
            raise Forbidden("code is missing: the one that your authenticator app shows, or a backup code")
        async with pool.acquire() as conn, conn.transaction():
            right = await test_code(conn, secrets, user_nid, code)
        if not right:
            raise Forbidden("This code is wrong, or has been used")

    async def record(conn: Connection, auth: JsonObject) -> None:
        if not await use_code(conn, secrets, config, user_nid, str(auth.get("code"))):
            raise Forbidden("This code is wrong, or has been used")

    return Stage(check=check, record=record)


async def log_in(
    pool: Pool, secrets: Secrets, config: Config, account: Account, auth: object
) -> Callable[[Connection], Awaitable[None]]:
    """What a login with the right password needs besides. Each such request carries the password, so that nothing need
    be remembered between two of them: the password's stage is done in every answer.

    :param auth: what the request has under that key
    :returns: what uses the code up, in the transaction of the login; it raises Forbidden if another login just has
    :raises AuthRequired: until there is a right code
    :raises Forbidden: for an account that must have a second factor and has none
    :raises LimitExceeded: after too many wrong codes
    """
    async with pool.acquire() as conn:
        enabled = await two_factor.has_second_factor(conn, account.user_nid)
    if not enabled:
        if required_for(config, account):
            place = f" at {config.public_baseurl}/account" if config.public_baseurl is not None else ""
            raise Forbidden(
                f"This account needs a second factor. Sign in with a browser{place} and set one up.", errcode=REQUIRED
            )
        return _nothing
    stage = totp_stage(pool, secrets, config, account.user_nid)
    assert stage.check is not None
    assert stage.record is not None
    required = AuthRequired([(PASSWORD, TOTP)], {TOTP: stage}, randomness.token_urlsafe(24), [PASSWORD])
    if not isinstance(auth, dict) or auth.get("type") != TOTP:
        # Clients that know nothing of flows at a login show their users this text.
        text = "This account asks for a code, too, which this app does not send: sign in with the browser"
        raise required.because(Forbidden(text, errcode=NEEDED))
    try:
        await stage.check(auth)
    except Forbidden as failure:
        raise required.because(failure) from None
    record, given = stage.record, auth

    async def use(conn: Connection) -> None:
        await record(conn, given)

    return use


async def _nothing(conn: Connection) -> None:
    """There is no code to be used up."""


def _counted(found: SecondFactor) -> int:
    """When the bucket of wrong codes is full again if this one is wrong, too. Raises LimitExceeded if it is empty."""
    now_ms = _now_ms()
    full_ts = max(now_ms, found.tries_full_ts) + _TRY_MS
    wait_ms = full_ts - now_ms - _BURST * _TRY_MS
    if wait_ms > 0:
        raise LimitExceeded("Too many wrong codes", retry_after_ms=math.ceil(wait_ms))
    return full_ts


def _matching_step(secret: str, code: str, *, after: int) -> int | None:
    """The step whose code this is, of those that count now and are later than `after`."""
    if not re.fullmatch(r"[0-9]{6}", code, re.ASCII):
        return None
    now = _now_ms() // 1000 // _STEP_SECONDS
    totp = pyotp.TOTP(secret)
    found = None
    for step in range(now - _WINDOW, now + _WINDOW + 1):
        if hmac.compare_digest(totp.generate_otp(step), code) and step > after:
            found = step
    return found


def _plain(code: str) -> str:
    """People copy codes with spaces and hyphens, and type capitals."""
    return re.sub(r"[\s-]", "", code[:_MAX_CODE]).lower()


def _backup_hash(secrets: Secrets, user_nid: int, code: str) -> bytes:
    return hmac.digest(_key(secrets, b"backup codes"), f"{user_nid} {code}".encode("utf-8", "surrogatepass"), "sha256")


def _seal(secrets: Secrets, user_nid: int, secret: str) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(_key(secrets, b"authenticator secrets")).encrypt(nonce, secret.encode(), str(user_nid).encode())
    return nonce + sealed


def _open(secrets: Secrets, user_nid: int, sealed: bytes) -> str:
    nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return AESGCM(_key(secrets, b"authenticator secrets")).decrypt(nonce, rest, str(user_nid).encode()).decode()
    except InvalidTag:
        # Another secrets.json, or a row that was copied from another account: as if there were no code that is right.
        raise Forbidden("The second factor of this account can't be read: ask your administrator") from None


def _key(secrets: Secrets, purpose: bytes) -> bytes:
    return hmac.digest(secrets.storage.encode(), purpose, "sha256")


def _now_ms() -> int:
    return int(time.time() * 1000)
