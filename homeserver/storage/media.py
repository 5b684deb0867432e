"""What is known of files: who uploaded them, what they are, where their smaller forms are, and which nobody needs.

A file is claimed (`claim_file`) in a transaction of its own before it is put in its place, and a reference to it ends
the claim. Whatever still has an old claim and no reference is removed, under the claim's row lock, by `drop_unused`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import asyncpg

from homeserver.storage.stream import Connection

_CLAIM_MS = 3600 * 1000  # between a claim and its reference lie moments; after this time nobody is on the way
_USER_LOCK = 0x7A1C_0018


@dataclass(frozen=True, slots=True)
class MediaRow:
    """`sha256` and `size` are None while nothing has been uploaded; times are ms since 1970."""

    media_nid: int
    origin: str
    media_id: str
    user_nid: int | None
    content_type: str
    upload_name: str | None
    sha256: bytes | None
    size: int | None
    created_ts: int
    last_access_ts: int
    expires_ts: int | None
    quarantined_by: str | None


@dataclass(frozen=True, slots=True)
class ThumbnailRow:
    """A smaller form of an image; `width` and `height` are those that were wanted, not those that it has."""

    width: int
    height: int
    crop: bool
    animated: bool
    content_type: str
    sha256: bytes
    size: int


@dataclass(frozen=True, slots=True)
class NewFile:
    """What is known of bytes that have just come."""

    sha256: bytes
    size: int
    content_type: str
    upload_name: str | None


COLUMNS = (
    "media_nid, origin, media_id, user_nid, content_type, upload_name, sha256, size, created_ts, last_access_ts, "
    "expires_ts, quarantined_by"
)


def _row(record: asyncpg.Record | None) -> MediaRow | None:
    return MediaRow(**record) if record is not None else None


async def find_media(conn: Connection, origin: str, media_id: str) -> MediaRow | None:
    """What is known of `mxc://origin/media_id`."""
    return _row(
        await conn.fetchrow(
            f"SELECT {COLUMNS} FROM media WHERE origin = $1 AND media_id = $2",  # noqa: S608
            origin,
            media_id,
        )
    )


async def claim_file(conn: Connection, sha256: bytes, now_ms: int) -> None:
    """Says that a file of that hash is about to be put in its place. Must be committed before that is done."""
    await conn.execute(
        "INSERT INTO media_unused_files (sha256, since_ts) VALUES ($1, $2) "
        "ON CONFLICT (sha256) DO UPDATE SET since_ts = excluded.since_ts",
        sha256,
        now_ms,
    )


async def _end_claim(conn: Connection, sha256: bytes) -> None:
    await conn.execute("DELETE FROM media_unused_files WHERE sha256 = $1", sha256)


async def insert_media(
    conn: Connection, origin: str, media_id: str, user_nid: int | None, file: NewFile, now_ms: int
) -> bool:
    """Enters a file that is in its place. Returns whether there was none of that id."""
    done = await conn.fetchval(
        "INSERT INTO media (origin, media_id, user_nid, content_type, upload_name, sha256, size, created_ts, "
        "last_access_ts) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT DO NOTHING RETURNING 1",
        origin,
        media_id,
        user_nid,
        file.content_type,
        file.upload_name,
        file.sha256,
        file.size,
        now_ms,
    )
    if done is not None:
        await _end_claim(conn, file.sha256)
    return done is not None


async def insert_pending(
    conn: Connection, origin: str, media_id: str, user_nid: int, *, now_ms: int, expires_ts: int
) -> None:
    """Enters an id to which something will be uploaded."""
    await conn.execute(
        "INSERT INTO media (origin, media_id, user_nid, created_ts, last_access_ts, expires_ts) "
        "VALUES ($1, $2, $3, $4, $4, $5)",
        origin,
        media_id,
        user_nid,
        now_ms,
        expires_ts,
    )


async def complete_pending(conn: Connection, media_nid: int, file: NewFile, now_ms: int) -> bool:
    """Enters the file of an id that has none. Returns whether that was still so, and in time."""
    done = await conn.fetchval(
        "UPDATE media SET content_type = $2, upload_name = $3, sha256 = $4, size = $5, created_ts = $6, "
        "last_access_ts = $6, expires_ts = NULL "
        "WHERE media_nid = $1 AND sha256 IS NULL AND expires_ts > $6 RETURNING 1",
        media_nid,
        file.content_type,
        file.upload_name,
        file.sha256,
        file.size,
        now_ms,
    )
    if done is not None:
        await _end_claim(conn, file.sha256)
    return done is not None


async def lock_uploads_of(conn: Connection, user_nid: int) -> None:
    """Makes other uploads of that user that do the same wait until the transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", str(user_nid), _USER_LOCK)


async def used_bytes(conn: Connection, user_nid: int) -> int:
    """How much a user has uploaded."""
    used: int = await conn.fetchval("SELECT coalesce(sum(size), 0)::bigint FROM media WHERE user_nid = $1", user_nid)
    return used


