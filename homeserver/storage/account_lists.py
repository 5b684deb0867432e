"""Accounts as administrators look through them: by page, by what they have in common, in an order of their choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from homeserver.storage.stream import Connection

ORDERS = {
    "name": "u.user_id",
    "is_guest": "a.guest",
    "admin": "a.admin",
    "user_type": "u.user_id",  # all are of one type
    "deactivated": "a.deactivated",
    "shadow_banned": "a.shadow_banned",
    "locked": "a.locked",
    "displayname": "a.displayname",
    "avatar_url": "a.avatar_url",
    "creation_ts": "a.created_ts",
    "last_seen_ts": "last_seen_ts",
}


@dataclass(frozen=True, slots=True)
class AccountFilter:
    """Which accounts: None is any. `name` is part of the localpart or of the display name."""

    user_id: str | None = None
    name: str | None = None
    guest: bool | None = None
    admin: bool | None = None
    deactivated: bool | None = None
    locked: bool | None = None


@dataclass(frozen=True, slots=True)
class ListedAccount:
    """An account as a list shows it."""

    user_nid: int
    user_id: str
    guest: bool
    admin: bool
    deactivated: bool
    erased: bool
    shadow_banned: bool
    locked: bool
    suspended: bool
    displayname: str | None
    avatar_url: str | None
    created_ts: int
    last_seen_ts: int | None
    appservice_id: str | None


_WHERE = (
    "FROM accounts a JOIN users u USING (user_nid) WHERE ($1::text IS NULL OR u.user_id ILIKE $1) "
    "AND ($2::text IS NULL OR split_part(u.user_id, ':', 1) ILIKE $2 OR a.displayname ILIKE $2) "
    "AND ($3::boolean IS NULL OR a.guest = $3) AND ($4::boolean IS NULL OR a.admin = $4) "
    "AND ($5::boolean IS NULL OR a.deactivated = $5) AND ($6::boolean IS NULL OR a.locked = $6)"
)
_COLUMNS = (
    "a.user_nid, u.user_id, a.guest, a.admin, a.deactivated, a.erased, a.shadow_banned, a.locked, a.suspended, "
    "a.displayname, a.avatar_url, a.created_ts, a.appservice_id, "
    "(SELECT max(last_seen_ts) FROM devices d WHERE d.user_nid = a.user_nid) AS last_seen_ts"
)


async def list_page(
    conn: Connection, wanted: AccountFilter, *, order_by: str, backwards: bool, offset: int, limit: int
) -> tuple[list[ListedAccount], int]:
    """One page of the accounts, and how many there are in all.

    :param order_by: a key of ORDERS
    """
    arguments = (
        containing(wanted.user_id),
        containing(wanted.name),
        wanted.guest,
        wanted.admin,
        wanted.deactivated,
        wanted.locked,
    )
    direction = "DESC" if backwards else "ASC"
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} {_WHERE} ORDER BY {ORDERS[order_by]} {direction} NULLS LAST, "
        f"u.user_id {direction} OFFSET $7 LIMIT $8",
        *arguments,
        offset,
        limit,
    )
    total: int = await conn.fetchval(f"SELECT count(*) {_WHERE}", *arguments)
    return _listed(rows), total


async def find_listed(conn: Connection, user_id: str) -> ListedAccount | None:
    """One account with what a list shows of it."""
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM accounts a JOIN users u USING (user_nid) WHERE u.user_id = $1",  # noqa: S608
        user_id,
    )
    return _listed(rows)[0] if rows else None


def _listed(rows: Sequence[asyncpg.Record]) -> list[ListedAccount]:
    return [ListedAccount(**row) for row in rows]


def containing(text: str | None) -> str | None:
    """A pattern for ILIKE that finds `text` anywhere."""
    if text is None:
        return None
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


async def rate_limit_override(conn: Connection, user_nid: int) -> tuple[int, int] | None:
    """(messages a second, burst) of a user whose limits are others than the configuration's."""
    row = await conn.fetchrow(
        "SELECT messages_per_second, burst_count FROM rate_limit_overrides WHERE user_nid = $1", user_nid
    )
    return (row["messages_per_second"], row["burst_count"]) if row is not None else None


async def put_rate_limit_override(conn: Connection, user_nid: int, per_second: int, burst: int) -> None:
    await conn.execute(
        "INSERT INTO rate_limit_overrides (user_nid, messages_per_second, burst_count) VALUES ($1, $2, $3) "
        "ON CONFLICT (user_nid) DO UPDATE SET messages_per_second = excluded.messages_per_second, "
        "burst_count = excluded.burst_count",
        user_nid,
        per_second,
        burst,
    )


async def delete_rate_limit_override(conn: Connection, user_nid: int) -> None:
    await conn.execute("DELETE FROM rate_limit_overrides WHERE user_nid = $1", user_nid)


async def invites_sent(conn: Connection, user_nid: int, from_ts: int) -> int:
    """How many invitations of a user that still stand were sent at or after a moment.

    One that has been answered is not counted: a list of every invitation ever would have to be kept for that.
    """
    number: int = await conn.fetchval(
        "SELECT count(*) FROM room_members m JOIN events e ON e.event_nid = m.event_nid "
        "WHERE m.room_nid IN (SELECT room_nid FROM room_members WHERE user_nid = $1) "
        "AND m.membership = 'invite' AND e.sender_nid = $1 AND e.origin_server_ts >= $2",
        user_nid,
        from_ts,
    )
    return number


async def rooms_ever_joined(conn: Connection, user_nid: int) -> int:
    """How many rooms a user is in or has been in."""
    number: int = await conn.fetchval(
        "SELECT count(*) FROM room_members WHERE user_nid = $1 AND (membership = 'join' OR joined_before)", user_nid
    )
    return number


async def threepids_of(conn: Connection, user_nid: int) -> Sequence[asyncpg.Record]:
    """The e-mail addresses and telephone numbers of a user: medium, address, added_ts, validated_ts."""
    rows: Sequence[asyncpg.Record] = await conn.fetch(
        "SELECT medium, address, added_ts, validated_ts FROM account_threepids WHERE user_nid = $1 "
        "ORDER BY medium, added_ts, address",
        user_nid,
    )
    return rows
