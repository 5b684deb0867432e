"""Proving that it is still the owner of the account who holds its access token."""

from __future__ import annotations

from homeserver.accounts.identifiers import user_id_of
from homeserver.accounts.interactive_auth import Challenge, Flow, Sessions, Stage
from homeserver.accounts.login_attempts import LoginAttempts
from homeserver.accounts.password import check_credentials
from homeserver.config import Config
from homeserver.protocol.errors import BadRequest, Forbidden
from homeserver.protocol.events import JsonObject
from homeserver.storage.accounts import find_password_hash
from homeserver.storage.stream import Connection

PASSWORD = "m.login.password"  # noqa: S105 - the name of a stage
SSO = "m.login.sso"


async def owner_challenge(
    sessions: Sessions,
    config: Config,
    attempts: LoginAttempts,
    *,
    user_id: str,
    user_nid: int,
    operation: str,
    address: str,
) -> Challenge:
    """What must be proved before `operation`, named with its path, for this user: the password, or where there is none
    signing in once more in the browser.

    :param address: where the request comes from

    # spec: client-server-api/#password-based
    """
    async with sessions.pool.acquire() as conn:
        flow = await _flow(conn, user_nid)
    stages = {PASSWORD: _password_stage(sessions, config, attempts, user_id, address), SSO: Stage(elsewhere=True)}
    return Challenge(sessions, operation, [flow], {name: stages[name] for name in flow}, user_id)


async def _flow(conn: Connection, user_nid: int) -> Flow:
    return (PASSWORD,) if await find_password_hash(conn, user_nid) is not None else (SSO,)


def _password_stage(sessions: Sessions, config: Config, attempts: LoginAttempts, user_id: str, address: str) -> Stage:
    async def check(auth: JsonObject) -> None:
        password = auth.get("password")
        if not isinstance(password, str) or "\0" in password:
            raise Forbidden("The password is missing")
        try:
            named = user_id_of(auth, config.server_name) if "identifier" in auth or "user" in auth else user_id
        except BadRequest as error:
            raise Forbidden(error.message) from None
        if named != user_id:
            raise Forbidden("The password must be that of the account that asks")
        async with attempts.attempt(address, user_id):
            await check_credentials(sessions.pool, config.passwords, user_id, password)

    return Stage(check=check)
