"""Setting up and taking away a second factor, for clients that have a form for it; the account's pages do the same.

What gives or takes away access is behind user-interactive authentication, and there a code is asked for where the
account has a second factor already.
"""

from __future__ import annotations

from homeserver.accounts import two_factor
from homeserver.client_api.account_recovery import language_of
from homeserver.client_api.own_user import prove_owner
from homeserver.http import ApiRequest, Auth, client_routes
from homeserver.http.bodies import string
from homeserver.protocol.errors import Forbidden
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage.accounts import find_account

_PREFIX = "org.talkpai.two_factor"
_MAX_CODE = 32


async def get_status(services: Services, request: ApiRequest) -> JsonObject:
    """Whether the account has a second factor, and must have one."""
    async with services.pool.acquire() as conn:
        found = await two_factor.status(conn, request.requester.user_nid)
        account = await find_account(conn, request.requester.user_id)
    answer: JsonObject = {
        "enabled": found.enabled,
        "backup_codes_left": found.backup_codes_left,
        "required": account is not None and two_factor.required_for(services.config, account),
    }
    return answer | ({"confirmed_ts": found.confirmed_ts} if found.confirmed_ts is not None else {})


async def post_begin(services: Services, request: ApiRequest) -> JsonObject:
    """Makes a secret for the authenticator app. It counts once a code has confirmed it."""
    body = await request.json(allow_empty=True)
    proof = await prove_owner(services, request, body, f"POST /{_PREFIX}/begin")
    if proof is None:
        raise Forbidden("Users of application services have no password, and no second factor")
    async with services.pool.acquire() as conn, conn.transaction():
        await proof.use(conn)
        account = await find_account(conn, request.requester.user_id)
        assert account is not None, "it asks"
        setup = await two_factor.begin(conn, services.secrets, services.config, account)
    return {"secret": setup.secret, "uri": setup.uri, "qr_svg": setup.qr_svg}


async def post_confirm(services: Services, request: ApiRequest) -> JsonObject:
    """The first code. From then on the second factor is asked for."""
    body = await request.json()
    code = string(body, "code", required=True, max_length=_MAX_CODE)
    async with services.pool.acquire() as conn, conn.transaction():
        codes = await two_factor.confirm(
            conn,
            services.secrets,
            services.config,
            request.requester.user_nid,
            code,
            language=language_of(request),
        )
    if codes is None:
        raise Forbidden("This code is wrong: check that the clock of your device is right")
    services.mail.wake()
    return {"backup_codes": codes}


async def post_backup_codes(services: Services, request: ApiRequest) -> JsonObject:
    """Ten new backup codes; the old ones are worth nothing any more."""
    body = await request.json(allow_empty=True)
    proof = await prove_owner(services, request, body, f"POST /{_PREFIX}/backup_codes")
    async with services.pool.acquire() as conn, conn.transaction():
        if proof is not None:
            await proof.use(conn)
        codes = await two_factor.new_backup_codes(conn, services.secrets, request.requester.user_nid)
    return {"backup_codes": codes}


async def post_disable(services: Services, request: ApiRequest) -> JsonObject:
    """Takes the second factor away, unless the account must have one."""
    body = await request.json(allow_empty=True)
    proof = await prove_owner(services, request, body, f"POST /{_PREFIX}/disable")
    async with services.pool.acquire() as conn, conn.transaction():
        if proof is not None:
            await proof.use(conn)
        account = await find_account(conn, request.requester.user_id)
        if account is not None and two_factor.required_for(services.config, account):
            raise Forbidden("This account must have a second factor", errcode=two_factor.REQUIRED)
        await two_factor.disable(conn, services.config, request.requester.user_nid, language=language_of(request))
    services.mail.wake()
    return {}


ROUTES = [
    *client_routes("GET", "/status", get_status, Auth.USER, versions=(), unstable=(_PREFIX,)),
    *client_routes("POST", "/begin", post_begin, Auth.USER, versions=(), unstable=(_PREFIX,)),
    *client_routes("POST", "/confirm", post_confirm, Auth.USER, versions=(), unstable=(_PREFIX,)),
    *client_routes("POST", "/backup_codes", post_backup_codes, Auth.USER, versions=(), unstable=(_PREFIX,)),
    *client_routes("POST", "/disable", post_disable, Auth.USER, versions=(), unstable=(_PREFIX,)),
]
