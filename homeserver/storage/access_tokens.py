"""Access tokens, by their hashes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class TokenOwner:
    """What a token stands for, and of its account and device whatever a request needs at once."""

    user_nid: int
    user_id: str
    device_id: str
    expires_ts: int | None
    last_seen_ts: int | None
    admin: bool
    guest: bool
    deactivated: bool
    appservice_id: str | None
    locked: bool = False
    suspended: bool = False
    shadow_banned: bool = False


def hash_token(token: str) -> bytes:
    """What of an access token is stored and looked up: SHA-256. Tokens are random, so it needs no salt."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


async def find_token(conn: Connection, token_hash: bytes) -> TokenOwner | None:
    row = await conn.fetchrow(
        "SELECT t.user_nid, u.user_id, t.device_id, t.expires_ts, d.last_seen_ts, a.admin, a.guest, a.deactivated, "
        "a.appservice_id, a.locked, a.suspended, a.shadow_banned "
        "FROM access_tokens t JOIN devices d USING (user_nid, device_id) "
        "JOIN accounts a USING (user_nid) JOIN users u USING (user_nid) WHERE t.token_hash = $1",
        token_hash,
    )
    return TokenOwner(**row) if row is not None else None


async def replace_token(
    conn: Connection, user_nid: int, device_id: str, token_hash: bytes, *, now_ms: int, expires_ts: int | None = None
) -> None:
    """Gives a device that exists this token, instead of any that it had."""
    await conn.execute("DELETE FROM access_tokens WHERE user_nid = $1 AND device_id = $2", user_nid, device_id)
    await conn.execute(
        "INSERT INTO access_tokens (token_hash, user_nid, device_id, created_ts, expires_ts) "
        "VALUES ($1, $2, $3, $4, $5)",
        token_hash,
        user_nid,
        device_id,
        now_ms,
        expires_ts,
    )
