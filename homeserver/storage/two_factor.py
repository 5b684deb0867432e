"""Second factors: the secrets of authenticator apps, encrypted, and the hashes of backup codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class SecondFactor:
    """Both secrets are encrypted. `secret` is None until the first code has confirmed it."""

    secret: bytes | None
    confirmed_ts: int | None
    last_step: int
    pending_secret: bytes | None
    pending_ts: int | None
    tries_full_ts: int


_COLUMNS = "secret, confirmed_ts, last_step, pending_secret, pending_ts, tries_full_ts"


async def find_second_factor(conn: Connection, user_nid: int) -> SecondFactor | None:
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM second_factors WHERE user_nid = $1", user_nid)  # noqa: S608
    return SecondFactor(**row) if row is not None else None


async def lock_second_factor(conn: Connection, user_nid: int) -> SecondFactor | None:
    """The same, locked until the transaction ends: of two who use the same code, the second sees that it was used."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM second_factors WHERE user_nid = $1 FOR UPDATE",  # noqa: S608
        user_nid,
    )
    return SecondFactor(**row) if row is not None else None


async def has_second_factor(conn: Connection, user_nid: int) -> bool:
    return bool(
        await conn.fetchval(
            "SELECT EXISTS (SELECT FROM second_factors WHERE user_nid = $1 AND secret IS NOT NULL)", user_nid
        )
    )


async def put_pending(conn: Connection, user_nid: int, secret: bytes, now_ms: int) -> None:
    """Notes a secret that is shown and must still be confirmed. The one in use stays in use."""
    await conn.execute(
        "INSERT INTO second_factors (user_nid, pending_secret, pending_ts) VALUES ($1, $2, $3) "
        "ON CONFLICT (user_nid) DO UPDATE SET pending_secret = excluded.pending_secret, "
        "pending_ts = excluded.pending_ts",
        user_nid,
        secret,
        now_ms,
    )


async def confirm_pending(conn: Connection, user_nid: int, *, step: int, now_ms: int) -> None:
    """The secret that was shown is the one in use now; `step` is that of the code that has confirmed it."""
    await conn.execute(
        "UPDATE second_factors SET secret = pending_secret, confirmed_ts = $3, last_step = $2, pending_secret = NULL, "
        "pending_ts = NULL WHERE user_nid = $1",
        user_nid,
        step,
        now_ms,
    )


async def update_last_step(conn: Connection, user_nid: int, step: int) -> None:
    await conn.execute("UPDATE second_factors SET last_step = $2 WHERE user_nid = $1", user_nid, step)


async def update_tries(conn: Connection, user_nid: int, tries_full_ts: int) -> None:
    await conn.execute("UPDATE second_factors SET tries_full_ts = $2 WHERE user_nid = $1", user_nid, tries_full_ts)


async def delete_second_factor(conn: Connection, user_nid: int) -> bool:
    """Backup codes go with it. Returns whether one was in use."""
    return bool(
        await conn.fetchval(
            "DELETE FROM second_factors WHERE user_nid = $1 RETURNING secret IS NOT NULL",
            user_nid,
        )
    )


async def replace_backup_codes(conn: Connection, user_nid: int, hashes: Sequence[bytes]) -> None:
    await conn.execute("DELETE FROM backup_codes WHERE user_nid = $1", user_nid)
    await conn.execute(
        "INSERT INTO backup_codes (user_nid, code_hash) SELECT $1, unnest($2::bytea[])", user_nid, list(hashes)
    )


async def has_backup_code(conn: Connection, user_nid: int, code_hash: bytes) -> bool:
    return bool(
        await conn.fetchval(
            "SELECT EXISTS (SELECT FROM backup_codes WHERE user_nid = $1 AND code_hash = $2)", user_nid, code_hash
        )
    )


async def take_backup_code(conn: Connection, user_nid: int, code_hash: bytes) -> bool:
    """Uses a backup code up. Of two at once one gets True."""
    return bool(
        await conn.fetchval(
            "DELETE FROM backup_codes WHERE user_nid = $1 AND code_hash = $2 RETURNING true", user_nid, code_hash
        )
    )


async def count_backup_codes(conn: Connection, user_nid: int) -> int:
    return int(await conn.fetchval("SELECT count(*) FROM backup_codes WHERE user_nid = $1", user_nid))
