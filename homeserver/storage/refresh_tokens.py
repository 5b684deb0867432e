"""Sessions that can be refreshed, and their refresh tokens, by their hashes.

A session has one token that is in use and perhaps some that were given for it and that nobody has used yet (pending).
Access tokens hang on the refresh token that they came with and go with it. Whoever changes any of it locks the device
first, so that no two wait for each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.storage.devices import lock_device
from homeserver.storage.stream import Connection

_MOST_PENDING = 10  # answers that a client may lose one after the other


@dataclass(frozen=True, slots=True)
class StoredSession:
    """`client_id` and `scope` are those of OAuth 2.0, None for a session that was made otherwise."""

    user_nid: int
    user_id: str
    device_id: str
    client_id: str | None
    scope: str | None
    deactivated: bool


@dataclass(frozen=True, slots=True)
class RefreshToken:
    pending: bool
    expires_ts: int | None


async def replace_session(
    conn: Connection,
    user_nid: int,
    device_id: str,
    family_hash: bytes,
    *,
    client_id: str | None,
    scope: str | None,
    now_ms: int,
) -> None:
    """Gives a device that exists this session. Any that it had ends with its refresh tokens."""
    await delete_session(conn, user_nid, device_id)
    await conn.execute(
        "INSERT INTO sessions (user_nid, device_id, family_hash, client_id, scope, created_ts) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        user_nid,
        device_id,
        family_hash,
        client_id,
        scope,
        now_ms,
    )


async def delete_session(conn: Connection, user_nid: int, device_id: str) -> None:
    """Ends what a device can refresh, and the access tokens that came of it. The device stays."""
    await conn.execute("DELETE FROM sessions WHERE user_nid = $1 AND device_id = $2", user_nid, device_id)


async def lock_session_of_family(conn: Connection, family_hash: bytes) -> StoredSession | None:
    """The session whose refresh tokens begin with that family. Its device is locked until the transaction ends."""
    place = await conn.fetchrow("SELECT user_nid, device_id FROM sessions WHERE family_hash = $1", family_hash)
    if place is None or not await lock_device(conn, place["user_nid"], place["device_id"]):
        return None
    row = await conn.fetchrow(
        "SELECT s.user_nid, u.user_id, s.device_id, s.client_id, s.scope, a.deactivated FROM sessions s "
        "JOIN accounts a USING (user_nid) JOIN users u USING (user_nid) WHERE s.family_hash = $1",
        family_hash,
    )
    return StoredSession(**row) if row is not None else None


async def client_of_session(conn: Connection, user_nid: int, device_id: str) -> str | None:
    """The OAuth 2.0 client that a device's session was made for, None if there is none."""
    found: str | None = await conn.fetchval(
        "SELECT client_id FROM sessions WHERE user_nid = $1 AND device_id = $2", user_nid, device_id
    )
    return found


async def find_refresh_token(conn: Connection, token_hash: bytes) -> RefreshToken | None:
    row = await conn.fetchrow("SELECT pending, expires_ts FROM refresh_tokens WHERE token_hash = $1", token_hash)
    return RefreshToken(**row) if row is not None else None


async def insert_refresh_token(
    conn: Connection,
    user_nid: int,
    device_id: str,
    token_hash: bytes,
    *,
    pending: bool,
    now_ms: int,
    expires_ts: int | None,
) -> None:
    """Enters a token of a session, and forgets the oldest of too many that nobody has used."""
    await conn.execute(
        "DELETE FROM refresh_tokens WHERE token_hash IN (SELECT token_hash FROM refresh_tokens WHERE user_nid = $1 "
        "AND device_id = $2 AND pending ORDER BY created_ts DESC OFFSET $3)",
        user_nid,
        device_id,
        _MOST_PENDING - 1,
    )
    await conn.execute(
        "INSERT INTO refresh_tokens (token_hash, user_nid, device_id, pending, created_ts, expires_ts) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        token_hash,
        user_nid,
        device_id,
        pending,
        now_ms,
        expires_ts,
    )


async def confirm_refresh_token(conn: Connection, user_nid: int, device_id: str, token_hash: bytes) -> bool:
    """The client has that token and its access token: all others of its session end. Inside a transaction.

    :returns: whether the token is still there
    """
    # Of two that are used at the same time one is first, and the other is gone then.
    await lock_device(conn, user_nid, device_id)
    there = await conn.fetchval(
        "UPDATE refresh_tokens SET pending = false WHERE token_hash = $1 RETURNING true", token_hash
    )
    if there:
        await conn.execute(
            "DELETE FROM refresh_tokens WHERE user_nid = $1 AND device_id = $2 AND token_hash <> $3",
            user_nid,
            device_id,
            token_hash,
        )
    return bool(there)
