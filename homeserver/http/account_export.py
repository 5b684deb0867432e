"""Sending a user a copy of everything that is kept about them, and an administrator that of anyone."""

from __future__ import annotations

import asyncio
import tempfile

from aiohttp import web

from homeserver.accounts.export import write_export
from homeserver.http.requests import ApiRequest
from homeserver.http.responses import CORS_HEADERS
from homeserver.protocol.errors import LimitExceeded
from homeserver.protocol.identifiers import localpart_of
from homeserver.services import Services
from homeserver.storage.accounts import Account

_PIECE = 256 * 1024
_AT_ONCE = 2  # in this process: each reads much and takes a connection for as long

_running: set[int] = set()


async def send_export(services: Services, request: ApiRequest, account: Account) -> web.StreamResponse:
    """Answers with the ZIP.

    :raises LimitExceeded: while one for the same user, or too many others, are being written
    """
    if account.user_nid in _running or len(_running) >= _AT_ONCE:
        raise LimitExceeded("Another copy is being written", retry_after_ms=30_000)
    _running.add(account.user_nid)
    try:
        with tempfile.TemporaryFile(dir=services.config.data_dir, prefix="export-") as file:
            async with services.pool.acquire() as conn:
                await write_export(conn, services.media.store, account, file)
            size = file.tell()
            file.seek(0)
            response = web.StreamResponse(headers=_headers(account, size))
            await response.prepare(request.raw)
            while piece := await asyncio.to_thread(file.read, _PIECE):
                await response.write(piece)
            await response.write_eof()
            return response
    finally:
        _running.discard(account.user_nid)


def _headers(account: Account, size: int) -> dict[str, str]:
    name = "".join(char if char.isascii() and char.isalnum() else "_" for char in localpart_of(account.user_id))
    return {
        **CORS_HEADERS,
        "Content-Type": "application/zip",
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{name}.zip"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
