"""From codes and refresh tokens to sessions; revocation; introspection.

A code is good once. Whoever brings one a second time, or brings one that was stolen from its client, is told the same
as for one that never was; a second time also ends the session that the first time gave, because nobody can say which of
the two was the right client. What is used up stays so even where the answer is an error, so the outcome of each
transaction is a value, and an error is raised only after the commit.

# spec: client-server-api/#grant-types
# spec: client-server-api/#token-revocation
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from homeserver.accounts.new_devices import notify_if_unexpected
from homeserver.accounts.oauth2 import device_grants
from homeserver.accounts.oauth2.authorization import may_use_device
from homeserver.accounts.oauth2.clients import (
    AUTHORIZATION_CODE,
    DEVICE_CODE,
    REFRESH_TOKEN,
    Client,
    note_client_used,
)
from homeserver.accounts.oauth2.errors import OAuth2Error, invalid_grant, invalid_request
from homeserver.accounts.oauth2.scope import API
from homeserver.accounts.oauth2.signed_tokens import TokenKey
from homeserver.accounts.sessions import (
    MakeToken,
    OAuth2Grant,
    RefreshFailed,
    Session,
    confirm_tokens,
    end_sessions,
    family_hash_of,
    find_refreshable,
    open_session,
    refresh_lifetime_ms,
    refresh_session,
)
from homeserver.config import Config
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.storage import oauth2, refresh_tokens
from homeserver.storage.access_tokens import find_token, hash_token
from homeserver.storage.refresh_tokens import StoredSession
from homeserver.storage.stream import Connection, Pool, Stream, Write
from homeserver.storage.users import find_user_id

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Issuing:
    """How this server gives tokens. With a `key` access tokens are signed and say what they are for.

    `address` is where the client asks from, `language` what its user reads; both for the mail about a new device.
    """

    config: Config
    issuer: str
    key: Callable[[], TokenKey] | None = None
    address: str = ""
    language: str = "en"

    @property
    def lifetime_ms(self) -> int:
        return self.config.sessions.access_token_seconds * 1000

    def maker(self, user_id: str, client_id: str, scope: str) -> MakeToken | None:
        """What makes the access tokens of a session; None where they say nothing."""
        if self.key is None:
            return None
        return self.key().maker(
            issuer=self.issuer, audience=self.config.server_name, user_id=user_id, client_id=client_id, scope=scope
        )


@dataclass(frozen=True, slots=True)
class Issued:
    """A session that was opened or refreshed for a client."""

    user_nid: int
    scope: str
    session: Session

    def body(self) -> JsonObject:
        """What the client is answered.  # spec: client-server-api/#authorisation-code-flow"""
        return {
            "access_token": self.session.access_token,
            "token_type": "Bearer",
            "expires_in": (self.session.expires_in_ms or 0) // 1000,
            "refresh_token": self.session.refresh_token,
            "scope": self.scope,
        }


async def give_tokens(stream: Stream, issuing: Issuing, client: Client, form: Mapping[str, str]) -> Issued:
    """Answers a token request of a client that has proved who it is.

    :param form: the request's parameters
    :raises OAuth2Error: for whatever is wrong
    """
    match form.get("grant_type"):
        case "authorization_code":
            return await _exchange_code(stream, issuing, client, form)
        case "refresh_token":
            return await _refresh(stream, issuing, client, form)
        case device_code if device_code == DEVICE_CODE:
            return await _exchange_device_code(stream, issuing, client, form)
        case None:
            raise invalid_request("grant_type is missing")
    raise OAuth2Error("unsupported_grant_type", f"Use {AUTHORIZATION_CODE}, {REFRESH_TOKEN} or {DEVICE_CODE}")


async def revoke(stream: Stream, token: str) -> int | None:
    """Ends the session of an access or refresh token, and its device. Whoever has the token may do that.

    # spec: client-server-api/#token-revocation

    :returns: the user whose session has ended, None if the token is nobody's (any more)
    """
    async with stream.write() as write:
        session = await find_refreshable(write.conn, token)
        owner = await find_token(write.conn, hash_token(token)) if session is None else None
        found = session or owner
        if found is None:
            return None
        await end_sessions(write, found.user_nid, [found.device_id])
        return found.user_nid


async def introspect(pool: Pool, token: str) -> JsonObject:
    """What an access token is good for (RFC 7662). Of one that is not (any more), and of any other token: nothing."""
    async with pool.acquire() as conn:
        owner = await find_token(conn, hash_token(token))
    now_ms = int(time.time() * 1000)
    if owner is None or owner.deactivated or owner.locked or (owner.expires_ts or now_ms + 1) <= now_ms:
        return {"active": False}
    if owner.pending and not await confirm_tokens(pool, owner):
        return {"active": False}
    answer: JsonObject = {
        "active": True,
        "token_type": "Bearer",
        "scope": owner.scope or f"{API[0]} urn:matrix:client:device:{owner.device_id}",
        "sub": owner.user_id,
        "username": owner.user_id[1:].partition(":")[0],
        "device_id": owner.device_id,
    }
    if owner.client_id is not None:
        answer["client_id"] = owner.client_id
    if owner.expires_ts is not None:
        answer["exp"] = owner.expires_ts // 1000
    return answer


