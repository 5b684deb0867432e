"""Proofs in progress that an e-mail address or a telephone number is somebody's. Secrets and tokens are hashes here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class Validation:
    sid: str
    secret_hash: bytes
    purpose: str
    medium: str
    address: str
    send_attempt: int
    token_hashes: Sequence[bytes]
    failures: int
    next_link: str | None
    expires_ts: int
    validated_ts: int | None


_COLUMNS = (
    "sid, secret_hash, purpose, medium, address, send_attempt, token_hashes, failures, next_link, expires_ts, "
    "validated_ts"
)


def _validation(row: asyncpg.Record | None) -> Validation | None:
    return Validation(**row) if row is not None else None


async def lock_for_request(
    conn: Connection, *, secret_hash: bytes, purpose: str, medium: str, address: str
) -> Validation | None:
    """The one that a client has begun for this address, locked until the transaction ends."""
    return _validation(
        await conn.fetchrow(
            f"SELECT {_COLUMNS} FROM threepid_validations "  # noqa: S608
            "WHERE secret_hash = $1 AND purpose = $2 AND medium = $3 AND address = $4 FOR UPDATE",
            secret_hash,
            purpose,
            medium,
            address,
        )
    )


async def insert_validation(conn: Connection, validation: Validation, created_ts: int) -> bool:
    """:returns: whether it was made; there may be one of the same client for the same address"""
    made = await conn.fetchval(
        "INSERT INTO threepid_validations (sid, secret_hash, purpose, medium, address, send_attempt, token_hashes, "
        "next_link, created_ts, expires_ts) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) "
        "ON CONFLICT (secret_hash, purpose, medium, address) DO NOTHING RETURNING true",
        validation.sid,
        validation.secret_hash,
        validation.purpose,
        validation.medium,
        validation.address,
        validation.send_attempt,
        list(validation.token_hashes),
        validation.next_link,
        created_ts,
        validation.expires_ts,
    )
    return bool(made)


async def update_sent(
    conn: Connection, sid: str, *, send_attempt: int, token_hashes: Sequence[bytes], next_link: str | None
) -> None:
    await conn.execute(
        "UPDATE threepid_validations SET send_attempt = $2, token_hashes = $3, next_link = $4 WHERE sid = $1",
        sid,
        send_attempt,
        list(token_hashes),
        next_link,
    )


async def lock_validation(conn: Connection, sid: str) -> Validation | None:
    """One by its id, locked until the transaction ends."""
    return _validation(
        await conn.fetchrow(f"SELECT {_COLUMNS} FROM threepid_validations WHERE sid = $1 FOR UPDATE", sid)  # noqa: S608
    )


async def find_validation(conn: Connection, sid: str) -> Validation | None:
    return _validation(
        await conn.fetchrow(f"SELECT {_COLUMNS} FROM threepid_validations WHERE sid = $1", sid)  # noqa: S608
    )


async def mark_validated(conn: Connection, sid: str, now_ms: int) -> None:
    """The address is proved; its tokens are used up."""
    await conn.execute(
        "UPDATE threepid_validations SET validated_ts = $2, token_hashes = '{}' WHERE sid = $1", sid, now_ms
    )


async def count_failure(conn: Connection, sid: str, most: int) -> None:
    """A token was wrong. After `most` of those the right ones are worth nothing any more."""
    await conn.execute(
        "UPDATE threepid_validations SET failures = failures + 1, "
        "token_hashes = CASE WHEN failures + 1 >= $2 THEN '{}' ELSE token_hashes END WHERE sid = $1",
        sid,
        most,
    )


async def delete_validation(conn: Connection, sid: str) -> bool:
    """:returns: whether it was there"""
    return bool(await conn.fetchval("DELETE FROM threepid_validations WHERE sid = $1 RETURNING true", sid))


async def delete_expired(conn: Connection, now_ms: int) -> None:
    """Deletes some of those that are over, and waits for nobody."""
    await conn.execute(
        "DELETE FROM threepid_validations WHERE sid IN (SELECT sid FROM threepid_validations WHERE expires_ts <= $1 "
        "ORDER BY expires_ts LIMIT 100 FOR UPDATE SKIP LOCKED)",
        now_ms,
    )
