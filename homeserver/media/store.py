"""Where the bytes are. A file is named by the SHA-256 of what is in it, so equal ones are kept once.

What comes in is written to a temporary file beside, forced to disk, and renamed: under its name a file is whole or not
there, whatever dies when. An object store can take the place of the directory by implementing `Store`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

_PIECE = 256 * 1024  # bytes in memory for each file on its way


class SizeExceeded(Exception):
    """More bytes came than were allowed."""


class Incoming(Protocol):
    """Bytes that have all come and have no name yet."""

    sha256: bytes
    size: int

    async def keep(self) -> None:
        """Puts them in their place, for good."""


class Reader(Protocol):
    """A file that is open."""

    def read(self, start: int, length: int) -> AsyncIterator[bytes]:
        """`length` bytes from `start` on; may be called once, and closes the file."""


class Store(Protocol):
    """Files by their hash (32 bytes)."""

    def receive(self, chunks: AsyncIterator[bytes], max_bytes: int) -> AbstractAsyncContextManager[Incoming]:
        """Takes all of `chunks`; what has not been kept when the block is left is gone.

        :raises SizeExceeded: if there are more than `max_bytes`
        """

    async def open(self, sha256: bytes) -> Reader:
        """:raises FileNotFoundError: if there is no such file"""

    def local_file(self, sha256: bytes) -> AbstractAsyncContextManager[Path]:
        """A path at which the file can be read while the block lasts."""

    def scratch(self) -> AbstractAsyncContextManager[Path]:
        """An empty directory, gone after the block."""

    async def delete(self, sha256: bytes) -> None:
        """Removes the file, if it is there."""


class DiskStore:
    """A `Store` in a directory of this machine."""

    def __init__(self, directory: Path) -> None:
        self._files = directory / "files"
        self._incoming = directory / "incoming"

    def prepare(self) -> None:
        """Makes the directories, and removes what a process that died had not finished.

        :raises OSError: if that can't be done
        """
        for directory in (self._files, self._incoming):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._incoming.iterdir():
            _remove(left)

    @asynccontextmanager
    async def receive(self, chunks: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[Incoming]:
        descriptor, name = await asyncio.to_thread(tempfile.mkstemp, dir=self._incoming)
        path = Path(name)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                sha256, size = await _write_all(file, chunks, max_bytes)
            yield _DiskIncoming(path, self._path(sha256), sha256, size)
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def open(self, sha256: bytes) -> Reader:
        return _DiskReader(await asyncio.to_thread(self._path(sha256).open, "rb"))

    @asynccontextmanager
    async def local_file(self, sha256: bytes) -> AsyncIterator[Path]:
        yield self._path(sha256)

    @asynccontextmanager
    async def scratch(self) -> AsyncIterator[Path]:
        path = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._incoming))
        try:
            yield path
        finally:
            await asyncio.to_thread(_remove, path)

    async def delete(self, sha256: bytes) -> None:
        await asyncio.to_thread(self._path(sha256).unlink, missing_ok=True)

    def _path(self, sha256: bytes) -> Path:
        name = sha256.hex()
        return self._files / name[:2] / name[2:4] / name


class _DiskIncoming:
    def __init__(self, temporary: Path, target: Path, sha256: bytes, size: int) -> None:
        self._temporary = temporary
        self._target = target
        self.sha256 = sha256
        self.size = size

    async def keep(self) -> None:
        await asyncio.to_thread(self._keep)

    def _keep(self) -> None:
        if self._target.exists():
            return  # the same bytes
        # Each directory that may be new must be known to the one above it, or a crash loses the file with its name.
        for directory in (self._target.parent.parent, self._target.parent):
            if not directory.exists():
                directory.mkdir(mode=0o700, exist_ok=True)
                _sync_directory(directory.parent)
        self._temporary.replace(self._target)
        _sync_directory(self._target.parent)


class _DiskReader:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    async def read(self, start: int, length: int) -> AsyncIterator[bytes]:
        with self._file as file:
            file.seek(start)
            while length > 0:
                piece = await asyncio.to_thread(file.read, min(_PIECE, length))
                if not piece:
                    raise OSError("the file is shorter than it was")
                length -= len(piece)
                yield piece


async def _write_all(file: BinaryIO, chunks: AsyncIterator[bytes], max_bytes: int) -> tuple[bytes, int]:
    digest = hashlib.sha256()
    size = 0
    waiting: list[bytes] = []
    waits = 0

    def write(pieces: list[bytes]) -> None:
        for piece in pieces:
            digest.update(piece)
            view = memoryview(piece)
            while view:
                view = view[file.write(view) :]

    async for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise SizeExceeded
        waiting.append(chunk)
        waits += len(chunk)
        if waits >= _PIECE:
            await asyncio.to_thread(write, waiting)
            waiting, waits = [], 0
    await asyncio.to_thread(write, waiting)
    await asyncio.to_thread(os.fsync, file.fileno())
    return digest.digest(), size


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        for inner in path.iterdir():
            _remove(inner)
        with contextlib.suppress(FileNotFoundError):
            path.rmdir()
    else:
        path.unlink(missing_ok=True)
