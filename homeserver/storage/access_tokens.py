"""Access tokens, by their hashes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class TokenOwner:
    """What a token stands for, and of its account, device and session whatever a request needs at once.

    `pending` says that neither it nor the refresh token that it came with, `refresh_hash`, has been used yet.
    """

    user_nid: int
    user_id: str
    device_id: str
    expires_ts: int | None
    last_seen_ts: int | None
    admin: bool
    guest: bool
    deactivated: bool
    appservice_id: str | None
    refresh_hash: bytes | None
    pending: bool
    client_id: str | None
    scope: str | None
    locked: bool = False
    suspended: bool = False
    shadow_banned: bool = False
    messages_per_second: int | None = None  # limits of this user's own: 0 is none at all
    burst_count: int | None = None


def hash_token(token: str) -> bytes:
    """What of an access token is stored and looked up: SHA-256. Tokens are random, so it needs no salt."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


async def find_token(conn: Connection, token_hash: bytes) -> TokenOwner | None:
    row = await conn.fetchrow(
        "SELECT t.user_nid, u.user_id, t.device_id, t.expires_ts, d.last_seen_ts, a.admin, a.guest, a.deactivated, "
        "a.appservice_id, a.locked, a.suspended, a.shadow_banned, o.messages_per_second, o.burst_count, "
        "t.refresh_hash, coalesce(r.pending, false) AS pending, s.client_id, s.scope "
        "FROM access_tokens t JOIN devices d USING (user_nid, device_id) "
        "JOIN accounts a USING (user_nid) JOIN users u USING (user_nid) "
        "LEFT JOIN rate_limit_overrides o USING (user_nid) "
        "LEFT JOIN refresh_tokens r ON r.token_hash = t.refresh_hash "
        "LEFT JOIN sessions s ON (s.user_nid, s.device_id) = (t.user_nid, t.device_id) WHERE t.token_hash = $1",
        token_hash,
    )
    return TokenOwner(**row) if row is not None else None


async def delete_tokens(conn: Connection, user_nid: int, device_id: str) -> None:
    """Ends the access tokens of a device. The device stays."""
    await conn.execute("DELETE FROM access_tokens WHERE user_nid = $1 AND device_id = $2", user_nid, device_id)


async def insert_token(
    conn: Connection,
    user_nid: int,
    device_id: str,
    token_hash: bytes,
    *,
    now_ms: int,
    expires_ts: int | None = None,
    refresh_hash: bytes | None = None,
) -> None:
    """Gives a device that exists one more token. It ends with the refresh token `refresh_hash`."""
    await conn.execute(
        "INSERT INTO access_tokens (token_hash, user_nid, device_id, created_ts, expires_ts, refresh_hash) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        token_hash,
        user_nid,
        device_id,
        now_ms,
        expires_ts,
        refresh_hash,
    )
