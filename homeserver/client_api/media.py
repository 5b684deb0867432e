"""Downloading files and their smaller forms; those who ask show who they are.

The addresses of old, which asked nobody, give what the operator lets them give: by default nothing but the pictures of
the buttons for single sign-on, which are looked at before anyone has signed in.

# spec: client-server-api/#content-repository
"""

from __future__ import annotations

from datetime import UTC, date, datetime

from homeserver.http import ApiRequest, Auth, Response, Route, client_routes
from homeserver.http.streams import file_response
from homeserver.http.thumbnail_query import size_wanted
from homeserver.media.content import safe_name, served_headers
from homeserver.media.thumbnails import Wanted
from homeserver.protocol.errors import NotFound, TooLarge
from homeserver.protocol.events import JsonObject
from homeserver.services import Services
from homeserver.storage.media import MediaRow

_LEGACY = ("v3", "r0", "v1")
_MSC = ("org.matrix.msc3916",)
_DEFAULT_WAIT_MS = 20_000
# What is at an address never changes; whoever may have it may keep it.
_CACHE = "private, max-age=86400, immutable"
_EXPOSED = "Content-Disposition, Content-Length, Content-Range, ETag, Accept-Ranges"


async def get_config(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv1mediaconfig"""
    return {"m.upload.size": services.media.upload_bytes}


async def get_download(services: Services, request: ApiRequest) -> Response:
    """# spec: client-server-api/#get_matrixclientv1mediadownloadservernamemediaid"""
    row = await _find(services, request)
    return await _file(services, request, row)


async def get_legacy_download(services: Services, request: ApiRequest) -> Response:
    """# spec: client-server-api/#get_matrixmediav3downloadservernamemediaid"""
    return await _file(services, request, await _find_legacy(services, request))


async def get_thumbnail(services: Services, request: ApiRequest) -> Response:
    """# spec: client-server-api/#get_matrixclientv1mediathumbnailservernamemediaid"""
    size = size_wanted(request.query)
    return await _thumbnail(services, request, await _find(services, request), size)


async def get_legacy_thumbnail(services: Services, request: ApiRequest) -> Response:
    """# spec: client-server-api/#get_matrixmediav3thumbnailservernamemediaid"""
    size = size_wanted(request.query)
    return await _thumbnail(services, request, await _find_legacy(services, request), size)


async def _find(services: Services, request: ApiRequest, *, allow_remote: bool = True) -> MediaRow:
    return await services.media.find(
        request.params["serverName"],
        request.params["mediaId"],
        timeout_ms=request.query.integer("timeout_ms", default=_DEFAULT_WAIT_MS, minimum=0),
        allow_remote=allow_remote,
    )


async def _find_legacy(services: Services, request: ApiRequest) -> MediaRow:
    allowed = services.config.media.legacy_unauthenticated
    mxc = f"mxc://{request.params['serverName']}/{request.params['mediaId']}"
    is_icon = any(provider.icon == mxc for provider in services.config.single_sign_on.providers)
    if allowed is False and not is_icon:
        raise _only_with_token()
    # What would only be fetched now has come after the freeze.
    allow_remote = request.query.boolean("allow_remote", default=True) and (allowed is True or is_icon)
    row = await _find(services, request, allow_remote=allow_remote)
    came = datetime.fromtimestamp(row.created_ts / 1000, UTC).date()
    if isinstance(allowed, date) and came >= allowed and not is_icon:
        raise _only_with_token()
    return row


def _only_with_token() -> NotFound:
    return NotFound("Files are had at /_matrix/client/v1/media, with an access token")


async def _file(services: Services, request: ApiRequest, row: MediaRow) -> Response:
    assert row.sha256 is not None, "found means uploaded"
    assert row.size is not None
    name = safe_name(request.params.get("fileName")) or row.upload_name
    return await stored_file(services, request, row.sha256, row.size, row.content_type, name)


async def _thumbnail(services: Services, request: ApiRequest, row: MediaRow, size: Wanted | None) -> Response:
    try:
        picture = await services.media.thumbnails.picture(row, size)
    except TooLarge as error:
        # spec: client-server-api/#get_matrixclientv1mediathumbnailservernamemediaid
        status = 413 if row.origin == services.server_name else 502
        raise TooLarge(error.message, status=status) from None
    name = None if picture.sha256 != row.sha256 else row.upload_name
    return await stored_file(services, request, picture.sha256, picture.size, picture.content_type, name)


async def stored_file(
    services: Services, request: ApiRequest, sha256: bytes, size: int, content_type: str, name: str | None
) -> Response:
    """The file of that hash, as an answer.

    :raises NotFound: if it has just been removed
    """
    try:
        reader = await services.media.store.open(sha256)
    except FileNotFoundError:
        raise NotFound("There is no such file") from None
    headers = {
        **served_headers(content_type, name),
        "Cache-Control": _CACHE,
        "Access-Control-Expose-Headers": _EXPOSED,
    }
    return file_response(request, headers, size, sha256.hex(), reader.read)


def _routes() -> list[Route]:
    routes = client_routes("GET", "/media/config", get_config, Auth.GUEST, versions=("v1",), unstable=_MSC)
    path = "/media/download/{serverName}/{mediaId}"
    for suffix in ("", "/{fileName}"):
        routes += client_routes("GET", path + suffix, get_download, Auth.GUEST, versions=("v1",), unstable=_MSC)
    path = "/media/thumbnail/{serverName}/{mediaId}"
    routes += client_routes("GET", path, get_thumbnail, Auth.GUEST, versions=("v1",), unstable=_MSC)
    for version in _LEGACY:
        prefix = f"/_matrix/media/{version}"
        routes.append(Route("GET", f"{prefix}/config", get_config, Auth.GUEST))
        thumbnail = f"{prefix}/thumbnail/{{serverName}}/{{mediaId}}"
        routes.append(Route("GET", thumbnail, get_legacy_thumbnail, Auth.NONE))
        for suffix in ("", "/{fileName}"):
            download = f"{prefix}/download/{{serverName}}/{{mediaId}}{suffix}"
            routes.append(Route("GET", download, get_legacy_download, Auth.NONE))
    return routes


ROUTES: list[Route] = _routes()
