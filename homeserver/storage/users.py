"""Users, of this server and others, by their numbers. `names` remembers them; this is for transactions of their own."""

from __future__ import annotations

from homeserver.protocol.identifiers import domain_of
from homeserver.storage.stream import Connection


async def ensure_user(conn: Connection, user_id: str) -> int:
    """The number of a user, made if need be in the transaction of `conn`."""
    nid: int | None = await conn.fetchval("SELECT user_nid FROM users WHERE user_id = $1", user_id)
    if nid is None:
        # The update does nothing but make a row that another transaction has just inserted come back too.
        nid = await conn.fetchval(
            "INSERT INTO users (user_id, server) VALUES ($1, $2) "
            "ON CONFLICT (user_id) DO UPDATE SET server = excluded.server RETURNING user_nid",
            user_id,
            domain_of(user_id),
        )
    assert nid is not None
    return nid


async def find_user_id(conn: Connection, user_nid: int) -> str | None:
    """The id of the user with that number."""
    found: str | None = await conn.fetchval("SELECT user_id FROM users WHERE user_nid = $1", user_nid)
    return found
