"""Sessions: a device with the access token that it has, and the refresh token, if its client can use one.

A refresh gives a new pair of tokens. The old refresh token stays good until the client shows that it has the new pair,
by using either of them; from then on it is spent. Whoever comes with a spent one is either a thief or has been robbed,
so that the session ends. All refresh tokens of a session begin with the same random text, its family: so that a spent
one is known for what it is without being kept.

# spec: client-server-api/#relationship-between-access-tokens-and-devices
# spec: client-server-api/#refreshing-access-tokens
"""

from __future__ import annotations

import re
import secrets
import string
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TypeAlias

from homeserver.accounts.moderation import check_may_sign_in
from homeserver.config import SessionsConfig
from homeserver.devices.device_lists import mark_changed
from homeserver.protocol.errors import Unauthorized
from homeserver.protocol.events import JsonObject
from homeserver.storage import refresh_tokens
from homeserver.storage.access_tokens import TokenOwner, delete_tokens, hash_token, insert_token
from homeserver.storage.devices import delete_all_devices, delete_devices, ensure_device, lock_device
from homeserver.storage.refresh_tokens import StoredSession
from homeserver.storage.sign_ins import delete_pending_sign_ins
from homeserver.storage.stream import Connection, Pool, Stream, Write

_REFRESH_TOKEN = re.compile(r"tpar_([0-9a-f]{32})_[A-Za-z0-9_-]{43}", re.ASCII)

MakeToken: TypeAlias = Callable[[str, int], str]
"""What makes an access token for (device id, lifetime in ms), for tokens that say something by themselves."""


@dataclass(frozen=True, slots=True)
class Session:
    """The tokens of a session that has just been opened or refreshed; nothing that is stored leads back to them."""

    device_id: str
    access_token: str
    refresh_token: str | None = None
    expires_in_ms: int | None = None
    new_device: bool = False  # whether the device was made for it

    def fields(self) -> JsonObject:
        """What of it /login and /register answer."""
        answer: JsonObject = {"access_token": self.access_token, "device_id": self.device_id}
        if self.refresh_token is not None:
            answer["refresh_token"] = self.refresh_token
        if self.expires_in_ms is not None:
            answer["expires_in_ms"] = self.expires_in_ms
        return answer


@dataclass(frozen=True, slots=True)
class OAuth2Grant:
    """What a session was granted by OAuth 2.0. `make_token` is for access tokens that say something by themselves."""

    client_id: str
    scope: str
    make_token: MakeToken | None = None


class RefreshFailed(Unauthorized):
    """A refresh token that can't be used. `ended` is the user whose session has ended because it was a spent one."""

    def __init__(self, message: str, *, ended: int | None = None, soft_logout: bool = False) -> None:
        super().__init__(message)
        if soft_logout:
            self.extra = {"soft_logout": True}
        self.ended = ended


async def open_session(
    conn: Connection,
    user_nid: int,
    *,
    device_id: str | None = None,
    display_name: str | None = None,
    refreshable: bool = False,
    expires_in_ms: int | None = None,
    refresh_expires_in_ms: int | None = None,
    oauth2: OAuth2Grant | None = None,
) -> Session:
    """New tokens for a device, which is made if need be. Any tokens that it had end. Inside a transaction.

    :param display_name: for a device that is made; one that exists keeps its own
    :param refreshable: whether the client can use a refresh token; sessions of OAuth 2.0 always can
    :param expires_in_ms: how long the access token is good for; None: until the session ends
    :param refresh_expires_in_ms: how long the refresh token is good for when it is not used; None: likewise
    :raises Unauthorized: M_USER_LOCKED
    :raises Forbidden: M_USER_DEACTIVATED
    """
    await check_may_sign_in(conn, user_nid)
    device_id = device_id or _new_device_id()
    now_ms = int(time.time() * 1000)
    made = await ensure_device(conn, user_nid, device_id, display_name=display_name, now_ms=now_ms)
    while not await lock_device(conn, user_nid, device_id):  # somebody has just deleted it
        made = await ensure_device(conn, user_nid, device_id, display_name=display_name, now_ms=now_ms)
    await delete_tokens(conn, user_nid, device_id)
    if oauth2 is None and not refreshable:
        await refresh_tokens.delete_session(conn, user_nid, device_id)
        session = await _give_access_token(conn, user_nid, device_id, now_ms, expires_in_ms)
        return replace(session, new_device=made)
    family = secrets.token_hex(16)
    await refresh_tokens.replace_session(
        conn,
        user_nid,
        device_id,
        hash_token(family),
        client_id=oauth2.client_id if oauth2 is not None else None,
        scope=oauth2.scope if oauth2 is not None else None,
        now_ms=now_ms,
    )
    session = await _give_pair(
        conn,
        user_nid,
        device_id,
        family,
        pending=False,
        expires_in_ms=expires_in_ms,
        refresh_expires_in_ms=refresh_expires_in_ms,
        make_token=oauth2.make_token if oauth2 is not None else None,
    )
    return replace(session, new_device=made)


