"""The content repository of this server: what is uploaded, found, and removed.

A file is in its place before the row that means it is committed, and stays there until no row does; whatever dies in
between leaves a file that the next sweep removes, never a row without its file.

# spec: client-server-api/#content-repository
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg

from homeserver.media.content import check_media_id, normal_content_type, safe_name
from homeserver.media.store import Incoming, SizeExceeded
from homeserver.protocol.errors import Forbidden, LimitExceeded, MatrixError, NotFound, TooLarge
from homeserver.protocol.identifiers import is_server_name
from homeserver.storage import media as rows
from homeserver.storage.media import MediaRow, NewFile

if TYPE_CHECKING:
    from homeserver.config.media import MediaConfig
    from homeserver.media.remote_files import RemoteFiles
    from homeserver.media.store import Store
    from homeserver.media.thumbnails import Thumbnails
    from homeserver.storage.stream import Connection, Pool

log = logging.getLogger(__name__)

_DAY_MS = 24 * 3600 * 1000
_TOUCH_MS = 3600 * 1000  # how exactly the last access is remembered
_MAX_WAIT_MS = 60_000
_LOOK_AGAIN = 1.0  # seconds; another process may have been uploaded to
_SWEEP_SECONDS = 600.0
_SWEEP_ROWS = 200


class Media:
    """Files of this server's users, and copies of other servers' files."""

    def __init__(
        self,
        pool: Pool,
        store: Store,
        remote_files: RemoteFiles,
        thumbnails: Thumbnails,
        config: MediaConfig,
        *,
        server_name: str,
        upload_bytes: int,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self.store = store
        self.thumbnails = thumbnails
        self.config = config
        self.server_name = server_name
        self.upload_bytes = upload_bytes
        self._pool = pool
        self._remote_files = remote_files
        self._now_ms = now_ms
        self._waiting: dict[int, set[asyncio.Event]] = {}  # by media_nid, those who wait for an upload

    async def upload(
        self, user_nid: int, body: AsyncIterator[bytes], content_type: str | None, name: str | None
    ) -> str:
        """Takes a file in. Returns its media id.

        :raises TooLarge: if it is larger than allowed
        :raises Forbidden: if the user has uploaded as much as they may
        # spec: client-server-api/#post_matrixmediav3upload
        """
        media_id = secrets.token_urlsafe(24)

        async def enter(conn: Connection, file: NewFile) -> None:
            await rows.insert_media(conn, self.server_name, media_id, user_nid, file, self._now_ms())

        await self._take(user_nid, body, content_type, name, enter)
        return media_id

    async def create(self, user_nid: int) -> tuple[str, int]:
        """A media id to upload to later, and until when (ms).

        :raises LimitExceeded: if the user has too many of them
        # spec: client-server-api/#post_matrixmediav1create
        """
        media_id, now_ms = secrets.token_urlsafe(24), self._now_ms()
        expires_ts = now_ms + self.config.pending_seconds * 1000
        async with self._pool.acquire() as conn, conn.transaction():
            await rows.lock_uploads_of(conn, user_nid)
            pending, first_ends = await rows.count_pending(conn, user_nid, now_ms)
            if pending >= self.config.max_pending_uploads:
                raise LimitExceeded("Upload to the addresses that you have first", retry_after_ms=first_ends - now_ms)
            await rows.insert_pending(conn, self.server_name, media_id, user_nid, now_ms=now_ms, expires_ts=expires_ts)
        return media_id, expires_ts

    async def upload_to(
        self,
        user_nid: int,
        origin: str,
        media_id: str,
        body: AsyncIterator[bytes],
        content_type: str | None,
        name: str | None,
    ) -> None:
        """Takes in the file of an id that `create` gave.

        :raises NotFound: if there is no such id, or its time has passed
        :raises Forbidden: if it is another user's
        :raises MatrixError: M_CANNOT_OVERWRITE_MEDIA if it has its file
        # spec: client-server-api/#put_matrixmediav3uploadservernamemediaid
        """
        check_media_id(media_id)
        async with self._pool.acquire() as conn:
            row = await rows.find_media(conn, origin, media_id) if origin == self.server_name else None
        if row is None or _expired(row, self._now_ms()):
            raise NotFound("There is no such address to upload to")
        if row.user_nid != user_nid:
            raise Forbidden("Somebody else has asked for this address")
        if row.sha256 is not None:
            raise _taken()
        nid = row.media_nid

        async def enter(conn: Connection, file: NewFile) -> None:
            if not await rows.complete_pending(conn, nid, file, self._now_ms()):
                raise _taken()

        await self._take(user_nid, body, content_type, name, enter)
        for waiting in self._waiting.get(nid, ()):
            waiting.set()

    async def _take(
        self,
        user_nid: int,
        body: AsyncIterator[bytes],
        content_type: str | None,
        name: str | None,
        enter: Callable[[Connection, NewFile], Awaitable[None]],
    ) -> None:
        quota = self.config.user_quota_bytes
        most = self.upload_bytes
        if quota is not None:
            async with self._pool.acquire() as conn:
                left = quota - await rows.used_bytes(conn, user_nid)
            if left <= 0:
                raise _over_quota()
            most = min(most, left)
        try:
            async with self.store.receive(body, most) as incoming:
                file = NewFile(incoming.sha256, incoming.size, normal_content_type(content_type), safe_name(name))
                await place(self._pool, incoming, self._now_ms())
                async with self._pool.acquire() as conn, conn.transaction():
                    if quota is not None:
                        await rows.lock_uploads_of(conn, user_nid)
                        if await rows.used_bytes(conn, user_nid) + file.size > quota:
                            raise _over_quota()
                    await enter(conn, file)
        except SizeExceeded:
            if most < self.upload_bytes:
                raise _over_quota() from None
            raise TooLarge(f"The file is larger than {self.upload_bytes} bytes") from None

    async def find(
        self, origin: str, media_id: str, *, timeout_ms: int = 20_000, allow_remote: bool = True
    ) -> MediaRow:
        """What there is at `mxc://origin/media_id`; fetched from that server if it is not here.

        :param timeout_ms: how long to wait for an upload that has not come yet
        :raises NotFound: if there is nothing, or it is quarantined
        :raises MatrixError: M_NOT_YET_UPLOADED (504)
        :raises Unavailable: if its server does not give it; M_TOO_LARGE (502) if it is larger than is fetched
        """
        check_media_id(media_id)
        if not is_server_name(origin):
            raise NotFound("There is no such file")
        timeout_ms = max(0, min(timeout_ms, _MAX_WAIT_MS))
        async with self._pool.acquire() as conn:
            row = await rows.find_media(conn, origin, media_id)
        if row is None and origin != self.server_name:
            if not allow_remote:
                raise NotFound("There is no such file here")
            row = await self._remote_files.fetch(origin, media_id, timeout_ms)
        if row is None or row.quarantined_by is not None or _expired(row, self._now_ms()):
            raise NotFound("There is no such file")
        if row.sha256 is None:
            row = await self._arrival(row, timeout_ms)
        now_ms = self._now_ms()
        if row.last_access_ts < now_ms - _TOUCH_MS:
            async with self._pool.acquire() as conn:
                await rows.touch(conn, row.media_nid, now_ms)
        return row

    async def _arrival(self, row: MediaRow, timeout_ms: int) -> MediaRow:
        arrived = asyncio.Event()
        others = self._waiting.setdefault(row.media_nid, set())
        others.add(arrived)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while True:
                    async with self._pool.acquire() as conn:
                        found = await rows.find_media(conn, row.origin, row.media_id)
                    if found is None or found.quarantined_by is not None:
                        raise NotFound("There is no such file")
                    if found.sha256 is not None:
                        return found
                    with suppress(TimeoutError):
                        await asyncio.wait_for(arrived.wait(), _LOOK_AGAIN)
        except TimeoutError:
            # spec: client-server-api/#get_matrixclientv1mediadownloadservernamemediaid
            raise MatrixError("Nothing has been uploaded yet", errcode="M_NOT_YET_UPLOADED", status=504) from None
        finally:
            others.discard(arrived)
            if not others:
                self._waiting.pop(row.media_nid, None)

    async def run(self) -> None:
        """Removes now and then what need not be kept, for ever."""
        while True:
            try:
                while await self.sweep():
                    pass
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("Old media could not be removed: %s", error)
            await asyncio.sleep(_SWEEP_SECONDS)

    async def sweep(self) -> bool:
        """Removes some of what nobody has looked at for long, and of the files without a row. True: look again."""
        now_ms = self._now_ms()
        own, remote = self.config.local_retention_days, self.config.remote_retention_days
        async with self._pool.acquire() as conn, conn.transaction():
            old = await rows.outdated_media(
                conn,
                self.server_name,
                now_ms=now_ms,
                own_before=now_ms - own * _DAY_MS if own is not None else None,
                remote_before=now_ms - remote * _DAY_MS if remote is not None else None,
                limit=_SWEEP_ROWS,
            )
            await rows.delete_media(conn, old)
        async with self._pool.acquire() as conn, conn.transaction():
            unused = await rows.drop_unused(conn, now_ms, self.store.delete, _SWEEP_ROWS)
        return _SWEEP_ROWS in (len(old), unused)


async def place(pool: Pool, incoming: Incoming, now_ms: int) -> None:
    """Puts a file in its place, for a row that is committed next; without one a sweep removes it."""
    async with pool.acquire() as conn:
        await rows.claim_file(conn, incoming.sha256, now_ms)
    await incoming.keep()


def _expired(row: MediaRow, now_ms: int) -> bool:
    return row.sha256 is None and row.expires_ts is not None and row.expires_ts <= now_ms


def _taken() -> MatrixError:
    return MatrixError("A file has been uploaded to this address", errcode="M_CANNOT_OVERWRITE_MEDIA", status=409)


def _over_quota() -> Forbidden:
    # spec: client-server-api/#content-repository
    return Forbidden("You have uploaded as much as you may")
