"""Links that let their holder set another password, as hashes."""

from __future__ import annotations

from homeserver.storage.stream import Connection


async def insert_recovery_token(
    conn: Connection, token_hash: bytes, user_nid: int | None, *, created_ts: int, expires_ts: int
) -> None:
    """For nobody (None) the same statement runs and nothing is kept."""
    await conn.execute(
        "INSERT INTO recovery_tokens (token_hash, user_nid, created_ts, expires_ts) "
        "SELECT $1::bytea, $2::bigint, $3::bigint, $4::bigint WHERE $2::bigint IS NOT NULL",
        token_hash,
        user_nid,
        created_ts,
        expires_ts,
    )


async def find_recovery_token(conn: Connection, token_hash: bytes, now_ms: int) -> int | None:
    """Whose account it recovers, if it is good for that."""
    found: int | None = await conn.fetchval(
        "SELECT user_nid FROM recovery_tokens WHERE token_hash = $1 AND expires_ts > $2", token_hash, now_ms
    )
    return found


async def take_recovery_token(conn: Connection, token_hash: bytes, now_ms: int) -> int | None:
    """Uses a token up. Of two at once one gets the user; for the other it is None."""
    found: int | None = await conn.fetchval(
        "DELETE FROM recovery_tokens WHERE token_hash = $1 AND expires_ts > $2 RETURNING user_nid", token_hash, now_ms
    )
    return found


async def delete_recovery_tokens(conn: Connection, user_nid: int) -> None:
    await conn.execute("DELETE FROM recovery_tokens WHERE user_nid = $1", user_nid)


async def delete_expired_recovery_tokens(conn: Connection, now_ms: int) -> None:
    """Deletes some of those that are over, and waits for nobody."""
    await conn.execute(
        "DELETE FROM recovery_tokens WHERE token_hash IN (SELECT token_hash FROM recovery_tokens "
        "WHERE expires_ts <= $1 ORDER BY expires_ts LIMIT 100 FOR UPDATE SKIP LOCKED)",
        now_ms,
    )
