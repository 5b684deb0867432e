"""The files that pages load: a stylesheet and an icon.

Their names carry a hash of what is in them, so that browsers may keep them for ever.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from aiohttp import web

from homeserver.http import ApiRequest, Auth, Response, Route
from homeserver.protocol.errors import NotFound
from homeserver.services import Services

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".svg": "image/svg+xml"}


def _hashed(path: Path) -> str:
    return f"{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}{path.suffix}"


_NAMES = {path.name: _hashed(path) for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}
_FILES = {_NAMES[name]: ((_FOLDER / name).read_bytes(), _TYPES[Path(name).suffix]) for name in _NAMES}


def static_url(name: str) -> str:
    """Where the file of this name is served."""
    return f"/account/static/{_NAMES[name]}"


async def get_static(services: Services, request: ApiRequest) -> Response:
    """One of the files."""
    found = _FILES.get(request.params["name"])
    if found is None:
        raise NotFound("There is no such file")
    body, content_type = found
    return web.Response(
        body=body,
        content_type=content_type,
        charset="utf-8",
        headers={
            "Cache-Control": "public, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        },
    )


ROUTES = [Route("GET", "/account/static/{name}", get_static, Auth.NONE)]
