"""Names and pictures of the users of this server."""

from __future__ import annotations

from homeserver.storage.stream import Connection


async def profile_of(conn: Connection, user_id: str) -> dict[str, str]:
    """`displayname` and `avatar_url`, as far as the user has set them."""
    row = await conn.fetchrow(
        "SELECT a.displayname, a.avatar_url FROM accounts a JOIN users u USING (user_nid) WHERE u.user_id = $1", user_id
    )
    return {} if row is None else {key: value for key, value in row.items() if value is not None}
