"""Tokens that let their holder register, for a number of uses or until a time.

A use is pending from the moment that the token was shown until the account is made, so that nobody who has shown a good
token is told later that it is used up.
"""

from __future__ import annotations

from homeserver.storage.stream import Connection


async def is_usable(conn: Connection, token: str, now_ms: int) -> bool:
    return bool(
        await conn.fetchval(
            "SELECT EXISTS (SELECT FROM registration_tokens WHERE token = $1 "
            "AND (uses_allowed IS NULL OR pending + completed < uses_allowed) "
            "AND (expires_ts IS NULL OR expires_ts > $2))",
            token,
            now_ms,
        )
    )


async def begin_use(conn: Connection, token: str, now_ms: int) -> bool:
    """Makes one use pending. Returns whether the token is good for one."""
    done = await conn.fetchval(
        "UPDATE registration_tokens SET pending = pending + 1 WHERE token = $1 "
        "AND (uses_allowed IS NULL OR pending + completed < uses_allowed) "
        "AND (expires_ts IS NULL OR expires_ts > $2) RETURNING true",
        token,
        now_ms,
    )
    return bool(done)


async def complete_use(conn: Connection, token: str) -> None:
    """The pending use has made an account."""
    await conn.execute(
        "UPDATE registration_tokens SET pending = greatest(pending - 1, 0), completed = completed + 1 WHERE token = $1",
        token,
    )


async def abandon_use(conn: Connection, token: str) -> None:
    """The pending use will make no account."""
    await conn.execute("UPDATE registration_tokens SET pending = greatest(pending - 1, 0) WHERE token = $1", token)


async def insert_token(
    conn: Connection, token: str, *, uses_allowed: int | None = None, expires_ts: int | None = None
) -> bool:
    """Returns whether it is new."""
    made = await conn.fetchval(
        "INSERT INTO registration_tokens (token, uses_allowed, expires_ts) VALUES ($1, $2, $3) "
        "ON CONFLICT DO NOTHING RETURNING true",
        token,
        uses_allowed,
        expires_ts,
    )
    return bool(made)