async def count_pending(conn: Connection, user_nid: int, now_ms: int) -> tuple[int, int]:
    """How many ids of a user wait for their file, and when the first of them (0: none) stops to wait."""
    row = await conn.fetchrow(
        "SELECT count(*), coalesce(min(expires_ts), 0) FROM media "
        "WHERE user_nid = $1 AND sha256 IS NULL AND expires_ts > $2",
        user_nid,
        now_ms,
    )
    assert row is not None
    return row[0], row[1]


async def touch(conn: Connection, media_nid: int, now_ms: int) -> None:
    """Remembers that somebody has looked at it."""
    await conn.execute("UPDATE media SET last_access_ts = $2 WHERE media_nid = $1", media_nid, now_ms)


async def find_thumbnail(
    conn: Connection, original: bytes, width: int, height: int, *, crop: bool, animated: bool
) -> ThumbnailRow | None:
    """The smaller form of the file of that hash, if it has been made."""
    row = await conn.fetchrow(
        "SELECT width, height, crop, animated, content_type, sha256, size FROM media_thumbnails "
        "WHERE original = $1 AND width = $2 AND height = $3 AND crop = $4 AND animated = $5",
        original,
        width,
        height,
        crop,
        animated,
    )
    return ThumbnailRow(**row) if row is not None else None


async def insert_thumbnail(conn: Connection, original: bytes, thumbnail: ThumbnailRow) -> bool:
    """Enters a smaller form that is in its place. False, and nothing done, if its original has gone meanwhile."""
    if await conn.fetchval("SELECT 1 FROM media WHERE sha256 = $1 LIMIT 1 FOR SHARE", original) is None:
        return False
    await conn.execute(
        "INSERT INTO media_thumbnails (original, width, height, crop, animated, content_type, sha256, size) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        original,
        thumbnail.width,
        thumbnail.height,
        thumbnail.crop,
        thumbnail.animated,
        thumbnail.content_type,
        thumbnail.sha256,
        thumbnail.size,
    )
    await _end_claim(conn, thumbnail.sha256)
    return True


async def delete_media(conn: Connection, media_nids: Sequence[int]) -> None:
    """Forgets them, with their smaller forms where nothing else has the same bytes. The files go by `drop_unused`."""
    records = await conn.fetch(
        "DELETE FROM media WHERE media_nid = ANY($1::bigint[]) RETURNING sha256", list(media_nids)
    )
    hashes = sorted({record["sha256"] for record in records if record["sha256"] is not None})
    await _release(conn, hashes)
    await _delete_thumbnails(conn, hashes)


async def _delete_thumbnails(conn: Connection, originals: Sequence[bytes]) -> None:
    records = await conn.fetch(
        "DELETE FROM media_thumbnails t WHERE t.original = ANY($1::bytea[]) "
        "AND NOT EXISTS (SELECT FROM media m WHERE m.sha256 = t.original) RETURNING t.sha256",
        list(originals),
    )
    if records:
        await _release(conn, [record["sha256"] for record in records])


async def _release(conn: Connection, hashes: Sequence[bytes]) -> None:
    """Says that perhaps nothing refers to those files any more."""
    # A claim that is there is someone's who is about to refer to the file, so it stays as young as it is.
    await conn.execute(
        "INSERT INTO media_unused_files (sha256, since_ts) SELECT DISTINCT sha256, 0 FROM unnest($1::bytea[]) "
        "AS sha256 ORDER BY sha256 ON CONFLICT DO NOTHING",
        list(hashes),
    )


async def drop_unused(conn: Connection, now_ms: int, remove: Callable[[bytes], Awaitable[None]], limit: int) -> int:
    """Removes files that nothing refers to, inside a transaction. Returns how many were looked at."""
    records = await conn.fetch(
        "SELECT sha256 FROM media_unused_files WHERE since_ts < $1 ORDER BY since_ts LIMIT $2 FOR UPDATE SKIP LOCKED",
        now_ms - _CLAIM_MS,
        limit,
    )
    for record in records:
        sha256 = record["sha256"]
        await _delete_thumbnails(conn, [sha256])
        used = await conn.fetchval(
            "SELECT EXISTS (SELECT FROM media WHERE sha256 = $1) "
            "OR EXISTS (SELECT FROM media_thumbnails WHERE sha256 = $1)",
            sha256,
        )
        if not used:
            await remove(sha256)
        await _end_claim(conn, sha256)
    return len(records)


async def outdated_media(
    conn: Connection, server_name: str, *, now_ms: int, own_before: int | None, remote_before: int | None, limit: int
) -> list[int]:
    """What may go: not looked at since those times (ms; None: never), and ids whose time to be filled has passed.

    What is quarantined stays: a copy that was fetched again would not be.
    """
    records = await conn.fetch(
        "SELECT media_nid FROM media WHERE sha256 IS NULL AND expires_ts <= $2 "
        "UNION ALL (SELECT media_nid FROM media WHERE sha256 IS NOT NULL AND quarantined_by IS NULL "
        "AND last_access_ts < CASE WHEN origin = $1 THEN $3::bigint ELSE $4::bigint END "
        "ORDER BY last_access_ts LIMIT $5) LIMIT $5",
        server_name,
        now_ms,
        own_before,
        remote_before,
        limit,
    )
    return [record["media_nid"] for record in records]
