"""Limits that survive a restart and that all processes share: token buckets as rows.

A bucket is one number, the time at which it will be full again. One statement checks and counts a use, so that any
number of them at once are counted one by one. The clock is the database's.
"""

from __future__ import annotations

import hashlib

from homeserver.storage.stream import Connection

_NOW = "extract(epoch FROM clock_timestamp()) * 1000"


def bucket_key(name: str, key: str) -> bytes:
    """The bucket of the limit `name` for `key`, which is a user id, an address or whatever else is counted."""
    return hashlib.sha256(f"{name}\0{key}".encode("utf-8", "surrogatepass")).digest()[:16]


async def take(conn: Connection, bucket: bytes, per_use_ms: float, burst: int) -> float:
    """Counts one use. `per_use_ms` is how long the bucket takes to get one back.

    :returns: 0, or how many ms to wait; then nothing was counted
    """
    taken = await conn.fetchval(
        f"WITH now AS (SELECT {_NOW} AS ms) "  # noqa: S608
        "INSERT INTO rate_limits AS r (key, full_ts) SELECT $1, ms + $2 FROM now "
        "ON CONFLICT (key) DO UPDATE SET full_ts = greatest(r.full_ts, (SELECT ms FROM now)) + $2 "
        "WHERE greatest(r.full_ts, (SELECT ms FROM now)) + $2 - (SELECT ms FROM now) <= $2 * $3 + 0.001 "
        "RETURNING true",
        bucket,
        per_use_ms,
        burst,
    )
    if taken:
        return 0.0
    left = await conn.fetchval(f"SELECT full_ts - {_NOW} FROM rate_limits WHERE key = $1", bucket)  # noqa: S608
    return max(float(left or 0.0) + per_use_ms - per_use_ms * burst, 1.0)


async def give_back(conn: Connection, bucket: bytes, per_use_ms: float) -> None:
    """Takes back one use that has been counted."""
    await conn.execute("UPDATE rate_limits SET full_ts = full_ts - $2 WHERE key = $1", bucket, per_use_ms)


async def delete_full(conn: Connection) -> None:
    """Forgets the buckets that are full: a bucket that is not there is."""
    # Rows that somebody uses just now are left for the next time.
    await conn.execute(
        f"DELETE FROM rate_limits WHERE key IN (SELECT key FROM rate_limits WHERE full_ts < {_NOW} "  # noqa: S608
        "FOR UPDATE SKIP LOCKED)"
    )


async def is_known_address(conn: Connection, user_id: str, address: str, since_ms: int) -> bool:
    """Whether the user has logged in from that address since then."""
    return bool(
        await conn.fetchval(
            "SELECT EXISTS (SELECT FROM login_addresses JOIN users USING (user_nid) "
            "WHERE user_id = $1 AND address = $2 AND last_ts > $3)",
            user_id,
            address,
            since_ms,
        )
    )


async def remember_address(conn: Connection, user_id: str, address: str, now_ms: int, keep: int) -> None:
    """Notes that the user has logged in from that address; of each user's addresses only the last `keep` are kept."""
    await conn.execute(
        "INSERT INTO login_addresses (user_nid, address, last_ts) "
        "SELECT user_nid, $2, $3 FROM accounts JOIN users USING (user_nid) WHERE user_id = $1 "
        "ON CONFLICT (user_nid, address) DO UPDATE SET last_ts = excluded.last_ts",
        user_id,
        address,
        now_ms,
    )
    await conn.execute(
        "DELETE FROM login_addresses WHERE (user_nid, address) IN (SELECT user_nid, address FROM login_addresses "
        "WHERE user_nid = (SELECT user_nid FROM users WHERE user_id = $1) ORDER BY last_ts DESC OFFSET $2)",
        user_id,
        keep,
    )


async def delete_old_addresses(conn: Connection, before_ms: int) -> None:
    """Forgets from where nobody has logged in since then."""
    await conn.execute("DELETE FROM login_addresses WHERE last_ts <= $1", before_ms)
