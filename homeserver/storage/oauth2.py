"""OAuth 2.0: clients that registered themselves, authorization codes, device authorization grants.

Codes and secrets are here as hashes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from homeserver.storage.stream import Connection

GrantState = Literal["pending", "approved", "denied"]


@dataclass(frozen=True, slots=True)
class StoredClient:
    client_id: str
    metadata: str  # JSON
    secret_hash: bytes | None
    created_ts: int


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code. `family_hash` names the session that it was exchanged for, once it is `used`."""

    client_id: str
    user_nid: int
    redirect_uri: str
    scope: str
    device_id: str
    code_challenge: str
    expires_ts: int
    used: bool
    family_hash: bytes | None


@dataclass(frozen=True, slots=True)
class StoredGrant:
    device_code_hash: bytes
    client_id: str
    scope: str
    device_id: str
    state: GrantState
    user_nid: int | None
    interval_ms: int
    polled_ts: int | None
    expires_ts: int


async def insert_client(
    conn: Connection,
    client_id: str,
    metadata: str,
    *,
    metadata_hash: bytes | None,
    secret_hash: bytes | None,
    now_ms: int,
) -> StoredClient:
    """Enters a client. One with the same hash of its metadata is used again instead.

    :returns: the client as it is stored, which has another id then
    """
    row = await conn.fetchrow(
        "INSERT INTO oauth2_clients (client_id, metadata, metadata_hash, secret_hash, created_ts, used_ts) "
        "VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (metadata_hash) DO UPDATE SET used_ts = excluded.used_ts "
        "RETURNING client_id, metadata, secret_hash, created_ts",
        client_id,
        metadata,
        metadata_hash,
        secret_hash,
        now_ms,
    )
    assert row is not None, "it is inserted or updated"
    return StoredClient(**row)


async def upsert_configured_client(conn: Connection, client_id: str, now_ms: int) -> None:
    """A row for a client of the configuration, so that codes and sessions can refer to it."""
    await conn.execute(
        "INSERT INTO oauth2_clients (client_id, metadata, created_ts, used_ts) VALUES ($1, '{}', $2, $2) "
        "ON CONFLICT (client_id) DO UPDATE SET used_ts = excluded.used_ts",
        client_id,
        now_ms,
    )


async def find_client(conn: Connection, client_id: str) -> StoredClient | None:
    row = await conn.fetchrow(
        "SELECT client_id, metadata, secret_hash, created_ts FROM oauth2_clients WHERE client_id = $1", client_id
    )
    return StoredClient(**row) if row is not None else None


async def note_client_used(conn: Connection, client_id: str, now_ms: int) -> None:
    await conn.execute("UPDATE oauth2_clients SET used_ts = $2 WHERE client_id = $1", client_id, now_ms)


async def delete_unused_clients(conn: Connection, used_before: int, now_ms: int) -> None:
    """Forgets clients that were not used since then and have no session: a bounded number at a time."""
    await conn.execute(
        "WITH old AS (SELECT client_id, EXISTS (SELECT FROM sessions s WHERE s.client_id = c.client_id) AS in_use "
        "FROM oauth2_clients c WHERE used_ts < $1 ORDER BY used_ts LIMIT 100 FOR UPDATE SKIP LOCKED), "
        # Those in use are not looked at again for as long.
        "kept AS (UPDATE oauth2_clients c SET used_ts = $2 FROM old WHERE c.client_id = old.client_id AND old.in_use) "
        "DELETE FROM oauth2_clients c USING old WHERE c.client_id = old.client_id AND NOT old.in_use",
        used_before,
        now_ms,
    )


