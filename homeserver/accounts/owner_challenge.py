"""Proving that it is still the owner of the account who holds its access token."""

from __future__ import annotations

from homeserver.accounts.identifiers import named_user
from homeserver.accounts.interactive_auth import Challenge, Flow, Sessions, Stage
from homeserver.accounts.login_attempts import LoginAttempts
from homeserver.accounts.password import check_credentials
from homeserver.accounts.two_factor import TOTP, totp_stage
from homeserver.config import Config
from homeserver.protocol.errors import BadRequest, Forbidden, MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.secrets import Secrets
from homeserver.storage.accounts import find_password_hash
from homeserver.storage.single_sign_on import external_ids_of
from homeserver.storage.stream import Connection
from homeserver.storage.two_factor import has_second_factor

PASSWORD = "m.login.password"  # noqa: S105 - the name of a stage
SSO = "m.login.sso"


async def owner_challenge(
    sessions: Sessions,
    config: Config,
    attempts: LoginAttempts,
    secrets: Secrets,
    *,
    user_id: str,
    user_nid: int,
    operation: str,
    address: str,
) -> Challenge:
    """What must be proved before `operation`, named with its path, for this user: the password, and the second factor
    where there is one; without a password, or instead of it where the account is linked to one elsewhere, signing in
    once more in the browser.

    :param address: where the request comes from

    # spec: client-server-api/#password-based
    """
    async with sessions.pool.acquire() as conn:
        flows = await _flows(conn, user_nid)
    stages = {
        PASSWORD: _password_stage(sessions, config, attempts, user_id, address),
        TOTP: totp_stage(sessions.pool, secrets, config, user_nid),
        SSO: Stage(elsewhere=True),
    }
    used = {name for flow in flows for name in flow}
    return Challenge(sessions, operation, flows, {name: stages[name] for name in used}, user_id)


async def _flows(conn: Connection, user_nid: int) -> list[Flow]:
    if await find_password_hash(conn, user_nid) is None:
        return [(SSO,)]
    password = (PASSWORD, TOTP) if await has_second_factor(conn, user_nid) else (PASSWORD,)
    return [password, (SSO,)] if await external_ids_of(conn, user_nid) else [password]


async def _named(sessions: Sessions, config: Config, auth: JsonObject, user_id: str) -> str:
    if auth.keys().isdisjoint(("identifier", "user", "address")):
        return user_id
    async with sessions.pool.acquire() as conn:
        return await named_user(conn, auth, config.server_name)


def _password_stage(sessions: Sessions, config: Config, attempts: LoginAttempts, user_id: str, address: str) -> Stage:
    async def check(auth: JsonObject) -> None:
        password = auth.get("password")
        if not isinstance(password, str) or "\0" in password:
            raise Forbidden("The password is missing")
        try:
            named = await _named(sessions, config, auth, user_id)
        except BadRequest as error:
            raise Forbidden(error.message) from None
        if named != user_id:
            # Not a proof that failed and may be tried again, but one of something else.
            raise MatrixError("The password must be that of the account that asks", errcode="M_FORBIDDEN", status=403)
        async with attempts.attempt(address, user_id):
            await check_credentials(sessions.pool, config.passwords, user_id, password)

    return Stage(check=check)
