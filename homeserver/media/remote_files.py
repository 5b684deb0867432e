"""Fetching files of other servers: each once, however many ask, and kept until nobody has looked at it for long.

# spec: server-server-api/#content-repository
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from homeserver.media.content import name_from_disposition, normal_content_type
from homeserver.media.multipart import Malformed, Parts, boundary_of
from homeserver.media.store import SizeExceeded
from homeserver.outbound import RequestFailed, ResponseTooLarge
from homeserver.protocol.errors import MatrixError, NotFound, Unavailable
from homeserver.remote import RemoteError
from homeserver.storage import media as rows
from homeserver.storage.media import MediaRow, NewFile

if TYPE_CHECKING:
    from homeserver.media.store import Store
    from homeserver.outbound import OutboundClient
    from homeserver.remote import Remote
    from homeserver.storage.stream import Pool

log = logging.getLogger(__name__)

_MOST_AT_ONCE = 64
_AROUND = 128 * 1024  # bytes that an answer may have around the file
_REDIRECTED_SECONDS = 120.0


class RemoteFiles:
    """Copies of other servers' files. `max_bytes` is the size of the largest."""

    def __init__(
        self,
        pool: Pool,
        store: Store,
        remote: Remote,
        outbound: OutboundClient,
        *,
        max_bytes: int,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self._pool = pool
        self._store = store
        self._remote = remote
        self._outbound = outbound
        self._max_bytes = max_bytes
        self._now_ms = now_ms
        self._running: dict[tuple[str, str], asyncio.Task[MediaRow]] = {}

    async def fetch(self, origin: str, media_id: str, timeout_ms: int) -> MediaRow:
        """The file `mxc://origin/media_id`, which is here afterwards.

        :param timeout_ms: how long its server may wait for an upload that has not come
        :raises NotFound: if its server has none
        :raises MatrixError: M_NOT_YET_UPLOADED (504)
        :raises Unavailable: if its server does not give it; M_TOO_LARGE if it is too large
        """
        key = (origin, media_id)
        task = self._running.get(key)
        if task is None:
            if len(self._running) >= _MOST_AT_ONCE:
                raise Unavailable("Too many files are being fetched from other servers", status=503)
            # A task of its own: the one who asked first may leave, and others wait for it too.
            task = self._running[key] = asyncio.create_task(self._fetch(origin, media_id, timeout_ms))
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    def _done(self, key: tuple[str, str], task: asyncio.Task[MediaRow]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # all who asked may have left

    async def close(self) -> None:
        """Ends what is under way."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(self, origin: str, media_id: str, timeout_ms: int) -> MediaRow:
        try:
            await self._from_peer(origin, media_id, timeout_ms)
        except RemoteError as error:
            raise _told(error) from error
        except (ResponseTooLarge, SizeExceeded):
            # spec: client-server-api/#content-repository
            raise Unavailable("The file is larger than this server fetches", errcode="M_TOO_LARGE") from None
        except RequestFailed as error:
            raise Unavailable(f"{origin} did not give the file: {error}") from error
        async with self._pool.acquire() as conn:
            row = await rows.find_media(conn, origin, media_id)
        if row is None:
            raise NotFound("There is no such file")
        return row

    async def _from_peer(self, origin: str, media_id: str, timeout_ms: int) -> None:
        limit = self._max_bytes + _AROUND
        try:
            async with self._remote.download_media(origin, media_id, max_bytes=limit, timeout_ms=timeout_ms) as answer:
                parts = Parts(answer.chunks(), boundary_of(answer.headers.get("Content-Type", "")))
                headers = await parts.headers()
                location = headers.get("location")
                if location is None:
                    type_, disposition = headers.get("content-type"), headers.get("content-disposition")
                    await self._keep(origin, media_id, parts.file(), type_, disposition)
                    return
        except RemoteError as error:
            if not error.unsupported:
                raise
            await self._from_old_peer(origin, media_id, timeout_ms)
        else:
            await self._from_elsewhere(origin, media_id, location)

    async def _from_old_peer(self, origin: str, media_id: str, timeout_ms: int) -> None:
        async with self._remote.download_media_unauthenticated(
            origin, media_id, max_bytes=self._max_bytes, timeout_ms=timeout_ms
        ) as answer:
            await self._keep(
                origin,
                media_id,
                answer.chunks(),
                answer.headers.get("Content-Type"),
                answer.headers.get("Content-Disposition"),
            )

    async def _from_elsewhere(self, origin: str, media_id: str, location: str) -> None:
        if urlsplit(location).scheme != "https":
            raise Malformed(f"{origin} says that its file is somewhere that is not asked")
        async with self._outbound.stream(
            "GET", location, timeout=_REDIRECTED_SECONDS, max_bytes=self._max_bytes, follow_redirects=True
        ) as answer:
            if answer.status != 200:
                raise Unavailable(f"The file of {origin} is not where it says: status {answer.status}")
            await self._keep(
                origin,
                media_id,
                answer.chunks(),
                answer.headers.get("Content-Type"),
                answer.headers.get("Content-Disposition"),
            )

    async def _keep(
        self,
        origin: str,
        media_id: str,
        body: AsyncIterator[bytes],
        content_type: str | None,
        disposition: str | None,
    ) -> None:
        async with self._store.receive(body, self._max_bytes) as incoming:
            file = NewFile(
                incoming.sha256,
                incoming.size,
                normal_content_type(content_type),
                name_from_disposition(disposition),
            )
            async with self._pool.acquire() as conn:
                await rows.claim_file(conn, incoming.sha256, self._now_ms())
            await incoming.keep()
            async with self._pool.acquire() as conn, conn.transaction():
                await rows.insert_media(conn, origin, media_id, None, file, self._now_ms())


def _told(error: RemoteError) -> MatrixError:
    """What a client is told of what another server has answered."""
    if error.peer_errcode == "M_NOT_YET_UPLOADED" or error.peer_status == 504:
        return MatrixError("Nothing has been uploaded yet", errcode="M_NOT_YET_UPLOADED", status=504)
    if error.peer_status == 404:
        return NotFound("There is no such file")
    if error.peer_errcode == "M_TOO_LARGE":
        return Unavailable("The file is larger than its server gives", errcode="M_TOO_LARGE")
    return error
