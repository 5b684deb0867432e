"""Accounts made by who knows the shared secret: scripts, and tools written for Synapse, whose protocol this is.

A request carries a nonce of this server and a MAC of what is to be made, keyed with the secret. The nonce says by
itself when it was given out and by whom, so only those are kept, for a minute, that a right MAC has used up.
"""

from __future__ import annotations

import hmac
import secrets
import time

from homeserver.accounts.password import hash_new_password
from homeserver.accounts.register import check_available, create_account
from homeserver.accounts.registration import wanted_localpart
from homeserver.accounts.sessions import open_session
from homeserver.http import ApiRequest, Auth, Route
from homeserver.http.bodies import boolean, string
from homeserver.protocol.errors import BadRequest, Forbidden
from homeserver.protocol.events import JsonObject
from homeserver.rate_limits import address_key
from homeserver.services import Services
from homeserver.storage import audit_log
from homeserver.storage.accounts import update_profile_field
from homeserver.storage.audit_log import Actor
from homeserver.storage.registration_nonces import use_nonce

_NONCE_SECONDS = 60
_PATH = "/_synapse/admin/v1/register"


async def get_nonce(services: Services, request: ApiRequest) -> JsonObject:
    secret = _secret(services)
    text = f"{int(time.time())}-{secrets.token_hex(16)}"
    return {"nonce": f"{text}-{_sign(secret, text)}"}


async def post_register(services: Services, request: ApiRequest) -> JsonObject:
    secret = _secret(services)
    body = await request.json()
    username = string(body, "username", required=True, max_length=255)
    password = string(body, "password", required=True, max_length=512)
    admin = boolean(body, "admin", default=False)
    displayname = string(body, "displayname", max_length=256)
    async with services.login_attempts.guess("code", address_key(request.client_address)):
        _check_mac(secret, body, username, password, admin)
    await _use_nonce(services, string(body, "nonce", required=True))
    localpart = wanted_localpart(username)
    async with services.pool.acquire() as conn:
        await check_available(conn, request.http.appservices, server_name=services.server_name, localpart=localpart)
    password_hash = await hash_new_password(password, services.config.passwords, localpart)
    async with services.pool.acquire() as conn, conn.transaction():
        account = await create_account(
            conn, server_name=services.server_name, localpart=localpart, password_hash=password_hash, admin=admin
        )
        actor = Actor("shared secret", request.client_address)
        await audit_log.append(conn, actor, "user.create", account.user_id, {"admin": admin})
        if displayname is not None:
            await update_profile_field(conn, account.user_nid, "displayname", displayname)
        answer: JsonObject = {"user_id": account.user_id, "home_server": services.server_name}
        if not boolean(body, "inhibit_login", default=False):
            session = await open_session(conn, account.user_nid)
            answer |= {"access_token": session.access_token, "device_id": session.device_id}
    return answer


def _check_mac(secret: bytes, body: JsonObject, username: str, password: str, admin: bool) -> None:
    nonce = string(body, "nonce", required=True, max_length=255)
    if not _is_fresh(secret, nonce):
        raise BadRequest("The nonce is not known or too old")
    signed = [nonce, username, password, "admin" if admin else "notadmin"]
    user_type = string(body, "user_type", max_length=64)
    if user_type is not None:
        signed.append(user_type)
    expected = hmac.new(secret, "\0".join(signed).encode(), "sha1").hexdigest()
    given = string(body, "mac", required=True, max_length=255)
    if not hmac.compare_digest(expected.encode(), given.encode()):
        raise Forbidden("The MAC is wrong")


async def _use_nonce(services: Services, nonce: str) -> None:
    """:raises BadRequest: if it has been used; of several requests with it at once one goes on"""
    now_ms = int(time.time() * 1000)
    async with services.pool.acquire() as conn:
        if not await use_nonce(conn, nonce, now_ms=now_ms, expires_ts=now_ms + 2 * _NONCE_SECONDS * 1000):
            raise BadRequest("The nonce has been used")


def _is_fresh(secret: bytes, nonce: str) -> bool:
    text, _, signature = nonce.rpartition("-")
    if not hmac.compare_digest(_sign(secret, text).encode(), signature.encode()):
        return False
    return time.time() - int(text.partition("-")[0]) < _NONCE_SECONDS


def _sign(secret: bytes, text: str) -> str:
    # Nobody may get a MAC of what they choose from here: the text has another form than what clients sign.
    return hmac.new(secret, b"nonce:" + text.encode(), "sha256").hexdigest()


def _secret(services: Services) -> bytes:
    secret = services.config.registration.shared_secret
    if secret is None:
        raise BadRequest("Registration with a shared secret is not configured")
    return secret.get_secret_value().encode()


ROUTES = [
    Route("GET", _PATH, get_nonce, Auth.NONE),
    Route("POST", _PATH, post_register, Auth.NONE),
]
