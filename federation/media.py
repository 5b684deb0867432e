"""Files of this server's users, for other servers.

# spec: server-server-api/#content-repository
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from federation.peers import Federation, PeerRequest
from homeserver.http import Response
from homeserver.http.streams import StreamedResponse
from homeserver.http.thumbnail_query import size_wanted
from homeserver.media.content import content_disposition
from homeserver.media.multipart import after_file, before_file, new_boundary
from homeserver.media.store import Reader
from homeserver.protocol.errors import NotFound
from homeserver.storage.media import MediaRow

_DEFAULT_WAIT_MS = 20_000


async def get_download(federation: Federation, request: PeerRequest) -> Response:
    """# spec: server-server-api/#get_matrixfederationv1mediadownloadmediaid"""
    row = await _find(federation, request)
    assert row.sha256 is not None, "found means uploaded"
    assert row.size is not None
    return await _multipart(federation, row.sha256, row.size, row.content_type, row.upload_name)


async def get_thumbnail(federation: Federation, request: PeerRequest) -> Response:
    """# spec: server-server-api/#get_matrixfederationv1mediathumbnailmediaid"""
    size = size_wanted(request.query)
    row = await _find(federation, request)
    picture = await federation.services.media.thumbnails.picture(row, size)
    return await _multipart(federation, picture.sha256, picture.size, picture.content_type, None)


async def _find(federation: Federation, request: PeerRequest) -> MediaRow:
    wait_ms = request.query.integer("timeout_ms", default=_DEFAULT_WAIT_MS, minimum=0)
    media = federation.services.media
    return await media.find(federation.server_name, request.params["mediaId"], timeout_ms=wait_ms, allow_remote=False)


async def _multipart(federation: Federation, sha256: bytes, size: int, content_type: str, name: str | None) -> Response:
    try:
        reader = await federation.services.media.store.open(sha256)
    except FileNotFoundError:
        raise NotFound("There is no such file") from None
    boundary = new_boundary()
    headers = {"Content-Type": content_type, "Content-Disposition": content_disposition(content_type, name)}
    before, after = before_file(boundary, headers), after_file(boundary)
    return StreamedResponse(
        _between(before, reader, size, after),
        len(before) + size + len(after),
        {"Content-Type": f"multipart/mixed; boundary={boundary}"},
    )


async def _between(before: bytes, reader: Reader, size: int, after: bytes) -> AsyncIterator[bytes]:
    yield before
    async for piece in reader.read(0, size):
        yield piece
    yield after
