"""Answers that are sent as they are read, so that a file of any size takes no more memory than a piece of it.

# spec: client-server-api/#get_matrixclientv1mediadownloadservernamemediaid
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping

from aiohttp import web

from homeserver.http.requests import ApiRequest
from homeserver.http.responses import Response, error_response
from homeserver.protocol.errors import MatrixError

log = logging.getLogger(__name__)

_STALLED = 120.0  # seconds after which a client that takes nothing is left
_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})", re.ASCII)

Read = Callable[[int, int], AsyncIterator[bytes]]
"""(start, length) -> the bytes; what it holds open ends with the iterator."""


class StreamedResponse(web.StreamResponse):
    """`length` bytes of `body`, which is read while the client takes it. It breaks off only with the connection."""

    def __init__(self, body: AsyncIterator[bytes], length: int, headers: Mapping[str, str], status: int = 200) -> None:
        super().__init__(status=status, headers=headers)
        self.content_length = length
        self._pieces = body

    async def write_eof(self, data: bytes = b"") -> None:
        """Called by the server when the head has been sent."""
        raw = self._req
        if raw is None or raw.method == "HEAD":
            await super().write_eof()
            return
        try:
            async for piece in self._pieces:
                async with asyncio.timeout(_STALLED):
                    await self.write(piece)
        except BaseException as error:
            # The client was told how much comes: only a connection that ends tells it that this isn't all.
            if raw.transport is not None:
                raw.transport.abort()
            if isinstance(error, ConnectionError) or not isinstance(error, Exception):
                raise
            log.warning("An answer broke off: %s: %s", type(error).__name__, error)
            raise ConnectionResetError from error
        await super().write_eof()


def file_response(request: ApiRequest, headers: Mapping[str, str], size: int, etag: str, read: Read) -> Response:
    """A file, or the part of it that is asked for (one range), or that the client has it already.

    :param etag: without quotes; equal only for equal bytes
    """
    tag = f'"{etag}"'
    headers = {**headers, "ETag": tag, "Accept-Ranges": "bytes"}
    if _matches(request.headers.get("If-None-Match", ""), tag):
        kept = {name: value for name, value in headers.items() if name in ("ETag", "Cache-Control")}
        return web.Response(status=304, headers=kept)
    wanted = request.headers.get("Range", "")
    if request.headers.get("If-Range", tag) != tag:
        wanted = ""
    start, length = 0, size
    # Several ranges, and other units, may be ignored.
    if (match := _RANGE.fullmatch(wanted.replace(" ", ""))) is not None and any(match.groups()):
        found = _part(match[1], match[2], size)
        if found is None:
            refused = error_response(MatrixError("The file has no such part", status=416))
            refused.headers["Content-Range"] = f"bytes */{size}"
            return refused
        start, length = found
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
        return StreamedResponse(read(start, length), length, headers, 206)
    return StreamedResponse(read(start, length), length, headers)


def _part(first: str, last: str, size: int) -> tuple[int, int] | None:
    """Start and length of a range, None if nothing of the file is in it."""
    if not first:
        length = min(int(last), size)
        return (size - length, length) if length > 0 else None
    start, end = int(first), int(last) if last else size - 1
    # An end before the start makes it no range at all, and what is none may be refused.
    if start >= size or end < start:
        return None
    return start, min(end, size - 1) - start + 1


def _matches(header: str, tag: str) -> bool:
    return any(one.strip().removeprefix("W/") in (tag, "*") for one in header[:4096].split(","))
