"""Whom a user ignores, by number.  # spec: client-server-api/#ignoring-users"""

from __future__ import annotations

from typing import Any

import orjson

from homeserver.storage.stream import Connection


async def ignored_user_nids(conn: Connection, user_nid: int) -> list[int]:
    """The numbers of those whom the user ignores, as far as this server has heard of them."""
    content: bytes | None = await conn.fetchval(
        "SELECT content FROM account_data WHERE user_nid = $1 AND room_nid = 0 AND type = 'm.ignored_user_list'",
        user_nid,
    )
    value: Any = None if content is None else orjson.loads(content)
    ids = value.get("ignored_users") if isinstance(value, dict) else None
    if not isinstance(ids, dict) or not ids:
        return []
    rows = await conn.fetch(
        "SELECT user_nid FROM users WHERE user_id = ANY($1)", [user_id for user_id in ids if "\0" not in user_id]
    )
    return [row["user_nid"] for row in rows]
