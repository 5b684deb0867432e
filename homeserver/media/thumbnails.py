"""Smaller forms of images: a few sizes, each made once for each file, in processes apart.

A worker that takes too long is killed, one that dies is replaced, and each is replaced after some images, so that what
a decoder does to its process ends with it.

# spec: client-server-api/#thumbnails
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homeserver.protocol.errors import BadRequest, LimitExceeded, MatrixError, TooLarge
from homeserver.storage import media as rows
from homeserver.storage.media import MediaRow, NewFile, ThumbnailRow

if TYPE_CHECKING:
    from homeserver.media.store import Store
    from homeserver.storage.stream import Pool

log = logging.getLogger(__name__)

_RENDER = Path(__file__).with_name("render.py")
_SECONDS = 20.0  # for one image
_IMAGES = 100  # that a process makes before another takes its place
_MEMORY = 1024 * 1024 * 1024
_FILE = 32 * 1024 * 1024
_MOST_WAITING = 200
_SIZES = {
    # spec: client-server-api/#thumbnails, and a few between and above, so that no more is sent than is shown
    "scale": ((96, 96), (320, 240), (640, 480), (800, 600), (1600, 1200)),
    "crop": ((32, 32), (96, 96), (320, 320), (640, 640)),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """`width` and `height` are those of one of a few sizes, None where only the original is large enough."""

    width: int
    height: int
    crop: bool
    animated: bool


def wanted(width: int, height: int, method: str, *, animated: bool) -> Wanted | None:
    """The smallest of the sizes that is as large as asked; None if none is, so that the original is to be given.

    :raises BadRequest: for no size at all
    """
    if width < 1 or height < 1:
        raise BadRequest("width and height must be positive")
    crop = method == "crop"
    for across, down in _SIZES[method]:
        if width <= across and height <= down:
            if crop and width != height:
                # In the form that is asked for, its longer side that of the size.
                longer = max(width, height)
                across, down = max(1, width * across // longer), max(1, height * down // longer)
                across, down = max(across, width), max(down, height)
            return Wanted(across, down, crop, animated)
    return None


@dataclass(frozen=True, slots=True)
class Picture:
    """A file that is there and may be shown."""

    sha256: bytes
    size: int
    content_type: str


class _Worker:
    """One process, or none yet."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._process: asyncio.subprocess.Process | None = None
        self._made = 0

    async def do(self, job: dict[str, Any]) -> dict[str, Any]:
        """What `render.py` says of the job; an error if it took too long or died of it."""
        if self._process is None or self._process.returncode is not None or self._made >= _IMAGES:
            await self.stop()
            self._process = await self._start()
            self._made = 0
        self._made += 1
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_SECONDS):
                process.stdin.write(json.dumps(job).encode() + b"\n")
                await process.stdin.drain()
                line = await process.stdout.readline()
        except (TimeoutError, ConnectionError, ValueError):
            line = b""
        except BaseException:
            await self.stop()
            raise
        if not line.endswith(b"\n"):
            await self.stop()
            log.info("A process that makes images smaller was lost to one of them")
            return {"error": "too_large"}
        result: dict[str, Any] = json.loads(line)
        return result

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(_RENDER),
            *(str(limit) for limit in (self._max_pixels, _MEMORY, _FILE)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # Each arena of the allocator would count against the limit of memory.
            env={"MALLOC_ARENA_MAX": "2"},
        )

    async def stop(self) -> None:
        """Kills the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Thumbnails:
    """Makes smaller forms and remembers them."""

    def __init__(
        self,
        pool: Pool,
        store: Store,
        *,
        max_pixels: int,
        processes: int,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self._pool = pool
        self._store = store
        self._now_ms = now_ms
        self._workers = [_Worker(max_pixels) for _ in range(processes)]
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        for worker in self._workers:
            self._idle.put_nowait(worker)
        self._running: dict[tuple[bytes, Wanted], asyncio.Task[Picture]] = {}

    async def picture(self, row: MediaRow, size: Wanted | None) -> Picture:
        """The smaller form of an uploaded file, or the file itself if it is not larger.

        :raises BadRequest: if it is no image that can be made smaller
        :raises TooLarge: if it is a very large one
        :raises LimitExceeded: if too many are being made
        """
        assert row.sha256 is not None, "found means uploaded"
        assert row.size is not None
        original = Picture(row.sha256, row.size, row.content_type)
        if size is None:
            # Nothing is decoded, and nothing but what says that it is a picture is given.
            if not row.content_type.startswith("image/") or row.content_type.startswith("image/svg"):
                raise _no_image()
            return original
        key = (row.sha256, size)
        task = self._running.get(key)
        if task is None:
            if len(self._running) >= _MOST_WAITING:
                raise LimitExceeded("Too many images are being made smaller", retry_after_ms=1000)
            # Others may wait for it too when the one who asked first has gone.
            task = self._running[key] = asyncio.create_task(self._picture(original, size))
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    def _done(self, key: tuple[bytes, Wanted], task: asyncio.Task[Picture]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()

    async def close(self) -> None:
        """Ends what is under way, and the processes."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for worker in self._workers:
            await worker.stop()

    async def _picture(self, original: Picture, size: Wanted) -> Picture:
        async with self._pool.acquire() as conn:
            row = await rows.find_thumbnail(
                conn, original.sha256, size.width, size.height, crop=size.crop, animated=size.animated
            )
        if row is not None:
            return Picture(row.sha256, row.size, row.content_type)
        async with self._store.scratch() as directory, self._store.local_file(original.sha256) as source:
            target = directory / "thumbnail"
            result = await self._render(source, target, size)
            if result.get("original"):
                return original
            if "type" not in result:
                raise TooLarge("The image is too large") if result.get("error") == "too_large" else _no_image()
            return await self._keep(original, size, target, str(result["type"]))

    async def _render(self, source: Path, target: Path, size: Wanted) -> dict[str, Any]:
        job = {"source": str(source), "target": str(target), "width": size.width, "height": size.height}
        worker = await self._idle.get()
        try:
            return await worker.do({**job, "crop": size.crop, "animated": size.animated})
        finally:
            self._idle.put_nowait(worker)

    async def _keep(self, original: Picture, size: Wanted, target: Path, content_type: str) -> Picture:
        data = await asyncio.to_thread(target.read_bytes)
        async with self._store.receive(_once(data), _FILE) as incoming:
            file = NewFile(incoming.sha256, incoming.size, content_type, None)
            async with self._pool.acquire() as conn:
                await rows.claim_file(conn, file.sha256, self._now_ms())
            await incoming.keep()
            row = ThumbnailRow(size.width, size.height, size.crop, size.animated, content_type, file.sha256, file.size)
            async with self._pool.acquire() as conn, conn.transaction():
                await rows.insert_thumbnail(conn, original.sha256, row)
        return Picture(file.sha256, file.size, content_type)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _no_image() -> MatrixError:
    # spec: client-server-api/#get_matrixclientv1mediathumbnailservernamemediaid
    return BadRequest("Nothing smaller can be made of this file")
