"""Profiles of the users of this server: names and pictures, which rooms are told, and whatever else users add.

# spec: client-server-api/#profiles
"""

from __future__ import annotations

from typing import Any

import orjson

from homeserver.storage.stream import Connection


async def profile_of(conn: Connection, user_id: str) -> dict[str, str]:
    """`displayname` and `avatar_url`, as far as the user has set them."""
    row = await conn.fetchrow(
        "SELECT a.displayname, a.avatar_url FROM accounts a JOIN users u USING (user_nid) WHERE u.user_id = $1", user_id
    )
    return {} if row is None else {key: value for key, value in row.items() if value is not None}


async def whole_profile(conn: Connection, user_id: str) -> dict[str, Any]:
    """Every field that the user has set."""
    rows = await conn.fetch(
        "SELECT f.name, f.value FROM profile_fields f JOIN users u USING (user_nid) WHERE u.user_id = $1 "
        "ORDER BY f.name",
        user_id,
    )
    named: dict[str, Any] = dict(await profile_of(conn, user_id))
    return named | {row["name"]: orjson.loads(row["value"]) for row in rows}


async def profile_size(conn: Connection, user_nid: int, *, without: str) -> int:
    """How many bytes the profile has as JSON, at least, without that one field.

    Locks the profile until the transaction ends, so that two changes can't pass a limit together.
    """
    row = await conn.fetchrow("SELECT displayname, avatar_url FROM accounts WHERE user_nid = $1 FOR UPDATE", user_nid)
    named = {} if row is None else {key: value for key, value in row.items() if value is not None and key != without}
    others: int = await conn.fetchval(
        # Of each field: its value, its name with two quotation marks, and a colon and a comma.
        "SELECT COALESCE(sum(octet_length(value) + octet_length(name) + 4), 0) FROM profile_fields "
        "WHERE user_nid = $1 AND name <> $2",
        user_nid,
        without,
    )
    return len(orjson.dumps(named)) + others


async def put_profile_field(conn: Connection, user_nid: int, name: str, value: bytes) -> None:
    """Sets a field other than `displayname` and `avatar_url` to a JSON value."""
    await conn.execute(
        "INSERT INTO profile_fields (user_nid, name, value) VALUES ($1, $2, $3) "
        "ON CONFLICT (user_nid, name) DO UPDATE SET value = excluded.value",
        user_nid,
        name,
        value,
    )


async def delete_profile_field(conn: Connection, user_nid: int, name: str) -> None:
    await conn.execute("DELETE FROM profile_fields WHERE user_nid = $1 AND name = $2", user_nid, name)
