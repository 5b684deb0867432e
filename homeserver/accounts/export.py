"""A copy of everything that is kept about a user, as a ZIP of JSON files, written a few rows at a time.

It is written to a file and not straight to whoever wants it, so that no transaction waits for a slow network, and so
that what goes wrong is said before anything is sent.
"""

from __future__ import annotations

import asyncio
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from typing import IO

import orjson

from homeserver.media.store import Store
from homeserver.storage.account_export import SECTIONS, Section, rows_of, sent_events_page
from homeserver.storage.accounts import Account
from homeserver.storage.media_lists import media_of_user
from homeserver.storage.members import memberships_of
from homeserver.storage.stream import Connection

Progress = Callable[[str], None]
"""Is told what is being written."""

_PIECE = 256 * 1024  # bytes that are compressed at once, beside the event loop
_FILES_AT_ONCE = 100
_FIRST_ORD = -(2**63)


async def write_export(
    conn: Connection, store: Store, account: Account, file: IO[bytes], progress: Progress = lambda _: None
) -> None:
    """Writes the ZIP. `conn` is not in a transaction; it takes several, one after the other.

    :param store: where the files are that users upload

    :raises OSError: if the file can't be written
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        await _write(archive, "README.txt", _readme(account))
        for section in SECTIONS:
            progress(section.file)
            async with conn.transaction(isolation="repeatable_read", readonly=True):
                await _write(archive, section.file, _array(_encoded(conn, section, account.user_nid)))
        progress("events.json")
        await _write(archive, "events.json", _array(_events(conn, account, progress)))
        await _write_media(conn, store, account, archive, progress)


async def _write_media(
    conn: Connection, store: Store, account: Account, archive: zipfile.ZipFile, progress: Progress
) -> None:
    offset = 0
    while True:
        found, total = await media_of_user(conn, account.user_nid, offset=offset, limit=_FILES_AT_ONCE, backwards=True)
        if not found:
            return
        for number, row in enumerate(found, offset + 1):
            progress(f"media: {number} of {total} files")
            if row.quarantined_by is not None or row.sha256 is None or row.size is None:
                continue
            try:
                reader = await store.open(row.sha256)
            except FileNotFoundError:
                continue  # deleted a moment ago
            # Their ids have no characters that a path could be made of.
            await _write(archive, f"media/{row.media_id}", reader.read(0, row.size))
        offset += len(found)


async def _readme(account: Account) -> AsyncIterator[bytes]:
    lines = [
        f"What the server keeps about {account.user_id}",
        time.strftime("Written on %Y-%m-%d at %H:%M UTC.", time.gmtime()),
        "",
        "Each file is a JSON array. Times are milliseconds since 1970-01-01 UTC.",
        "",
        *(f"{section.file}: {section.about}" for section in SECTIONS),
        "events.json: every event that the user has sent, as the rooms have it",
        "media/: the files that the user has uploaded, by their ids in media.json",
        "",
        "Passwords, tokens and secrets are kept only as hashes or encrypted, and are not here.",
        "Messages in encrypted rooms are as encrypted here as they are on the server.",
        "",
    ]
    yield "\r\n".join(lines).encode()


async def _encoded(conn: Connection, section: Section, user_nid: int) -> AsyncIterator[bytes]:
    async for row in rows_of(conn, section, user_nid):
        yield orjson.dumps(row)


async def _events(conn: Connection, account: Account, progress: Progress) -> AsyncIterator[bytes]:
    number = 0
    for membership in await memberships_of(conn, account.user_nid):
        after: int | None = _FIRST_ORD
        while after is not None:
            events, after = await sent_events_page(conn, membership.room_nid, account.user_nid, after)
            for event in events:
                yield event
            if events:
                number += len(events)
                progress(f"events.json: {number} events")


async def _array(items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    separator = b"[\n"
    async for item in items:
        yield separator + item
        separator = b",\n"
    yield b"[]\n" if separator == b"[\n" else b"\n]\n"


async def _write(archive: zipfile.ZipFile, name: str, pieces: AsyncIterator[bytes]) -> None:
    with archive.open(name, "w", force_zip64=True) as entry:
        waiting: list[bytes] = []
        size = 0
        async for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= _PIECE:
                await asyncio.to_thread(entry.write, b"".join(waiting))
                waiting, size = [], 0
        await asyncio.to_thread(entry.write, b"".join(waiting))
