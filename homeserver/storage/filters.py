"""Filters that clients have stored, each account's numbered from 0."""

from __future__ import annotations

from homeserver.storage.stream import Connection


async def put_filter(conn: Connection, user_nid: int, json: bytes, *, at_most: int) -> int | None:
    """The number of a filter of this account, stored if it was not. Inside a transaction.

    :returns: None if the account has `at_most` filters already
    """
    # One at a time for each account, so that the next number is free.
    await conn.execute("SELECT FROM accounts WHERE user_nid = $1 FOR UPDATE", user_nid)
    found: int | None = await conn.fetchval(
        "SELECT filter_id FROM filters WHERE user_nid = $1 AND json = $2 LIMIT 1", user_nid, json
    )
    if found is not None:
        return found
    made: int | None = await conn.fetchval(
        "INSERT INTO filters (user_nid, filter_id, json) "
        "SELECT $1, coalesce(max(filter_id) + 1, 0), $2 FROM filters WHERE user_nid = $1 HAVING count(*) < $3 "
        "RETURNING filter_id",
        user_nid,
        json,
        at_most,
    )
    return made


async def find_filter(conn: Connection, user_nid: int, filter_id: int) -> bytes | None:
    """The JSON of a stored filter."""
    found: bytes | None = await conn.fetchval(
        "SELECT json FROM filters WHERE user_nid = $1 AND filter_id = $2", user_nid, filter_id
    )
    return found


async def delete_all_filters(conn: Connection, user_nid: int) -> None:
    await conn.execute("DELETE FROM filters WHERE user_nid = $1", user_nid)
