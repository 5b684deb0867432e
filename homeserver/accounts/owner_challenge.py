"""Proving with the password that it is still the owner of the account who holds its access token."""

from __future__ import annotations

from homeserver.accounts.identifiers import user_id_of
from homeserver.accounts.interactive_auth import Challenge, Stage
from homeserver.accounts.password import check_credentials
from homeserver.config import Config
from homeserver.protocol.errors import BadRequest, Forbidden
from homeserver.protocol.events import JsonObject
from homeserver.storage.stream import Pool

PASSWORD = "m.login.password"  # noqa: S105 - the name of a stage


def owner_challenge(pool: Pool, config: Config, user_id: str, operation: str) -> Challenge:
    """What must be proved before `operation`, named with its path, for this user.

    # spec: client-server-api/#password-based
    """

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
        await check_credentials(pool, config.passwords, user_id, password)

    return Challenge(pool, f"{user_id} {operation}", [(PASSWORD,)], {PASSWORD: Stage(check=check)})
