"""Files as tests upload them, and what is left of them on the disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from homeserver.main import Server
from tests.support.api import Api

UPLOAD = "/_matrix/media/v3/upload"


async def upload(user: Api, body: bytes, content_type: str | None = "text/plain", name: str | None = None) -> str:
    """Uploads; returns `server/id`."""
    headers = {"Content-Type": content_type} if content_type is not None else {}
    query = {"filename": name} if name is not None else {}
    answer = await user.post(UPLOAD, body=body, headers=headers, query=query)
    assert answer.status == 200, answer
    uri: str = answer.body["content_uri"]
    return uri.removeprefix("mxc://")


def stored(server: Server) -> list[Path]:
    """Every file below the media directory."""
    return [path for path in server.config.media_dir.rglob("*") if path.is_file()]


def picture(size: tuple[int, int], kind: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    """An image of a few colours."""
    image = Image.new(mode, size, "red")
    image.paste("blue", (0, 0, size[0] // 2, size[1] // 2))
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def small_picture() -> bytes:
    """A picture of 8 × 8 points."""
    written = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(written, "PNG")
    return written.getvalue()
