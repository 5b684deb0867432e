"""OpenID tokens, by their hashes."""

from __future__ import annotations

from homeserver.storage.stream import Connection


async def insert_openid_token(
    conn: Connection, token_hash: bytes, user_nid: int, *, now_ms: int, expires_ts: int
) -> None:
    """Enters a token, and forgets those that have expired."""
    await conn.execute("DELETE FROM openid_tokens WHERE expires_ts <= $1", now_ms)
    await conn.execute(
        "INSERT INTO openid_tokens (token_hash, user_nid, expires_ts) VALUES ($1, $2, $3)",
        token_hash,
        user_nid,
        expires_ts,
    )


async def find_openid_user(conn: Connection, token_hash: bytes, now_ms: int) -> str | None:
    """The id of the user whose token that is, if it has not expired and the account is not deactivated."""
    found: str | None = await conn.fetchval(
        "SELECT u.user_id FROM openid_tokens t JOIN users u USING (user_nid) JOIN accounts a USING (user_nid) "
        "WHERE t.token_hash = $1 AND t.expires_ts > $2 AND NOT a.deactivated",
        token_hash,
        now_ms,
    )
    return found