async def open_client_session(
    conn: Connection,
    config: SessionsConfig,
    user_nid: int,
    *,
    device_id: str | None,
    display_name: str | None,
    refreshable: bool,
) -> Session:
    """A session of a client that logs in or registers, with the lifetimes of `config`. Inside a transaction.

    # spec: client-server-api/#refreshing-access-tokens
    """
    return await open_session(
        conn,
        user_nid,
        device_id=device_id,
        display_name=display_name,
        refreshable=refreshable,
        expires_in_ms=config.access_token_seconds * 1000 if refreshable else None,
        refresh_expires_in_ms=refresh_lifetime_ms(config),
    )


def refresh_lifetime_ms(config: SessionsConfig) -> int | None:
    """How long a refresh token is good for, in ms; None: until the session ends."""
    return config.refresh_token_days * 24 * 3600 * 1000 if config.refresh_token_days is not None else None


async def refresh_session(
    stream: Stream,
    refresh_token: str,
    *,
    client_id: str | None,
    expires_in_ms: int | None,
    refresh_expires_in_ms: int | None = None,
    make_token: Callable[[StoredSession], MakeToken | None] = lambda _: None,
) -> tuple[StoredSession, Session]:
    """New tokens for a session. The client may ask again with the same token until it uses one of the new ones.

    :param client_id: the OAuth 2.0 client that asks; None outside of OAuth 2.0
    :raises RefreshFailed: for a token that is unknown, expired, another client's, or spent; the last ends the session
    :raises Unauthorized: M_USER_LOCKED, not for OAuth 2.0; the token stays good for when the lock is lifted
    """
    async with stream.write() as write:
        conn = write.conn
        family = _family_of(refresh_token)
        stored = await refresh_tokens.lock_session_of_family(conn, hash_token(family)) if family else None
        if family is None or stored is None or stored.deactivated or stored.client_id != client_id:
            raise RefreshFailed("The refresh token is not known")
        user_nid, device_id = stored.user_nid, stored.device_id
        token_hash = hash_token(refresh_token)
        token = await refresh_tokens.find_refresh_token(conn, token_hash)
        now_ms = int(time.time() * 1000)
        if token is not None and token.expires_ts is not None and token.expires_ts <= now_ms:
            raise RefreshFailed("The refresh token has expired", soft_logout=True)
        if token is not None and client_id is None:
            # A client of OAuth 2.0 goes on, and is told by the API what is the matter: here it could only be told that
            # its session is over, and would forget its keys.
            await check_may_sign_in(conn, user_nid)
        if token is None:
            await end_sessions(write, user_nid, [device_id])
        else:
            if token.pending:
                await refresh_tokens.confirm_refresh_token(conn, user_nid, device_id, token_hash)
            session = await _give_pair(
                conn,
                user_nid,
                device_id,
                family,
                pending=True,
                expires_in_ms=expires_in_ms,
                refresh_expires_in_ms=refresh_expires_in_ms,
                make_token=make_token(stored),
            )
            return stored, session
    raise RefreshFailed("The refresh token has been used before: the session has ended", ended=user_nid)