async def _exchange_code(stream: Stream, issuing: Issuing, client: Client, form: Mapping[str, str]) -> Issued:
    code, verifier = form.get("code"), form.get("code_verifier")
    if not code:
        raise invalid_request("code is missing")
    async with stream.write() as write:
        outcome = await _use_code(write, issuing, client, hash_token(code), form.get("redirect_uri"), verifier)
    if isinstance(outcome, OAuth2Error):
        raise outcome
    return outcome


async def _use_code(
    write: Write, issuing: Issuing, client: Client, code_hash: bytes, redirect_uri: str | None, verifier: str | None
) -> Issued | OAuth2Error:
    conn = write.conn
    code = await oauth2.lock_code(conn, code_hash)
    if code is None or code.client_id != client.client_id:
        return invalid_grant("The code is not valid")
    if code.used:
        # spec: client-server-api/#authorisation-code-grant (RFC 6749 4.1.2)
        given = await refresh_tokens.lock_session_of_family(conn, code.family_hash) if code.family_hash else None
        if given is not None:
            await end_sessions(write, given.user_nid, [given.device_id])
        return invalid_grant("The code is not valid", ended=given.user_nid if given is not None else None)
    await oauth2.mark_code_used(conn, code_hash, None)
    if code.expires_ts <= int(time.time() * 1000):
        return invalid_grant("The code has expired")
    if redirect_uri != code.redirect_uri:
        return invalid_grant("redirect_uri is not that of the authorization request")
    if verifier is None or not _proves(verifier, code.code_challenge):
        return invalid_grant("code_verifier is not the one that code_challenge was made of")
    issued = await _open(conn, issuing, client, code.user_nid, code.scope, code.device_id)
    if isinstance(issued, Issued) and issued.session.refresh_token is not None:
        await oauth2.mark_code_used(conn, code_hash, family_hash_of(issued.session.refresh_token))
    return issued


async def _exchange_device_code(stream: Stream, issuing: Issuing, client: Client, form: Mapping[str, str]) -> Issued:
    device_code = form.get("device_code")
    if not device_code:
        raise invalid_request("device_code is missing")
    outcome: Issued | OAuth2Error
    async with stream.write() as write:
        grant = await device_grants.take(write.conn, client, device_code)
        if isinstance(grant, OAuth2Error):
            outcome = grant
        else:
            assert grant.user_nid is not None, "somebody approved it"
            outcome = await _open(write.conn, issuing, client, grant.user_nid, grant.scope, grant.device_id)
    if isinstance(outcome, OAuth2Error):
        raise outcome
    return outcome


async def _open(
    conn: Connection, issuing: Issuing, client: Client, user_nid: int, scope: str, device_id: str
) -> Issued | OAuth2Error:
    """The session of a grant that has been proved."""
    user_id = await find_user_id(conn, user_nid)
    assert user_id is not None, "users are never deleted"
    if not await may_use_device(conn, client, user_nid, device_id):
        return invalid_grant("The user has this device in another application")
    await note_client_used(conn, client)
    try:
        session = await open_session(
            conn,
            user_nid,
            device_id=device_id,
            display_name=client.name,
            expires_in_ms=issuing.lifetime_ms,
            refresh_expires_in_ms=refresh_lifetime_ms(issuing.config.sessions),
            oauth2=OAuth2Grant(client.client_id, scope, issuing.maker(user_id, client.client_id, scope)),
        )
    except MatrixError as error:  # the account has been locked or deactivated meanwhile
        return invalid_grant(error.message)
    if session.new_device:
        await notify_if_unexpected(
            conn, issuing.config, user_nid, device=client.name, address=issuing.address, language=issuing.language
        )
    return Issued(user_nid, scope, session)


async def _refresh(stream: Stream, issuing: Issuing, client: Client, form: Mapping[str, str]) -> Issued:
    token = form.get("refresh_token")
    if not token:
        raise invalid_request("refresh_token is missing")

    def make_token(session: StoredSession) -> MakeToken | None:
        return issuing.maker(session.user_id, client.client_id, session.scope or "")

    try:
        stored, session = await refresh_session(
            stream,
            token,
            client_id=client.client_id,
            expires_in_ms=issuing.lifetime_ms,
            refresh_expires_in_ms=refresh_lifetime_ms(issuing.config.sessions),
            make_token=make_token,
        )
    except RefreshFailed as failure:
        raise invalid_grant(failure.message, ended=failure.ended) from None
    return Issued(stored.user_nid, stored.scope or "", session)


def _proves(verifier: str, challenge: str) -> bool:
    """Whether that is what the challenge was made of (RFC 7636 4.6, S256)."""
    if not _VERIFIER.fullmatch(verifier):
        return False
    made = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    return hmac.compare_digest(made, challenge.encode())
