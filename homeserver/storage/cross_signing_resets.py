"""Users who have said in their browser that their cross-signing keys may be replaced."""

from __future__ import annotations

from homeserver.storage.stream import Connection


async def upsert_reset(conn: Connection, user_nid: int, expires_ts: int) -> None:
    await conn.execute(
        "INSERT INTO cross_signing_resets (user_nid, expires_ts) VALUES ($1, $2) "
        "ON CONFLICT (user_nid) DO UPDATE SET expires_ts = excluded.expires_ts",
        user_nid,
        expires_ts,
    )


async def is_allowed(conn: Connection, user_nid: int, now_ms: int) -> bool:
    return bool(
        await conn.fetchval(
            "SELECT EXISTS (SELECT FROM cross_signing_resets WHERE user_nid = $1 AND expires_ts > $2)",
            user_nid,
            now_ms,
        )
    )


async def take_reset(conn: Connection, user_nid: int, now_ms: int) -> bool:
    """Uses a permission up.

    :returns: whether there was one
    """
    done = await conn.fetchval(
        "DELETE FROM cross_signing_resets WHERE user_nid = $1 AND expires_ts > $2 RETURNING true", user_nid, now_ms
    )
    return bool(done)
