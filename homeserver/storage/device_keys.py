"""Identity keys, one-time keys and fallback keys of the devices of this server.

JSON is kept as bytes. Who writes a device's keys holds `lock_device`; claims do without, because each takes rows that
no other claim has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from homeserver.storage.stream import Connection


class StoredDevice(NamedTuple):
    """`json` is the signed object; `display_name` what the user calls the device."""

    user_id: str
    device_id: str
    display_name: str | None
    json: bytes


class StoredKey(NamedTuple):
    """A one-time or fallback key."""

    algorithm: str
    key_id: str
    json: bytes


class Claimed(NamedTuple):
    user_nid: int
    device_id: str
    algorithm: str
    key_id: str
    json: bytes


async def lock_device(conn: Connection, user_nid: int, device_id: str) -> bool:
    """Makes other uploads of this device wait until the transaction ends.

    :returns: whether there is such a device
    """
    found = await conn.fetchval(
        "SELECT true FROM devices WHERE user_nid = $1 AND device_id = $2 FOR NO KEY UPDATE", user_nid, device_id
    )
    return bool(found)


async def find_device_keys(conn: Connection, user_nid: int, device_id: str) -> bytes | None:
    """The signed object of one device."""
    json: bytes | None = await conn.fetchval(
        "SELECT json FROM device_keys WHERE user_nid = $1 AND device_id = $2", user_nid, device_id
    )
    return json


async def all_device_keys(conn: Connection, user_nid: int) -> dict[str, bytes]:
    """device_id -> signed object, of all devices of a user that have keys."""
    rows = await conn.fetch("SELECT device_id, json FROM device_keys WHERE user_nid = $1", user_nid)
    return {row["device_id"]: row["json"] for row in rows}


async def device_keys_of(conn: Connection, user_ids: Collection[str]) -> list[StoredDevice]:
    """All devices of these users that have keys."""
    rows = await conn.fetch(
        "SELECT u.user_id, k.device_id, d.display_name, k.json FROM users u JOIN device_keys k USING (user_nid) "
        "JOIN devices d USING (user_nid, device_id) WHERE u.user_id = ANY($1)",
        list(user_ids),
    )
    return [StoredDevice(*row) for row in rows]


async def replace_device_keys(conn: Connection, user_nid: int, device_id: str, json: bytes) -> None:
    """Stores identity keys. Whatever hung on the device's former ones is gone: one-time keys and signatures."""
    await conn.execute("DELETE FROM device_keys WHERE user_nid = $1 AND device_id = $2", user_nid, device_id)
    await conn.execute(
        "INSERT INTO device_keys (user_nid, device_id, json) VALUES ($1, $2, $3)", user_nid, device_id, json
    )


async def find_one_time_keys(
    conn: Connection, user_nid: int, device_id: str, keys: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], tuple[bytes, bool]]:
    """(algorithm, key id) -> (JSON, whether it has been given out), of those among `keys` that are here."""
    rows = await conn.fetch(
        "SELECT k.algorithm, k.key_id, k.json, k.claimed_ts IS NOT NULL AS claimed FROM one_time_keys k "
        "JOIN unnest($3::text[], $4::text[]) AS w (algorithm, key_id) USING (algorithm, key_id) "
        "WHERE k.user_nid = $1 AND k.device_id = $2",
        user_nid,
        device_id,
        [algorithm for algorithm, _ in keys],
        [key_id for _, key_id in keys],
    )
    return {(row["algorithm"], row["key_id"]): (row["json"], row["claimed"]) for row in rows}


async def store_one_time_keys(conn: Connection, user_nid: int, device_id: str, keys: Sequence[StoredKey]) -> None:
    """Adds one-time keys as the newest batch, in place of those of the same ids."""
    if not keys:
        return
    batch = await conn.fetchval("SELECT nextval('one_time_key_batches')")
    await conn.execute(
        "INSERT INTO one_time_keys (user_nid, device_id, algorithm, key_id, json, batch) "
        "SELECT $1, $2, w.algorithm, w.key_id, w.json, $6 "
        "FROM unnest($3::text[], $4::text[], $5::bytea[]) AS w (algorithm, key_id, json) "
        "ON CONFLICT (user_nid, device_id, algorithm, key_id) "
        "DO UPDATE SET json = excluded.json, batch = excluded.batch, claimed_ts = NULL",
        user_nid,
        device_id,
        [key.algorithm for key in keys],
        [key.key_id for key in keys],
        [key.json for key in keys],
        batch,
    )


async def forget_claimed_keys(conn: Connection, user_nid: int, device_id: str, before_ts: int) -> None:
    """Deletes what was given out before that time (ms)."""
    await conn.execute(
        "DELETE FROM one_time_keys WHERE user_nid = $1 AND device_id = $2 AND claimed_ts < $3",
        user_nid,
        device_id,
        before_ts,
    )


