"""Public keys of other servers, as they published them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class ServerKeyRow:
    """A key. Times are milliseconds; `expired_ts` is set for a key that is no longer in use; `response` is the signed
    JSON that it came in."""

    key_id: str
    verify_key: str
    valid_until_ts: int
    expired_ts: int | None
    fetched_ts: int
    response: bytes


async def server_keys(conn: Connection, server: str, key_ids: Collection[str] | None = None) -> list[ServerKeyRow]:
    """The known keys of a server: those of these ids, or all."""
    rows = await conn.fetch(
        "SELECT key_id, verify_key, valid_until_ts, expired_ts, fetched_ts, response FROM server_keys "
        "WHERE server = $1 AND ($2::text[] IS NULL OR key_id = ANY($2)) ORDER BY key_id",
        server,
        None if key_ids is None else list(key_ids),
    )
    return [ServerKeyRow(*row) for row in rows]


async def write_server_keys(conn: Connection, server: str, keys: Collection[ServerKeyRow]) -> None:
    """Enters keys. What was fetched later stays, whatever the order in which it is written."""
    ordered = sorted(keys, key=lambda key: key.key_id)  # two writers of the same rows can't wait for each other
    await conn.execute(
        "INSERT INTO server_keys (server, key_id, verify_key, valid_until_ts, expired_ts, fetched_ts, response) "
        "SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[]) "
        "ON CONFLICT (server, key_id) DO UPDATE SET verify_key = excluded.verify_key, "
        "valid_until_ts = excluded.valid_until_ts, expired_ts = excluded.expired_ts, "
        "fetched_ts = excluded.fetched_ts, response = excluded.response "
        "WHERE server_keys.fetched_ts <= excluded.fetched_ts",
        server,
        [key.key_id for key in ordered],
        [key.verify_key for key in ordered],
        [key.valid_until_ts for key in ordered],
        [key.expired_ts for key in ordered],
        [key.fetched_ts for key in ordered],
        [key.response for key in ordered],
    )
