"""Walks through spaces that clients may go on with: one row a page, gone after an hour."""

from __future__ import annotations

from homeserver.storage.stream import Connection

_KEPT_MS = 60 * 60_000
_MOST_OF_A_USER = 50


async def insert_page(conn: Connection, token: str, user_nid: int, request: str, walk: bytes, created_ts: int) -> None:
    """Keeps where a walk is. The oldest of the same user go when there are many. Run it in a transaction."""
    await conn.execute(
        "DELETE FROM hierarchy_pages WHERE created_ts < $2 OR token IN (SELECT token FROM hierarchy_pages "
        "WHERE user_nid = $1 ORDER BY created_ts DESC OFFSET $3)",
        user_nid,
        created_ts - _KEPT_MS,
        _MOST_OF_A_USER,
    )
    await conn.execute(
        "INSERT INTO hierarchy_pages (token, user_nid, request, walk, created_ts) VALUES ($1, $2, $3, $4, $5)",
        token,
        user_nid,
        request,
        walk,
        created_ts,
    )


async def find_page(conn: Connection, token: str, user_nid: int, request: str) -> bytes | None:
    """What was kept under the token for this user and this request."""
    walk: bytes | None = await conn.fetchval(
        "SELECT walk FROM hierarchy_pages WHERE token = $1 AND user_nid = $2 AND request = $3", token, user_nid, request
    )
    return walk
