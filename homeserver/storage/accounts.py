"""Accounts: the users who live on this server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from homeserver.storage.stream import Connection
from homeserver.storage.users import ensure_user


@dataclass(frozen=True, slots=True)
class Account:
    """An account without its password.

    # spec: client-server-api/#account-moderation
    """

    user_nid: int
    user_id: str
    admin: bool
    guest: bool
    deactivated: bool
    appservice_id: str | None
    displayname: str | None
    avatar_url: str | None
    created_ts: int
    locked: bool = False
    suspended: bool = False
    shadow_banned: bool = False
    erased: bool = False


_COLUMNS = (
    "a.user_nid, u.user_id, a.admin, a.guest, a.deactivated, a.appservice_id, a.displayname, a.avatar_url, "
    "a.created_ts, a.locked, a.suspended, a.shadow_banned, a.erased"
)


def _account(row: asyncpg.Record) -> Account:
    return Account(**row)


async def find_account(conn: Connection, user_id: str) -> Account | None:
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM accounts a JOIN users u USING (user_nid) WHERE u.user_id = $1",  # noqa: S608
        user_id,
    )
    return _account(row) if row is not None else None


async def find_account_by_nid(conn: Connection, user_nid: int) -> Account | None:
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM accounts a JOIN users u USING (user_nid) WHERE a.user_nid = $1",  # noqa: S608
        user_nid,
    )
    return _account(row) if row is not None else None


async def find_accounts(conn: Connection, user_ids: Sequence[str]) -> dict[str, Account]:
    """Those of these users who have an account here."""
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM accounts a JOIN users u USING (user_nid) WHERE u.user_id = ANY($1)",  # noqa: S608
        user_ids,
    )
    return {row["user_id"]: _account(row) for row in rows}


async def list_accounts(conn: Connection) -> list[Account]:
    """All accounts, the oldest first."""
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM accounts a JOIN users u USING (user_nid) ORDER BY a.created_ts, a.user_nid"  # noqa: S608
    )
    return [_account(row) for row in rows]


async def any_account(conn: Connection) -> bool:
    """Whether somebody has an account here; application services' own don't count."""
    return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM accounts WHERE appservice_id IS NULL)"))


async def insert_account(
    conn: Connection,
    user_id: str,
    *,
    password_hash: str | None,
    admin: bool,
    guest: bool,
    appservice_id: str | None,
    created_ts: int,
) -> int | None:
    """Makes an account.

    :returns: the number of the user; None if there is an account with that id
    """
    user_nid = await ensure_user(conn, user_id)
    made: int | None = await conn.fetchval(
        "INSERT INTO accounts (user_nid, password_hash, admin, guest, appservice_id, created_ts) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING user_nid",
        user_nid,
        password_hash,
        admin,
        guest,
        appservice_id,
        created_ts,
    )
    return made


async def find_password_hash(conn: Connection, user_nid: int) -> str | None:
    """The password hash of an account that has one and is not deactivated."""
    found: str | None = await conn.fetchval(
        "SELECT password_hash FROM accounts WHERE user_nid = $1 AND NOT deactivated", user_nid
    )
    return found


async def update_password_hash(
    conn: Connection, user_nid: int, password_hash: str, *, instead_of: str | None = None
) -> bool:
    """Replaces the password hash, with `instead_of` only if it is that one.

    :returns: whether there is such an account, and it is not deactivated
    """
    done = await conn.fetchval(
        "UPDATE accounts SET password_hash = $2 WHERE user_nid = $1 AND NOT deactivated "
        "AND ($3::text IS NULL OR password_hash = $3) RETURNING true",
        user_nid,
        password_hash,
        instead_of,
    )
    return bool(done)


async def update_profile_field(conn: Connection, user_nid: int, name: str, value: str | None) -> bool:
    """Sets `displayname` or `avatar_url`; None for none.

    :returns: whether that changes anything
    """
    assert name in ("displayname", "avatar_url"), name
    done = await conn.fetchval(
        f"UPDATE accounts SET {name} = $2 WHERE user_nid = $1 AND {name} IS DISTINCT FROM $2 RETURNING true",  # noqa: S608
        user_nid,
        value,
    )
    return bool(done)


async def update_restriction(conn: Connection, user_nid: int, name: str, value: bool) -> bool:
    """Sets `locked`, `suspended` or `shadow_banned`.

    :returns: whether that changes anything
    """
    assert name in ("locked", "suspended", "shadow_banned"), name
    done = await conn.fetchval(
        f"UPDATE accounts SET {name} = $2 WHERE user_nid = $1 AND {name} <> $2 RETURNING true",  # noqa: S608
        user_nid,
        value,
    )
    return bool(done)


async def update_admin(conn: Connection, user_nid: int, admin: bool) -> bool:
    """Returns whether that changes anything."""
    done = await conn.fetchval(
        "UPDATE accounts SET admin = $2 WHERE user_nid = $1 AND admin <> $2 RETURNING true", user_nid, admin
    )
    return bool(done)


async def lock_other_administrators(conn: Connection, user_nid: int) -> int:
    """How many others administer this server and can log in. None of them stops before the transaction ends."""
    rows = await conn.fetch(
        "SELECT user_nid, locked OR deactivated AS out FROM accounts WHERE admin ORDER BY user_nid FOR UPDATE"
    )
    return sum(row["user_nid"] != user_nid and not row["out"] for row in rows)


async def deactivate_account(conn: Connection, user_nid: int, *, erase: bool = False) -> bool:
    """Takes away password, administration and profile. The user id stays taken.

    :returns: whether it was active
    """
    done = await conn.fetchval(
        "UPDATE accounts n SET deactivated = true, password_hash = NULL, admin = false, displayname = NULL, "
        "avatar_url = NULL, erased = n.erased OR $2 FROM accounts o "
        "WHERE o.user_nid = n.user_nid AND n.user_nid = $1 RETURNING NOT o.deactivated",
        user_nid,
        erase,
    )
    return bool(done)


async def reactivate_account(conn: Connection, user_nid: int, password_hash: str | None) -> bool:
    """Lets an account be used again.

    :returns: whether it was deactivated
    """
    done = await conn.fetchval(
        "UPDATE accounts SET deactivated = false, erased = false, password_hash = $2 "
        "WHERE user_nid = $1 AND deactivated RETURNING true",
        user_nid,
        password_hash,
    )
    return bool(done)
