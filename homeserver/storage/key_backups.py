"""Backups of room keys: their versions, and the encrypted keys in them. Versions are numbers here, text outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.storage.stream import Connection

_BACKUP = "version, algorithm, auth_data, etag, key_count, deleted"


class Backup(NamedTuple):
    """`auth_data` is JSON; `etag` grows with every change of the keys; a deleted one has nothing left in it."""

    version: int
    algorithm: str
    auth_data: bytes
    etag: int
    key_count: int
    deleted: bool


class RoomKey(NamedTuple):
    """One session's key. `session_data` is JSON."""

    room_id: str
    session_id: str
    first_message_index: int
    forwarded_count: int
    is_verified: bool
    session_data: bytes


async def create_backup(conn: Connection, user_nid: int, algorithm: str, auth_data: bytes) -> int:
    """Makes the next version. Inside a transaction that holds the user's `lock_backups`."""
    version: int = await conn.fetchval(
        "INSERT INTO key_backups (user_nid, version, algorithm, auth_data) SELECT $1, "
        "COALESCE((SELECT max(version) FROM key_backups WHERE user_nid = $1), 0) + 1, $2, $3 RETURNING version",
        user_nid,
        algorithm,
        auth_data,
    )
    return version


async def lock_backups(conn: Connection, user_nid: int) -> None:
    """Makes other changes of this user's backups wait until this transaction ends."""
    await conn.execute("SELECT FROM accounts WHERE user_nid = $1 FOR NO KEY UPDATE", user_nid)


async def count_backups(conn: Connection, user_nid: int) -> int:
    """How many versions there are that have not been deleted."""
    count: int = await conn.fetchval("SELECT count(*) FROM key_backups WHERE user_nid = $1 AND NOT deleted", user_nid)
    return count


async def current_backup(conn: Connection, user_nid: int) -> Backup | None:
    """The newest version that has not been deleted."""
    row = await conn.fetchrow(
        f"SELECT {_BACKUP} FROM key_backups WHERE user_nid = $1 AND NOT deleted "  # noqa: S608 - a constant
        "ORDER BY version DESC LIMIT 1",
        user_nid,
    )
    return Backup(*row) if row is not None else None


async def find_backup(conn: Connection, user_nid: int, version: int) -> Backup | None:
    """A version, be it deleted."""
    row = await conn.fetchrow(
        f"SELECT {_BACKUP} FROM key_backups WHERE user_nid = $1 AND version = $2",  # noqa: S608 - a constant
        user_nid,
        version,
    )
    return Backup(*row) if row is not None else None


async def update_auth_data(conn: Connection, user_nid: int, version: int, auth_data: bytes) -> None:
    await conn.execute(
        "UPDATE key_backups SET auth_data = $3 WHERE user_nid = $1 AND version = $2", user_nid, version, auth_data
    )


async def delete_backup(conn: Connection, user_nid: int, version: int) -> None:
    """Deletes all of a version but its number."""
    await conn.execute("DELETE FROM room_keys WHERE user_nid = $1 AND version = $2", user_nid, version)
    await conn.execute(
        "UPDATE key_backups SET deleted = true, auth_data = '', key_count = 0 WHERE user_nid = $1 AND version = $2",
        user_nid,
        version,
    )


async def merge_room_keys(conn: Connection, user_nid: int, version: int, keys: Sequence[RoomKey]) -> Backup:
    """Adds keys; of two for one session the better stays. Inside a transaction that holds `lock_backups`.

    :returns: the backup as it is now
    # spec: client-server-api/#backup-algorithm-mmegolm_backupv1curve25519-aes-sha2
    """
    rows = await conn.fetch(
        "INSERT INTO room_keys AS r (user_nid, version, room_id, session_id, first_message_index, forwarded_count, "
        "is_verified, session_data) SELECT $1, $2, n.* FROM unnest($3::text[], $4::text[], $5::bigint[], "
        "$6::bigint[], $7::boolean[], $8::bytea[]) AS n "
        "ON CONFLICT (user_nid, version, room_id, session_id) DO UPDATE SET "
        "first_message_index = excluded.first_message_index, forwarded_count = excluded.forwarded_count, "
        "is_verified = excluded.is_verified, session_data = excluded.session_data "
        "WHERE excluded.is_verified AND NOT r.is_verified OR excluded.is_verified = r.is_verified AND "
        "(excluded.first_message_index, excluded.forwarded_count) < (r.first_message_index, r.forwarded_count) "
        "RETURNING xmax = 0 AS added",
        user_nid,
        version,
        [key.room_id for key in keys],
        [key.session_id for key in keys],
        [key.first_message_index for key in keys],
        [key.forwarded_count for key in keys],
        [key.is_verified for key in keys],
        [key.session_data for key in keys],
    )
    return await _changed(conn, user_nid, version, sum(row["added"] for row in rows), bool(rows))


async def find_room_keys(
    conn: Connection, user_nid: int, version: int, room_id: str | None, session_id: str | None
) -> list[RoomKey]:
    """The keys of a version, of one room or one session if that is given."""
    rows = await conn.fetch(
        "SELECT room_id, session_id, first_message_index, forwarded_count, is_verified, session_data FROM room_keys "
        "WHERE user_nid = $1 AND version = $2 AND ($3::text IS NULL OR room_id = $3) "
        "AND ($4::text IS NULL OR session_id = $4)",
        user_nid,
        version,
        room_id,
        session_id,
    )
    return [RoomKey(*row) for row in rows]


async def delete_room_keys(
    conn: Connection, user_nid: int, version: int, room_id: str | None, session_id: str | None
) -> Backup:
    """Deletes what `find_room_keys` would find. Inside a transaction that holds `lock_backups`.

    :returns: the backup as it is now
    """
    tag = await conn.execute(
        "DELETE FROM room_keys WHERE user_nid = $1 AND version = $2 AND ($3::text IS NULL OR room_id = $3) "
        "AND ($4::text IS NULL OR session_id = $4)",
        user_nid,
        version,
        room_id,
        session_id,
    )
    gone = int(tag.rpartition(" ")[2])
    return await _changed(conn, user_nid, version, -gone, gone > 0)


async def _changed(conn: Connection, user_nid: int, version: int, more: int, changed: bool) -> Backup:
    row = await conn.fetchrow(
        "UPDATE key_backups SET key_count = key_count + $3, etag = etag + $4 "  # noqa: S608 - a constant
        f"WHERE user_nid = $1 AND version = $2 RETURNING {_BACKUP}",
        user_nid,
        version,
        more,
        int(changed),
    )
    assert row is not None, "the version is locked"
    return Backup(*row)
