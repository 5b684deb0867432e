"""Registration tokens as administrators keep them: made, looked through, limited, revoked."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from homeserver.storage.stream import Connection

_COLUMNS = "token, uses_allowed, pending, completed, expires_ts"


@dataclass(frozen=True, slots=True)
class RegistrationToken:
    """`uses_allowed` and `expires_ts` are None where there is no limit."""

    token: str
    uses_allowed: int | None
    pending: int
    completed: int
    expires_ts: int | None


def _token(row: asyncpg.Record) -> RegistrationToken:
    return RegistrationToken(**row)


async def list_tokens(conn: Connection, *, valid: bool | None, now_ms: int, limit: int) -> list[RegistrationToken]:
    """All tokens, or those that can or can't be used (any more) now."""
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM (SELECT *, (uses_allowed IS NULL OR pending + completed < uses_allowed) "  # noqa: S608
        "AND (expires_ts IS NULL OR expires_ts > $2) AS valid FROM registration_tokens) t "
        "WHERE $1::boolean IS NULL OR valid = $1 ORDER BY token LIMIT $3",
        valid,
        now_ms,
        limit,
    )
    return [_token(row) for row in rows]


async def find_token(conn: Connection, token: str) -> RegistrationToken | None:
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM registration_tokens WHERE token = $1", token)  # noqa: S608
    return _token(row) if row is not None else None


async def update_token(
    conn: Connection, token: str, *, uses_allowed: int | None, expires_ts: int | None
) -> RegistrationToken | None:
    """Sets both limits. Returns the token as it is then, None if there is none."""
    row = await conn.fetchrow(
        f"UPDATE registration_tokens SET uses_allowed = $2, expires_ts = $3 WHERE token = $1 RETURNING {_COLUMNS}",  # noqa: S608
        token,
        uses_allowed,
        expires_ts,
    )
    return _token(row) if row is not None else None


async def delete_token(conn: Connection, token: str) -> bool:
    """Returns whether there was one."""
    return bool(await conn.fetchval("DELETE FROM registration_tokens WHERE token = $1 RETURNING true", token))
