"""The content repository put together, for as long as the server runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from homeserver.media.remote_files import RemoteFiles
from homeserver.media.repository import Media
from homeserver.media.store import DiskStore
from homeserver.media.thumbnails import Thumbnails

if TYPE_CHECKING:
    from homeserver.config import Config
    from homeserver.outbound import OutboundClient
    from homeserver.remote import Remote
    from homeserver.storage.stream import Pool


@asynccontextmanager
async def opened_media(config: Config, pool: Pool, remote: Remote, outbound: OutboundClient) -> AsyncIterator[Media]:
    """The content repository with its files in `config.media_dir`.

    :raises OSError: if that can't be written to
    """
    settings = config.media
    store = DiskStore(config.media_dir)
    store.prepare()
    remote_files = RemoteFiles(pool, store, remote, outbound, max_bytes=settings.remote_bytes)
    thumbnails = Thumbnails(
        pool, store, max_pixels=settings.max_thumbnail_pixels, processes=settings.thumbnail_processes
    )
    try:
        yield Media(
            pool,
            store,
            remote_files,
            thumbnails,
            settings,
            server_name=config.server_name,
            upload_bytes=config.limits.upload_bytes,
        )
    finally:
        await remote_files.close()
        await thumbnails.close()
