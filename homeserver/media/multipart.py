"""The form in which servers give files to one another: multipart/mixed of a JSON object and the file.

Both ways are streamed. Another server wrote what is read here, so headers and the JSON are small or refused, and a file
that breaks off before the closing boundary is no file.

# spec: server-server-api/#get_matrixfederationv1mediadownloadmediaid
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Mapping

from homeserver.protocol.errors import Unavailable

_MAX_HEAD = 16 * 1024  # bytes of the headers of a part, and of what stands before the first
_MAX_JSON = 64 * 1024
_BOUNDARY = re.compile(r";\s*boundary\s*=\s*(?:\"([^\"\r\n]{1,70})\"|([^;\s\"]{1,70}))", re.IGNORECASE)


class Malformed(Unavailable):
    """What came is not what the specification says."""


def new_boundary() -> str:
    """One that no file has in it, as nobody can have known it."""
    return secrets.token_hex(24)


def before_file(boundary: str, headers: Mapping[str, str]) -> bytes:
    """What stands before the bytes of the file; `headers` are the file's, and have no line break in them."""
    lines = [f"--{boundary}", "Content-Type: application/json", "", "{}", f"--{boundary}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def after_file(boundary: str) -> bytes:
    """What stands behind them."""
    return f"\r\n--{boundary}--\r\n".encode()


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type names.

    :raises Malformed: if it is not multipart/mixed, or names none
    """
    match = _BOUNDARY.search(content_type)
    if match is None or content_type.partition(";")[0].strip().lower() != "multipart/mixed":
        raise Malformed("The other server gave no multipart/mixed")
    return (match[1] or match[2]).encode("latin-1", "replace")


class Parts:
    """Reads the two parts: `headers` of the file first, then `file`."""

    def __init__(self, chunks: AsyncIterator[bytes], boundary: bytes) -> None:
        self._chunks = chunks
        self._delimiter = b"\r\n--" + boundary
        # The first boundary may stand at the very beginning.
        self._buffer = bytearray(b"\r\n")

    async def headers(self) -> dict[str, str]:
        """The headers of the second part, their names in lower case.

        :raises Malformed: if there are not two parts
        """
        await self._skip_past(self._delimiter, _MAX_HEAD)
        await self._head()
        # A part without a body may have its headers' last line break as that of the boundary.
        self._buffer[:0] = b"\r\n"
        await self._skip_past(self._delimiter, _MAX_JSON)
        return await self._head()

    async def file(self) -> AsyncIterator[bytes]:
        """The body of the second part.

        :raises Malformed: if it has no end
        """
        keep = len(self._delimiter) - 1
        while True:
            end = self._buffer.find(self._delimiter)
            if end >= 0:
                yield bytes(self._buffer[:end])
                return
            if len(self._buffer) > keep:
                yield bytes(self._buffer[:-keep])
                del self._buffer[:-keep]
            await self._more()

    async def _head(self) -> dict[str, str]:
        # The rest of the boundary's line, which is white space.
        line = await self._until(b"\r\n")
        if line.strip():
            raise Malformed("The other server's answer has not two parts")
        headers = {}
        size = 0
        while line := await self._until(b"\r\n"):
            size += len(line)
            if size > _MAX_HEAD:
                raise Malformed("The other server's answer has very long headers")
            name, _, value = line.decode("utf-8", "replace").partition(":")
            headers[name.strip().lower()] = value.strip()
        return headers

    async def _until(self, end: bytes) -> bytes:
        found = await self._find(end, _MAX_HEAD)
        line = bytes(self._buffer[:found])
        del self._buffer[: found + len(end)]
        return line

    async def _skip_past(self, text: bytes, limit: int) -> None:
        found = await self._find(text, limit)
        del self._buffer[: found + len(text)]

    async def _find(self, text: bytes, limit: int) -> int:
        start = 0
        while (found := self._buffer.find(text, start)) < 0:
            if len(self._buffer) > limit:
                raise Malformed("The other server's answer is not as it should be")
            start = max(0, len(self._buffer) - len(text) + 1)
            await self._more()
        return found

    async def _more(self) -> None:
        try:
            self._buffer += await anext(self._chunks)
        except StopAsyncIteration:
            raise Malformed("The other server's answer breaks off") from None
