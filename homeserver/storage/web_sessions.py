"""Sessions of browsers at the server's own pages, by the hashes of their cookies."""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class WebSession:
    """A session and whose it is.

    `authenticated_ts` is None while a second factor is due. With `keep` the browser keeps the cookie when it is closed.
    """

    token_hash: bytes
    user_nid: int
    user_id: str
    displayname: str | None
    suspended: bool
    shadow_banned: bool
    created_ts: int
    last_seen_ts: int
    authenticated_ts: int | None
    keep: bool


async def insert_session(
    conn: Connection, token_hash: bytes, user_nid: int, *, now_ms: int, authenticated_ts: int | None, keep: bool
) -> None:
    await conn.execute(
        "INSERT INTO web_sessions (token_hash, user_nid, created_ts, last_seen_ts, authenticated_ts, keep) "
        "VALUES ($1, $2, $3, $3, $4, $5)",
        token_hash,
        user_nid,
        now_ms,
        authenticated_ts,
        keep,
    )


async def find_session(conn: Connection, token_hash: bytes) -> WebSession | None:
    """A session of an account that is neither deactivated nor locked, however old the session is."""
    row = await conn.fetchrow(
        "SELECT s.token_hash, s.user_nid, u.user_id, a.displayname, a.suspended, a.shadow_banned, s.created_ts, "
        "s.last_seen_ts, s.authenticated_ts, s.keep "
        "FROM web_sessions s JOIN accounts a USING (user_nid) JOIN users u USING (user_nid) "
        "WHERE s.token_hash = $1 AND NOT a.deactivated AND NOT a.locked",
        token_hash,
    )
    return WebSession(**row) if row is not None else None


async def renew_session(conn: Connection, token_hash: bytes, new_hash: bytes, now_ms: int) -> bool:
    """Gives a session another token, because its user has just proved who they are.

    :returns: whether there is such a session
    """
    done = await conn.fetchval(
        "UPDATE web_sessions SET token_hash = $2, authenticated_ts = $3, last_seen_ts = $3 WHERE token_hash = $1 "
        "RETURNING true",
        token_hash,
        new_hash,
        now_ms,
    )
    return bool(done)


async def update_last_seen(conn: Connection, token_hash: bytes, now_ms: int) -> None:
    await conn.execute("UPDATE web_sessions SET last_seen_ts = $2 WHERE token_hash = $1", token_hash, now_ms)


async def delete_session(conn: Connection, token_hash: bytes) -> bool:
    """:returns: whether there was one"""
    done = await conn.fetchval("DELETE FROM web_sessions WHERE token_hash = $1 RETURNING true", token_hash)
    return bool(done)


async def delete_all_sessions(conn: Connection, user_nid: int) -> None:
    await conn.execute("DELETE FROM web_sessions WHERE user_nid = $1", user_nid)


async def delete_old_sessions(conn: Connection, *, seen_before: int, created_before: int) -> None:
    """Deletes those that were last seen, or made, before these times (ms)."""
    await conn.execute(
        "DELETE FROM web_sessions WHERE last_seen_ts < $1 OR created_ts < $2", seen_before, created_before
    )
