"""The e-mail addresses and telephone numbers of accounts."""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class AccountThreepid:
    """`address` is in its canonical form; times in milliseconds since 1970."""

    medium: str
    address: str
    validated_ts: int
    added_ts: int


async def list_threepids(conn: Connection, user_nid: int) -> list[AccountThreepid]:
    rows = await conn.fetch(
        "SELECT medium, address, validated_ts, added_ts FROM account_threepids WHERE user_nid = $1 "
        "ORDER BY medium, added_ts, address",
        user_nid,
    )
    return [AccountThreepid(**row) for row in rows]


async def find_user_nid(conn: Connection, medium: str, address: str) -> int | None:
    """Whose it is, as long as the account is not deactivated."""
    found: int | None = await conn.fetchval(
        "SELECT t.user_nid FROM account_threepids t JOIN accounts a USING (user_nid) "
        "WHERE t.medium = $1 AND t.address = $2 AND NOT a.deactivated",
        medium,
        address,
    )
    return found


async def insert_threepid(
    conn: Connection, user_nid: int, *, medium: str, address: str, validated_ts: int, added_ts: int
) -> bool | None:
    """Gives an address to an account.

    :returns: whether it is new; None if it is another account's
    """
    row = await conn.fetchrow(
        "INSERT INTO account_threepids AS t (medium, address, user_nid, validated_ts, added_ts) "
        "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (medium, address) DO UPDATE SET validated_ts = excluded.validated_ts "
        "WHERE t.user_nid = excluded.user_nid RETURNING (xmax = 0) AS made",
        medium,
        address,
        user_nid,
        validated_ts,
        added_ts,
    )
    return bool(row["made"]) if row is not None else None


async def delete_threepid(conn: Connection, user_nid: int, medium: str, address: str) -> bool:
    """:returns: whether the account had it"""
    done = await conn.fetchval(
        "DELETE FROM account_threepids WHERE user_nid = $1 AND medium = $2 AND address = $3 RETURNING true",
        user_nid,
        medium,
        address,
    )
    return bool(done)


async def delete_all_threepids(conn: Connection, user_nid: int) -> None:
    await conn.execute("DELETE FROM account_threepids WHERE user_nid = $1", user_nid)


async def insert_bound(conn: Connection, user_nid: int, medium: str, address: str, id_server: str) -> None:
    await conn.execute(
        "INSERT INTO bound_threepids (user_nid, medium, address, id_server) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT DO NOTHING",
        user_nid,
        medium,
        address,
        id_server,
    )


async def list_bound(conn: Connection, user_nid: int, medium: str, address: str) -> list[str]:
    """The identity servers at which it was bound through this server."""
    rows = await conn.fetch(
        "SELECT id_server FROM bound_threepids WHERE user_nid = $1 AND medium = $2 AND address = $3 ORDER BY id_server",
        user_nid,
        medium,
        address,
    )
    return [row["id_server"] for row in rows]


async def delete_bound(conn: Connection, user_nid: int, medium: str, address: str, id_server: str) -> None:
    await conn.execute(
        "DELETE FROM bound_threepids WHERE user_nid = $1 AND medium = $2 AND address = $3 AND id_server = $4",
        user_nid,
        medium,
        address,
        id_server,
    )
