"""Brings the database to the schema that this code needs: the files schema/NNNN_*.sql, in order, only forward.

Each file runs in one transaction with the row in `schema_migrations` that says so, under a lock, so that a crash leaves
either all of it or nothing, and servers that start together do not both do it. The row keeps the file's hash: a file
that was changed after it ran is refused, because nobody could say what the database looks like then.

    python -m homeserver.storage.migrate > schema/current.sql

writes down the schema as all the files make it. It is for reading; nothing runs it.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.resources
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from homeserver.storage.embedded import EmbeddedPostgres
from homeserver.storage.postgres_programs import OLDEST_MAJOR, find_programs

log = logging.getLogger(__name__)

_LOCK = 0x7A1C_0002  # an arbitrary number that no other advisory lock of ours uses
_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


class MigrationError(Exception):
    """The database does not fit the code. The text says why and what to do."""


@dataclass(frozen=True)
class Migration:
    """One file: its number, its name without number and ending, and its SQL."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def label(self) -> str:
        return f"{self.number:04}_{self.name}"


def load_migrations() -> list[Migration]:
    """The files of the package `schema`, in order. Their numbers are 1, 2, 3, … without a gap."""
    found = []
    for file in importlib.resources.files("schema").iterdir():
        match = _FILE.fullmatch(file.name)
        if match is not None:
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    found.sort(key=lambda one: one.number)
    if [one.number for one in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"schema/: the numbers must be 1, 2, 3, …, not {', '.join(one.label for one in found)}")
    return found


async def migrate(conn: asyncpg.Connection, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Applies what is missing and returns its names, such as ["0002_profiles"]. Raises MigrationError.

    `conn` must not be in a transaction. `migrations` is given by tests only.
    """
    wanted = load_migrations() if migrations is None else list(migrations)
    await _check_database(conn)
    # Waits for a server that migrates just now, however long that takes.
    await conn.execute("SET statement_timeout = 0")
    await conn.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        await conn.execute(
            """
            CREATE TABLE IF NOT EXISTS schema_migrations (
                number     integer PRIMARY KEY,
                name       text NOT NULL,
                sha256     text NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT now()
            )
            """
        )
        missing = await _missing(conn, wanted)
        for migration in missing:
            await _apply(conn, migration)
        return [one.label for one in missing]
    finally:
        await conn.execute("SELECT pg_advisory_unlock($1)", _LOCK)
        await conn.execute("RESET statement_timeout")


async def pending(conn: asyncpg.Connection) -> list[str]:
    """The names of the migrations that `migrate` would apply; changes nothing. Raises MigrationError as it does."""
    await _check_database(conn)
    wanted = load_migrations()
    if await conn.fetchval("SELECT to_regclass('schema_migrations') IS NULL"):
        return [one.label for one in wanted]
    return [one.label for one in await _missing(conn, wanted)]


async def _check_database(conn: asyncpg.Connection) -> None:
    version = conn.get_server_version()
    if version.major < OLDEST_MAJOR:
        raise MigrationError(
            f"The database is PostgreSQL {version.major}, but {OLDEST_MAJOR} or newer is needed: upgrade it, or point "
            "database.url to a newer one."
        )
    encoding = await conn.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise MigrationError(
            f"The database keeps its text as {encoding}, but UTF8 is needed: "
            "CREATE DATABASE … ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0."
        )


async def _missing(conn: asyncpg.Connection, wanted: Sequence[Migration]) -> list[Migration]:
    applied = {row["number"]: row for row in await conn.fetch("SELECT number, name, sha256 FROM schema_migrations")}
    known = {one.number: one for one in wanted}
    for number in sorted(applied):
        row, migration = applied[number], known.get(number)
        if migration is None:
            raise MigrationError(
                f"The database was made by a newer Talk pAI (it has {number:04}_{row['name']}, this one knows up to "
                f"{len(wanted):04}): start that version or a newer one. There is no way back but a backup."
            )
        if migration.sha256 != row["sha256"]:
            raise MigrationError(
                f"schema/{migration.label}.sql is not what ran on this database (as {number:04}_{row['name']}): "
                "restore that file, and make the change in a new one."
            )
    missing = [one for one in wanted if one.number not in applied]
    if missing and applied and missing[0].number < max(applied):
        raise MigrationError(
            f"The database has {max(applied):04} but lacks {missing[0].label}: restore it from a backup."
        )
    return missing


async def _apply(conn: asyncpg.Connection, migration: Migration) -> None:
    log.info("Changing the database: %s", migration.label)
    try:
        async with conn.transaction():
            await conn.execute(migration.sql)
            await conn.execute(
                "INSERT INTO schema_migrations (number, name, sha256) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.sha256,
            )
    except asyncpg.PostgresError as error:
        raise MigrationError(f"schema/{migration.label}.sql failed, and nothing of it was kept: {error}") from error


async def current_schema() -> str:
    """The text of schema/current.sql: all migrations on an empty database of our own, dumped and normalised."""
    with tempfile.TemporaryDirectory(prefix="talkpai-schema-") as directory:
        database = EmbeddedPostgres(Path(directory), progress=log.debug)
        dsn = await database.start()
        try:
            conn = await asyncpg.connect(dsn)
            try:
                await migrate(conn)
            finally:
                await conn.close()
            return await asyncio.to_thread(_dump, dsn)
        finally:
            await database.stop()


_HEAD = """\
-- The schema as all migrations make it, for reading. Written by `python -m homeserver.storage.migrate`.

"""


def _dump(dsn: str) -> str:
    # Always the packaged programs: each version of pg_dump writes a little differently.
    pg_dump = find_programs(None).directory / "pg_dump"
    command = [str(pg_dump), "--schema-only", "--no-owner", "--no-privileges", dsn]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"})  # noqa: S603
    return _HEAD + _normalised(done.stdout)


def _normalised(dump: str) -> str:
    """The dump without what is not schema: comments, session settings, version numbers, runs of empty lines."""
    noise = re.compile(r"--|SET |SELECT pg_catalog\.set_config|\\(un)?restrict ")
    lines = [line.rstrip() for line in dump.splitlines() if not noise.match(line)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(asyncio.run(current_schema()))