async def count_one_time_keys(conn: Connection, user_nid: int, device_id: str) -> dict[str, int]:
    """algorithm -> how many keys can still be claimed; what has none is left out."""
    rows = await conn.fetch(
        "SELECT algorithm, count(*) AS n FROM one_time_keys "
        "WHERE user_nid = $1 AND device_id = $2 AND claimed_ts IS NULL GROUP BY algorithm",
        user_nid,
        device_id,
    )
    return {row["algorithm"]: row["n"] for row in rows}


async def store_fallback_key(conn: Connection, user_nid: int, device_id: str, key: StoredKey) -> None:
    """Replaces the fallback key of an algorithm. The same key again stays used if it was."""
    await conn.execute(
        "INSERT INTO fallback_keys AS f (user_nid, device_id, algorithm, key_id, json) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (user_nid, device_id, algorithm) DO UPDATE SET key_id = excluded.key_id, json = excluded.json, "
        "used = f.used AND f.key_id = excluded.key_id AND f.json = excluded.json",
        user_nid,
        device_id,
        key.algorithm,
        key.key_id,
        key.json,
    )


async def count_fallback_keys(conn: Connection, user_nid: int, device_id: str) -> int:
    count: int = await conn.fetchval(
        "SELECT count(*) FROM fallback_keys WHERE user_nid = $1 AND device_id = $2", user_nid, device_id
    )
    return count


async def unused_fallback_algorithms(conn: Connection, user_nid: int, device_id: str) -> list[str]:
    """The algorithms whose fallback key has not been given out yet."""
    rows = await conn.fetch(
        "SELECT algorithm FROM fallback_keys WHERE user_nid = $1 AND device_id = $2 AND NOT used ORDER BY algorithm",
        user_nid,
        device_id,
    )
    return [row["algorithm"] for row in rows]


async def claim_one_time_keys(conn: Connection, wanted: Mapping[tuple[int, str], str], now_ms: int) -> list[Claimed]:
    """Takes the oldest key of each device, each key for one claim only.

    :param wanted: (user_nid, device_id) -> algorithm
    """
    # `picked` must be made once: inlined, it could be run again and pick other rows than those it has locked.
    rows = await conn.fetch(
        "WITH picked AS MATERIALIZED ("
        "  SELECT o.* FROM unnest($1::bigint[], $2::text[], $3::text[]) AS w (user_nid, device_id, algorithm)"
        "  CROSS JOIN LATERAL ("
        "    SELECT k.user_nid, k.device_id, k.algorithm, k.key_id FROM one_time_keys k"
        "     WHERE k.user_nid = w.user_nid AND k.device_id = w.device_id AND k.algorithm = w.algorithm"
        "       AND k.claimed_ts IS NULL ORDER BY k.batch LIMIT 1 FOR UPDATE SKIP LOCKED) o) "
        "UPDATE one_time_keys k SET claimed_ts = $4 FROM picked p WHERE k.user_nid = p.user_nid "
        "AND k.device_id = p.device_id AND k.algorithm = p.algorithm AND k.key_id = p.key_id "
        "RETURNING k.user_nid, k.device_id, k.algorithm, k.key_id, k.json",
        *_columns(wanted),
        now_ms,
    )
    return [Claimed(*row) for row in rows]


async def use_fallback_keys(conn: Connection, wanted: Mapping[tuple[int, str], str]) -> list[Claimed]:
    """The fallback keys of these devices, from now on marked as used. Parameters as `claim_one_time_keys`."""
    # Locked in one order, so that two claims of the same devices don't wait for each other.
    rows = await conn.fetch(
        "WITH found AS MATERIALIZED ("
        "  SELECT f.* FROM fallback_keys f"
        "  JOIN unnest($1::bigint[], $2::text[], $3::text[]) AS w (user_nid, device_id, algorithm)"
        "  USING (user_nid, device_id, algorithm) ORDER BY f.user_nid, f.device_id FOR NO KEY UPDATE OF f), "
        "marked AS (UPDATE fallback_keys f SET used = true FROM found WHERE f.user_nid = found.user_nid "
        "  AND f.device_id = found.device_id AND f.algorithm = found.algorithm AND NOT f.used) "
        "SELECT user_nid, device_id, algorithm, key_id, json FROM found",
        *_columns(wanted),
    )
    return [Claimed(*row) for row in rows]


def _columns(wanted: Mapping[tuple[int, str], str]) -> tuple[list[int], list[str], list[str]]:
    return [nid for nid, _ in wanted], [device_id for _, device_id in wanted], list(wanted.values())


async def user_nids(conn: Connection, user_ids: Collection[str]) -> dict[str, int]:
    """user id -> number, of those who are known here."""
    rows = await conn.fetch("SELECT user_id, user_nid FROM users WHERE user_id = ANY($1)", list(user_ids))
    return {row["user_id"]: row["user_nid"] for row in rows}
