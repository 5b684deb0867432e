"""The device authorization grant: a device shows a code, its user types it into a browser on another one.

The page of the verification address looks the code up (`find`), shows which application asks and what for, and calls
`approve` or `deny`. The device asks the token endpoint meanwhile, not more often than it was told.

User codes are short enough to be typed, so whoever looks them up must count the tries: the limit `code`.

# spec: client-server-api/#device-authorisation-grant
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from homeserver.accounts.moderation import check_may_sign_in
from homeserver.accounts.oauth2.authorization import may_use_device
from homeserver.accounts.oauth2.clients import DEVICE_CODE, Client, find_client, note_client_used
from homeserver.accounts.oauth2.errors import OAuth2Error
from homeserver.accounts.oauth2.scope import parse_scope
from homeserver.config import OAuth2Config
from homeserver.protocol.errors import Forbidden, NotFound
from homeserver.storage import oauth2
from homeserver.storage.access_tokens import hash_token
from homeserver.storage.oauth2 import StoredGrant
from homeserver.storage.stream import Connection

LIFETIME_MS = 30 * 60 * 1000
INTERVAL_MS = 5 * 1000
_TOLERANCE_MS = 500  # clocks of devices and the way to us
_KEPT_MS = 60 * 60 * 1000  # after it expired, so that a device that still asks is told so
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels, so no words; RFC 8628 6.1
_LENGTH = 8
_TRIES = 5


@dataclass(frozen=True, slots=True)
class DeviceGrant:
    """What a device asks for and nobody has answered yet."""

    client: Client
    scope: str
    device_id: str
    expires_ts: int
    device_code_hash: bytes


@dataclass(frozen=True, slots=True)
class DeviceCodes:
    """What the device is given. `user_code` is as people are shown it."""

    device_code: str
    user_code: str


async def begin(conn: Connection, client: Client, scope: str) -> DeviceCodes:
    """A device asks. Inside a transaction.

    :raises OAuth2Error: unauthorized_client, invalid_scope
    """
    if DEVICE_CODE not in client.grant_types:
        raise OAuth2Error("unauthorized_client", "The client has not registered for this grant")
    try:
        granted = parse_scope(scope)
    except ValueError as error:
        raise OAuth2Error("invalid_scope", str(error)) from None
    await note_client_used(conn, client)
    now_ms = int(time.time() * 1000)
    device_code = secrets.token_urlsafe(32)
    stored = StoredGrant(
        device_code_hash=hash_token(device_code),
        client_id=client.client_id,
        scope=granted.text,
        device_id=granted.device_id,
        state="pending",
        user_nid=None,
        interval_ms=INTERVAL_MS,
        polled_ts=None,
        expires_ts=now_ms + LIFETIME_MS,
    )
    for _ in range(_TRIES):
        user_code = "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
        if await oauth2.insert_grant(conn, stored, hash_token(user_code), forget_before=now_ms - _KEPT_MS):
            return DeviceCodes(device_code, f"{user_code[:4]}-{user_code[4:]}")
    raise OAuth2Error("temporarily_unavailable", "Too many devices are being signed in", status=503)


async def find(conn: Connection, config: OAuth2Config, user_code: str) -> DeviceGrant | None:
    """What stands behind a code that somebody typed, in whatever case and with whatever between its letters.

    None if it is unknown, expired or answered. The caller counts the tries.
    """
    letters = "".join(letter for letter in user_code[:64].upper() if letter in _LETTERS)
    if len(letters) != _LENGTH:
        return None
    stored = await oauth2.find_grant_by_user_code(conn, hash_token(letters))
    if stored is None or stored.state != "pending" or stored.expires_ts <= int(time.time() * 1000):
        return None
    client = await find_client(conn, config, stored.client_id)
    if client is None:
        return None
    return DeviceGrant(client, stored.scope, stored.device_id, stored.expires_ts, stored.device_code_hash)


async def approve(conn: Connection, grant: DeviceGrant, user_nid: int) -> None:
    """The person has agreed. Inside a transaction.

    :raises NotFound: if it has been answered or has expired meanwhile
    :raises Forbidden: if the device that is asked for is another application's; M_USER_DEACTIVATED
    :raises Unauthorized: M_USER_LOCKED
    """
    await check_may_sign_in(conn, user_nid)
    if not await may_use_device(conn, grant.client, user_nid, grant.device_id):
        raise Forbidden("You have this device in another application")
    await _decide(conn, grant, "approved", user_nid)


async def deny(conn: Connection, grant: DeviceGrant) -> None:
    """The person has refused.

    :raises NotFound: if it has been answered or has expired meanwhile
    """
    await _decide(conn, grant, "denied", None)


async def take(conn: Connection, client: Client, device_code: str) -> StoredGrant | OAuth2Error:
    """The device asks for the outcome. Inside a transaction that is committed whatever comes out.

    :returns: the grant if it was approved, which is used up then; or what to tell the device
    """
    device_code_hash = hash_token(device_code)
    stored = await oauth2.lock_grant(conn, device_code_hash)
    if stored is None or stored.client_id != client.client_id:
        return OAuth2Error("invalid_grant", "There is no such device code")
    now_ms = int(time.time() * 1000)
    if stored.expires_ts <= now_ms:
        return OAuth2Error("expired_token", "The device code has expired")
    if stored.state == "denied":
        return OAuth2Error("access_denied", "The user refused")
    if stored.state == "pending":
        early = stored.polled_ts is not None and now_ms - stored.polled_ts < stored.interval_ms - _TOLERANCE_MS
        # RFC 8628 3.5: who asks too soon is to wait five seconds longer each time, from then on.
        interval_ms = stored.interval_ms + 5000 if early else stored.interval_ms
        await oauth2.note_polled(conn, device_code_hash, now_ms, min(interval_ms, 60_000))
        if early:
            return OAuth2Error("slow_down", "This is asked too often")
        return OAuth2Error("authorization_pending", "The user has not answered yet")
    await oauth2.delete_grant(conn, device_code_hash)
    return stored


async def _decide(conn: Connection, grant: DeviceGrant, state: oauth2.GrantState, user_nid: int | None) -> None:
    if not await oauth2.decide_grant(conn, grant.device_code_hash, state, user_nid, int(time.time() * 1000)):
        raise NotFound("This code has been answered, or it has expired")
