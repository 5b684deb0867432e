"""Access token -> Requester.

# spec: client-server-api/#using-access-tokens
# spec: application-service-api/#identity-assertion
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from homeserver.accounts.moderation import locked_error
from homeserver.accounts.sessions import confirm_tokens
from homeserver.appservice_registrations import Appservice, Appservices
from homeserver.config import RateLimit
from homeserver.http.known_tokens import KnownTokens
from homeserver.http.requests import ApiRequest, Requester
from homeserver.http.restrictions import check_not_locked, check_not_suspended
from homeserver.http.routes import Auth
from homeserver.protocol.errors import BadRequest, Forbidden, Unauthorized
from homeserver.storage import access_tokens, accounts, devices

if TYPE_CHECKING:
    from homeserver.accounts.device_activity import DeviceActivity
    from homeserver.storage.stream import Pool


class Authenticator:
    """Finds out who asks."""

    def __init__(
        self, pool: Pool, appservices: Appservices, activity: DeviceActivity, *, query_access_tokens: bool
    ) -> None:
        self._pool = pool
        self._tokens = KnownTokens(pool)
        self._appservices = appservices
        self.activity = activity
        self._query_access_tokens = query_access_tokens

    async def authenticate(self, request: ApiRequest, auth: Auth) -> Requester | None:
        """Who asks, None where nobody need say so and nobody does.

        :raises Unauthorized: for a token that is missing or not known
        :raises Forbidden: if the one who asks may not call this route
        """
        if auth in (Auth.NONE, Auth.SERVER):
            return None
        token = self._token(request)
        if token is None:
            if auth is Auth.OPTIONAL:
                return None
            raise Unauthorized("An access token is needed", errcode="M_MISSING_TOKEN")
        token_hash = access_tokens.hash_token(token)
        appservice = self._appservices.by_token_hash(token_hash)
        if appservice is not None:
            requester = await self._masqueraded(request, appservice)
        else:
            requester = await self._user(request, token_hash)
        if requester.guest and auth in (Auth.USER, Auth.ADMIN):
            raise Forbidden("Guests can't do this", errcode="M_GUEST_ACCESS_FORBIDDEN")
        if auth is Auth.ADMIN and not requester.admin:
            raise Forbidden("Only administrators of this server can do this")
        check_not_suspended(request, requester.suspended)
        return requester

    async def refusal(self, token_hash: bytes) -> Unauthorized | None:
        """What the holder of a token of that hash is told who may not use it any more; None if they may."""
        row = await self._tokens.find(token_hash)
        if row is None or row.deactivated:
            return Unauthorized("The session has ended")
        return locked_error() if row.locked else None

    def forget(self, user_nid: int) -> None:
        """Some token or right of that user has changed, so that what is known of them must be read anew."""
        self._tokens.forget(user_nid)

    def appservice(self, request: ApiRequest) -> Appservice | None:
        """The application service whose token the request carries, whoever it acts as."""
        token = self._token(request)
        return self._appservices.by_token_hash(access_tokens.hash_token(token)) if token is not None else None

    def the_appservice(self, request: ApiRequest) -> Appservice:
        """The same where nobody else may ask.

        :raises Unauthorized: M_MISSING_TOKEN, or M_UNKNOWN_TOKEN for a token of anybody else

        # spec: application-service-api/#server-admin-style-permissions
        """
        appservice = self.appservice(request)
        if appservice is None:
            errcode = "M_MISSING_TOKEN" if self._token(request) is None else "M_UNKNOWN_TOKEN"
            raise Unauthorized("The token of an application service is needed", errcode=errcode)
        return appservice

    def _token(self, request: ApiRequest) -> str | None:
        header = request.headers.get("Authorization")
        if header is not None:
            scheme, _, token = header.partition(" ")
            if scheme.lower() == "bearer" and token.strip():
                return token.strip()
            raise Unauthorized("The Authorization header must be: Bearer <token>", errcode="M_MISSING_TOKEN")
        # spec: client-server-api/#using-access-tokens (until v1.20)
        return request.query.string("access_token") or None if self._query_access_tokens else None

    async def _user(self, request: ApiRequest, token_hash: bytes) -> Requester:
        row = await self._tokens.find(token_hash)
        now_ms = int(time.time() * 1000)
        if row is None or row.deactivated:
            raise Unauthorized("The access token is not known")
        if row.expires_ts is not None and row.expires_ts <= now_ms:
            raise Unauthorized("The access token has expired", soft_logout=True)
        if row.pending:
            good = await confirm_tokens(self._pool, row)
            self.forget(row.user_nid)
            if not good:
                raise Unauthorized("The access token is not known")
        check_not_locked(request, row.locked)
        self.activity.seen(row.user_nid, row.device_id, row.last_seen_ts, now_ms, request.client_address)
        return Requester(
            user_id=row.user_id,
            user_nid=row.user_nid,
            device_id=row.device_id,
            admin=row.admin,
            guest=row.guest,
            appservice_id=row.appservice_id,
            token_hash=token_hash,
            client_id=row.client_id,
            scope=row.scope,
            rate_limited=row.messages_per_second != 0,
            suspended=row.suspended,
            shadow_banned=row.shadow_banned,
            message_limit=_message_limit(row),
        )

    async def _masqueraded(self, request: ApiRequest, appservice: Appservice) -> Requester:
        query = request.query
        user_id = query.string("user_id") or appservice.sender
        device_id = query.string("device_id") or query.string("org.matrix.msc3202.device_id")
        if not appservice.covers_user(user_id):
            raise Forbidden("The application service may not act as this user")
        async with self._pool.acquire() as conn:
            account = await accounts.find_account(conn, user_id)
            if account is None:
                raise Forbidden("The application service has not registered this user")
            if account.deactivated:
                raise Forbidden("This user has been deactivated", errcode="M_USER_DEACTIVATED")
            check_not_locked(request, account.locked)
            if device_id is not None and not await devices.device_exists(conn, account.user_nid, device_id):
                raise BadRequest("This user has no such device", errcode="M_UNKNOWN_DEVICE")
        return Requester(
            user_id=user_id,
            user_nid=account.user_nid,
            device_id=device_id,
            admin=account.admin,
            guest=False,
            appservice_id=appservice.id,
            token_hash=None,
            rate_limited=appservice.rate_limited,
            suspended=account.suspended,
            shadow_banned=account.shadow_banned,
        )


def _message_limit(row: access_tokens.TokenOwner) -> RateLimit | None:
    if not row.messages_per_second:
        return None
    return RateLimit(per_second=row.messages_per_second, burst=max(1, row.burst_count or 0))
