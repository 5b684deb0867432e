"""Login tokens, by their hashes."""

from __future__ import annotations

from homeserver.storage.stream import Connection


async def insert_login_token(
    conn: Connection, token_hash: bytes, user_nid: int, *, now_ms: int, expires_ts: int
) -> None:
    """Enters a token, and forgets those that have expired."""
    await conn.execute("DELETE FROM login_tokens WHERE expires_ts <= $1", now_ms)
    await conn.execute(
        "INSERT INTO login_tokens (token_hash, user_nid, expires_ts) VALUES ($1, $2, $3)",
        token_hash,
        user_nid,
        expires_ts,
    )


async def take_login_token(conn: Connection, token_hash: bytes, now_ms: int) -> int | None:
    """Uses a token up. Of several who try at the same time one gets it.

    :returns: the number of its user, None if there is no such token or it has expired
    """
    found: int | None = await conn.fetchval(
        "DELETE FROM login_tokens WHERE token_hash = $1 AND expires_ts > $2 RETURNING user_nid", token_hash, now_ms
    )
    return found