async def insert_code(conn: Connection, code_hash: bytes, code: Code, *, forget_before: int) -> None:
    """Enters a code, and forgets those that expired before `forget_before`."""
    await conn.execute("DELETE FROM oauth2_codes WHERE expires_ts < $1", forget_before)
    await conn.execute(
        "INSERT INTO oauth2_codes (code_hash, client_id, user_nid, redirect_uri, scope, device_id, code_challenge, "
        "expires_ts) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        code_hash,
        code.client_id,
        code.user_nid,
        code.redirect_uri,
        code.scope,
        code.device_id,
        code.code_challenge,
        code.expires_ts,
    )


async def lock_code(conn: Connection, code_hash: bytes) -> Code | None:
    """A code, locked until the transaction ends: of several who come with it at the same time one is first."""
    row = await conn.fetchrow(
        "SELECT client_id, user_nid, redirect_uri, scope, device_id, code_challenge, expires_ts, used, family_hash "
        "FROM oauth2_codes WHERE code_hash = $1 FOR UPDATE",
        code_hash,
    )
    return Code(**row) if row is not None else None


async def mark_code_used(conn: Connection, code_hash: bytes, family_hash: bytes | None) -> None:
    """:param family_hash: of the session that it was exchanged for, None if it was for none"""
    await conn.execute(
        "UPDATE oauth2_codes SET used = true, family_hash = $2 WHERE code_hash = $1", code_hash, family_hash
    )


async def insert_grant(conn: Connection, grant: StoredGrant, user_code_hash: bytes, *, forget_before: int) -> bool:
    """Enters a grant, and forgets those that expired before `forget_before`.

    :returns: whether the user code was free; nothing is entered otherwise
    """
    await conn.execute("DELETE FROM oauth2_device_grants WHERE expires_ts < $1", forget_before)
    done = await conn.fetchval(
        "INSERT INTO oauth2_device_grants (device_code_hash, user_code_hash, client_id, scope, device_id, interval_ms, "
        "expires_ts) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING true",
        grant.device_code_hash,
        user_code_hash,
        grant.client_id,
        grant.scope,
        grant.device_id,
        grant.interval_ms,
        grant.expires_ts,
    )
    return bool(done)


_GRANT = "device_code_hash, client_id, scope, device_id, state, user_nid, interval_ms, polled_ts, expires_ts"


async def find_grant_by_user_code(conn: Connection, user_code_hash: bytes) -> StoredGrant | None:
    row = await conn.fetchrow(
        f"SELECT {_GRANT} FROM oauth2_device_grants WHERE user_code_hash = $1",  # noqa: S608
        user_code_hash,
    )
    return StoredGrant(**row) if row is not None else None


async def lock_grant(conn: Connection, device_code_hash: bytes) -> StoredGrant | None:
    """A grant, locked until the transaction ends."""
    row = await conn.fetchrow(
        f"SELECT {_GRANT} FROM oauth2_device_grants WHERE device_code_hash = $1 FOR UPDATE",  # noqa: S608
        device_code_hash,
    )
    return StoredGrant(**row) if row is not None else None


async def decide_grant(
    conn: Connection, device_code_hash: bytes, state: GrantState, user_nid: int | None, now_ms: int
) -> bool:
    """Says what the user answered. Only the first answer counts, and only in time.

    :returns: whether it counts
    """
    done = await conn.fetchval(
        "UPDATE oauth2_device_grants SET state = $2, user_nid = $3 "
        "WHERE device_code_hash = $1 AND state = 'pending' AND expires_ts > $4 RETURNING true",
        device_code_hash,
        state,
        user_nid,
        now_ms,
    )
    return bool(done)


async def note_polled(conn: Connection, device_code_hash: bytes, now_ms: int, interval_ms: int) -> None:
    await conn.execute(
        "UPDATE oauth2_device_grants SET polled_ts = $2, interval_ms = $3 WHERE device_code_hash = $1",
        device_code_hash,
        now_ms,
        interval_ms,
    )


async def delete_grant(conn: Connection, device_code_hash: bytes) -> None:
    await conn.execute("DELETE FROM oauth2_device_grants WHERE device_code_hash = $1", device_code_hash)
