"""What is kept of registrations: documents that were accepted, guests who become users."""

from __future__ import annotations

from collections.abc import Mapping

from homeserver.storage.stream import Connection


async def insert_accepted_terms(conn: Connection, user_nid: int, versions: Mapping[str, str], now_ms: int) -> None:
    """:param versions: of each document the version that was accepted"""
    await conn.execute(
        "INSERT INTO accepted_terms (user_nid, policy, version, accepted_ts) "
        "SELECT $1, policy, version, $4 FROM unnest($2::text[], $3::text[]) AS t (policy, version) "
        "ON CONFLICT DO NOTHING",
        user_nid,
        list(versions),
        list(versions.values()),
        now_ms,
    )


async def accepted_terms(conn: Connection, user_nid: int) -> list[tuple[str, str, int]]:
    """Which version of which document the user has accepted, and when (ms), the oldest first."""
    rows = await conn.fetch(
        "SELECT policy, version, accepted_ts FROM accepted_terms WHERE user_nid = $1 ORDER BY accepted_ts, policy",
        user_nid,
    )
    return [(row["policy"], row["version"], row["accepted_ts"]) for row in rows]


async def upgrade_guest(conn: Connection, user_nid: int, password_hash: str | None) -> bool:
    """Makes a user of a guest. Returns whether it was one."""
    done = await conn.fetchval(
        "UPDATE accounts SET guest = false, password_hash = $2 WHERE user_nid = $1 AND guest AND NOT deactivated "
        "RETURNING true",
        user_nid,
        password_hash,
    )
    return bool(done)
