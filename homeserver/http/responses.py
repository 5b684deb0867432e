"""What goes back to the client.

# spec: client-server-api/#standard-error-response
# spec: client-server-api/#web-browser-clients
"""

from __future__ import annotations

import asyncio
import math
import zlib
from typing import Any, TypeAlias

from aiohttp import web

from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.errors import LimitExceeded, MatrixError

Response: TypeAlias = web.StreamResponse

CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "X-Requested-With, Content-Type, Authorization, If-Match, If-None-Match",
}

_COMPRESS_FROM = 1024  # bytes; below, a compressed response saves less than the work costs
_COMPRESS_ASIDE_FROM = 64 * 1024  # bytes; above, it would hold up the other requests of this process
_COMPRESSION_LEVEL = 3


def json_response(value: Any, status: int = 200) -> web.Response:
    """`value` as JSON. `orjson.Fragment`s in it are spliced in as they are."""
    return web.Response(body=encode_json(value), status=status, content_type="application/json")


def error_response(error: MatrixError) -> web.Response:
    """The standard error response."""
    response = json_response(error.body(), error.status)
    if isinstance(error, LimitExceeded):
        # spec: client-server-api/#rate-limiting
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_ms / 1000))
    return response


def options_response() -> web.Response:
    """The answer to every OPTIONS request."""
    return json_response({})


async def compress(response: Response, accept_encoding: str) -> None:
    """Compresses a JSON response if its client takes that and it is large enough to gain by it."""
    body = response.body if isinstance(response, web.Response) else None
    if (
        not isinstance(body, bytes)
        or len(body) < _COMPRESS_FROM
        or response.content_type != "application/json"
        or "Content-Encoding" in response.headers
    ):
        return
    encoding = _accepted(accept_encoding)
    response.headers["Vary"] = "Accept-Encoding"
    if encoding is None:
        return
    if len(body) < _COMPRESS_ASIDE_FROM:
        packed = _pack(body, encoding)
    else:
        packed = await asyncio.to_thread(_pack, body, encoding)
    assert isinstance(response, web.Response)
    response.body = packed
    response.headers["Content-Encoding"] = encoding


def _accepted(accept_encoding: str) -> str | None:
    names = {
        part.strip() for part in accept_encoding.lower().split(",")
    }  # with a weight (;q=…) it is not the favourite
    for name in ("gzip", "deflate"):
        if name in names:
            return name
    return None


def _pack(body: bytes, encoding: str) -> bytes:
    packer = zlib.compressobj(_COMPRESSION_LEVEL, wbits=31 if encoding == "gzip" else 15)
    return packer.compress(body) + packer.flush()
