"""Devices: the sessions of an account as their owner sees them. Access tokens hang on them and go with them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from homeserver.storage.stream import Connection
from homeserver.storage.web_sessions import delete_all_sessions as delete_web_sessions


@dataclass(frozen=True, slots=True)
class Device:
    device_id: str
    display_name: str | None
    last_seen_ts: int | None
    last_seen_ip: str | None


async def ensure_device(
    conn: Connection, user_nid: int, device_id: str, *, display_name: str | None, now_ms: int
) -> bool:
    """Makes a device; one that is there keeps its name.

    :returns: whether it was made
    """
    made = await conn.fetchval(
        "INSERT INTO devices (user_nid, device_id, display_name, created_ts) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT DO NOTHING RETURNING true",
        user_nid,
        device_id,
        display_name,
        now_ms,
    )
    return bool(made)


async def lock_device(conn: Connection, user_nid: int, device_id: str) -> bool:
    """Has whoever else changes or deletes that device, or its tokens, wait until the transaction ends.

    :returns: whether there is such a device
    """
    found = await conn.fetchval(
        "SELECT true FROM devices WHERE user_nid = $1 AND device_id = $2 FOR NO KEY UPDATE", user_nid, device_id
    )
    return bool(found)


async def list_devices(conn: Connection, user_nid: int) -> list[Device]:
    rows = await conn.fetch(
        "SELECT device_id, display_name, last_seen_ts, last_seen_ip FROM devices WHERE user_nid = $1 "
        "ORDER BY created_ts, device_id",
        user_nid,
    )
    return [Device(**row) for row in rows]


async def count_devices(conn: Connection, user_nid: int) -> int:
    count: int = await conn.fetchval("SELECT count(*) FROM devices WHERE user_nid = $1", user_nid)
    return count


async def find_device(conn: Connection, user_nid: int, device_id: str) -> Device | None:
    row = await conn.fetchrow(
        "SELECT device_id, display_name, last_seen_ts, last_seen_ip FROM devices "
        "WHERE user_nid = $1 AND device_id = $2",
        user_nid,
        device_id,
    )
    return Device(**row) if row is not None else None


async def device_exists(conn: Connection, user_nid: int, device_id: str) -> bool:
    return bool(
        await conn.fetchval(
            "SELECT EXISTS (SELECT FROM devices WHERE user_nid = $1 AND device_id = $2)", user_nid, device_id
        )
    )


async def rename_device(conn: Connection, user_nid: int, device_id: str, display_name: str) -> bool:
    """:returns: whether there is such a device"""
    done = await conn.fetchval(
        "UPDATE devices SET display_name = $3 WHERE user_nid = $1 AND device_id = $2 RETURNING true",
        user_nid,
        device_id,
        display_name,
    )
    return bool(done)


async def delete_devices(conn: Connection, user_nid: int, device_ids: Collection[str]) -> list[str]:
    """Deletes devices and with them their access tokens.

    :returns: those that there were
    """
    rows = await conn.fetch(
        "DELETE FROM devices WHERE user_nid = $1 AND device_id = ANY($2) RETURNING device_id",
        user_nid,
        list(device_ids),
    )
    return [row["device_id"] for row in rows]


async def delete_all_devices(conn: Connection, user_nid: int, *, except_device_id: str | None = None) -> list[str]:
    """Deletes all devices of a user (but one) and with them their access tokens; browsers' sessions end too.

    :returns: those that there were
    """
    rows = await conn.fetch(
        "DELETE FROM devices WHERE user_nid = $1 AND device_id IS DISTINCT FROM $2 RETURNING device_id",
        user_nid,
        except_device_id,
    )
    await delete_web_sessions(conn, user_nid)
    return [row["device_id"] for row in rows]


async def update_last_seen(conn: Connection, seen: Sequence[tuple[int, str, int, str]]) -> None:
    """:param seen: (user_nid, device_id, when in ms, address)"""
    await conn.execute(
        "UPDATE devices d SET last_seen_ts = s.ts, last_seen_ip = s.ip "
        "FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[]) AS s (user_nid, device_id, ts, ip) "
        "WHERE d.user_nid = s.user_nid AND d.device_id = s.device_id",
        [one[0] for one in seen],
        [one[1] for one in seen],
        [one[2] for one in seen],
        [one[3] for one in seen],
    )