async def confirm_tokens(pool: Pool, owner: TokenOwner) -> bool:
    """The client has used the access token that a refresh gave: what was there before the refresh ends.

    :returns: whether the token is still good; it is not if another answer to the same refresh was used first
    """
    assert owner.refresh_hash is not None, "only tokens of a refresh are pending"
    async with pool.acquire() as conn, conn.transaction():
        return await refresh_tokens.confirm_refresh_token(conn, owner.user_nid, owner.device_id, owner.refresh_hash)


async def end_sessions(
    write: Write, user_nid: int, device_ids: Collection[str] | None = None, *, except_device_id: str | None = None
) -> list[str]:
    """Ends sessions and deletes their devices: those named, or all (but one), and with all of them what could still
    become one: codes, login tokens, approved devices. Say `sessions_changed` after the commit.

    :returns: the devices that there were
    """
    if device_ids is None:
        await delete_pending_sign_ins(write.conn, user_nid)
        gone = await delete_all_devices(write.conn, user_nid, except_device_id=except_device_id)
    else:
        gone = await delete_devices(write.conn, user_nid, device_ids)
    if gone:
        await mark_changed(write, user_nid, gone)
    return gone


async def find_refreshable(conn: Connection, refresh_token: str) -> StoredSession | None:
    """The session that a refresh token belongs to, a spent one too, locked. Inside a transaction."""
    family_hash = family_hash_of(refresh_token)
    return await refresh_tokens.lock_session_of_family(conn, family_hash) if family_hash is not None else None


def family_hash_of(refresh_token: str) -> bytes | None:
    """What names the session of a refresh token as long as it lasts; None for what is no refresh token."""
    family = _family_of(refresh_token)
    return hash_token(family) if family is not None else None


async def _give_pair(
    conn: Connection,
    user_nid: int,
    device_id: str,
    family: str,
    *,
    pending: bool,
    expires_in_ms: int | None,
    refresh_expires_in_ms: int | None,
    make_token: MakeToken | None,
) -> Session:
    refresh_token = f"tpar_{family}_{secrets.token_urlsafe(32)}"
    refresh_hash = hash_token(refresh_token)
    now_ms = int(time.time() * 1000)
    await refresh_tokens.insert_refresh_token(
        conn,
        user_nid,
        device_id,
        refresh_hash,
        pending=pending,
        now_ms=now_ms,
        expires_ts=now_ms + refresh_expires_in_ms if refresh_expires_in_ms is not None else None,
    )
    access_token = make_token(device_id, expires_in_ms) if make_token and expires_in_ms is not None else None
    session = await _give_access_token(
        conn, user_nid, device_id, now_ms, expires_in_ms, refresh_hash=refresh_hash, access_token=access_token
    )
    return Session(device_id, session.access_token, refresh_token, expires_in_ms)


async def _give_access_token(
    conn: Connection,
    user_nid: int,
    device_id: str,
    now_ms: int,
    expires_in_ms: int | None,
    *,
    refresh_hash: bytes | None = None,
    access_token: str | None = None,
) -> Session:
    access_token = access_token or f"tpai_{secrets.token_urlsafe(32)}"
    await insert_token(
        conn,
        user_nid,
        device_id,
        hash_token(access_token),
        now_ms=now_ms,
        expires_ts=now_ms + expires_in_ms if expires_in_ms is not None else None,
        refresh_hash=refresh_hash,
    )
    return Session(device_id, access_token, None, expires_in_ms)


def _family_of(refresh_token: str) -> str | None:
    match = _REFRESH_TOKEN.fullmatch(refresh_token)
    return match.group(1) if match is not None else None


def _new_device_id() -> str:
    return "".join(secrets.choice(string.ascii_uppercase) for _ in range(12))
