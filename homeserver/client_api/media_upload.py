"""Uploading files, at once or to an address that was asked for before.

# spec: client-server-api/#content-repository
"""

from __future__ import annotations

from homeserver.http import ApiRequest, Auth, Route
from homeserver.protocol.events import JsonObject
from homeserver.services import Services

_VERSIONS = ("v3", "r0", "v1")


async def post_upload(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixmediav3upload"""
    media = services.media
    media_id = await media.upload(
        request.requester.user_nid,
        request.stream(media.upload_bytes),
        request.headers.get("Content-Type"),
        _name(request),
    )
    return {"content_uri": f"mxc://{services.server_name}/{media_id}"}


async def post_create(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixmediav1create"""
    media_id, expires_ts = await services.media.create(request.requester.user_nid)
    return {"content_uri": f"mxc://{services.server_name}/{media_id}", "unused_expires_at": expires_ts}


async def put_upload(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixmediav3uploadservernamemediaid"""
    media = services.media
    await media.upload_to(
        request.requester.user_nid,
        request.params["serverName"],
        request.params["mediaId"],
        request.stream(media.upload_bytes),
        request.headers.get("Content-Type"),
        _name(request),
    )
    return {}


def _name(request: ApiRequest) -> str | None:
    return request.query.string("filename", max_length=1024)


ROUTES: list[Route] = [
    *(Route("POST", f"/_matrix/media/{one}/upload", post_upload, Auth.USER, "upload") for one in _VERSIONS),
    *(
        Route("PUT", f"/_matrix/media/{one}/upload/{{serverName}}/{{mediaId}}", put_upload, Auth.USER, "upload")
        for one in _VERSIONS
    ),
    Route("POST", "/_matrix/media/v1/create", post_create, Auth.USER, "upload"),
]
