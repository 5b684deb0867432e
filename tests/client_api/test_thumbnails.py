"""Smaller forms of images, and what images can't do to the server."""

from __future__ import annotations

import asyncio
import io
import signal
import struct
import zlib

import pytest
from PIL import Image

from homeserver.main import Server
from homeserver.media import thumbnails
from tests.support.api import Answer, Api
from tests.support.media import picture, stored, upload

_V1 = "/_matrix/client/v1/media"


def animation(frames: int, size: tuple[int, int], kind: str = "GIF") -> bytes:
    """An image that moves."""
    images = [Image.new("RGB", size, (number * 37 % 256, 0, 0)) for number in range(frames)]
    file = io.BytesIO()
    images[0].save(file, kind, save_all=True, append_images=images[1:], duration=50)
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says that it is very large, and is."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(min((width // 8 + 1) * height, 20_000_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


async def thumbnail(user: Api, place: str, width: int, height: int, **query: str) -> Answer:
    sizes = {"width": str(width), "height": str(height)}
    return await user.get(f"{_V1}/thumbnail/{place}", query={**sizes, **query})


def shown(answer: Answer) -> Image.Image:
    assert answer.status == 200, answer
    image = Image.open(io.BytesIO(answer.body))
    assert answer.headers["Content-Type"] == Image.MIME[image.format or ""]
    return image


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "AVIF"])
async def test_scaled(alice: Api, kind: str) -> None:
    """A scaled form keeps the proportions and is as large as asked, whatever the type that the upload claims."""
    place = await upload(alice, picture((1000, 500), kind), "application/x-claims")
    assert shown(await thumbnail(alice, place, 300, 200)).size == (320, 160)
    assert shown(await thumbnail(alice, place, 300, 200, method="scale")).size == (320, 160)


async def test_cut(alice: Api) -> None:
    """A cropped form has the proportions that were asked for."""
    place = await upload(alice, picture((1000, 500)), "image/png")
    assert shown(await thumbnail(alice, place, 32, 32, method="crop")).size == (32, 32)
    assert shown(await thumbnail(alice, place, 90, 90, method="crop")).size == (96, 96)
    assert shown(await thumbnail(alice, place, 200, 100, method="crop")).size == (320, 160)
    # Never larger than the image itself.
    assert shown(await thumbnail(alice, place, 640, 640, method="crop")).size == (500, 500)


async def test_a_small_image_is_its_own_thumbnail(alice: Api) -> None:
    """What is smaller than asked is given as it is; nothing is blown up."""
    body = picture((40, 30))
    place = await upload(alice, body, "image/png")
    for method in ("scale", "crop"):
        answer = await thumbnail(alice, place, 800, 600, method=method)
        assert shown(answer).size in ((40, 30), (40, 30))
    assert (await thumbnail(alice, place, 5000, 5000)).body == body


async def test_turned_by_the_camera(alice: Api) -> None:
    """An image whose camera was held upright stands upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    place = await upload(alice, picture((1000, 500), "JPEG", exif=exif), "image/jpeg")
    small = shown(await thumbnail(alice, place, 320, 240))
    assert small.size == (120, 240)
    assert 0x0112 not in small.getexif()


async def test_transparency_stays(alice: Api) -> None:
    """What can be seen through still can be."""
    place = await upload(alice, picture((1000, 500), mode="RGBA"), "image/png")
    assert shown(await thumbnail(alice, place, 96, 96)).mode == "RGBA"


@pytest.mark.parametrize("size", [(200, 100), (50, 50)])
async def test_moving_images(alice: Api, size: tuple[int, int]) -> None:
    """Images move only for those who say that they want them to."""
    place = await upload(alice, animation(5, size), "image/gif")
    for query in ({}, {"animated": "false"}):
        assert getattr(shown(await thumbnail(alice, place, 96, 96, **query)), "n_frames", 1) == 1
    moving = shown(await thumbnail(alice, place, 96, 96, animated="true"))
    assert getattr(moving, "n_frames", 1) == 5
    still = await upload(alice, picture((200, 100)), "image/png")
    assert getattr(shown(await thumbnail(alice, still, 96, 96, animated="true")), "n_frames", 1) == 1


async def test_made_once(server: Server, alice: Api) -> None:
    """However many ask, a form is made once, for all files with the same bytes."""
    body = picture((1000, 500))
    places = [await upload(alice, body, "image/png") for _ in range(2)]
    answers = await asyncio.gather(*(thumbnail(alice, place, 96, 96) for place in places * 5))
    assert len({answer.body for answer in answers}) == 1
    assert len(stored(server)) == 2


@pytest.mark.parametrize(
    ("width", "height", "errcode"), [("0", "10", "M_UNKNOWN"), ("-1", "10", "M_UNKNOWN"), ("a", "1", "M_INVALID_PARAM")]
)
async def test_no_size(alice: Api, width: str, height: str, errcode: str) -> None:
    """A size that is none is refused."""
    place = await upload(alice, picture((100, 100)), "image/png")
    answer = await alice.get(f"{_V1}/thumbnail/{place}", query={"width": width, "height": height})
    assert (answer.status, answer.errcode) == (400, errcode)


_SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="900" height="900"><script>alert(1)</script></svg>'


@pytest.mark.parametrize(
    ("body", "status", "errcode"),
    [
        pytest.param(b"<html></html>", 400, "M_UNKNOWN", id="html"),
        pytest.param(_SVG, 400, "M_UNKNOWN", id="svg"),
        pytest.param(picture((1000, 500), "BMP"), 400, "M_UNKNOWN", id="another format"),
        pytest.param(picture((1000, 500))[:200], 400, "M_UNKNOWN", id="truncated png"),
        pytest.param(picture((1000, 500), "JPEG")[:700], 400, "M_UNKNOWN", id="truncated jpeg"),
        pytest.param(b"", 400, "M_UNKNOWN", id="empty"),
        pytest.param(bomb(60_000, 60_000), 413, "M_TOO_LARGE", id="bomb"),
        pytest.param(bomb(2**31 - 1, 2**31 - 1), 413, "M_TOO_LARGE", id="absurd"),
        pytest.param(bomb(2**31 - 1, 1), 413, "M_TOO_LARGE", id="long"),
    ],
)
async def test_bad_images(server: Server, alice: Api, body: bytes, status: int, errcode: str) -> None:
    """What is no image, half of one or a bomb is refused, leaves nothing, and the next image works."""
    place = await upload(alice, body, "image/png")
    answer = await thumbnail(alice, place, 96, 96)
    assert (answer.status, answer.errcode) == (status, errcode)
    assert len(stored(server)) == 1
    good = await upload(alice, picture((1000, 500)), "image/png")
    assert (await thumbnail(alice, good, 96, 96)).status == 200


async def test_svg_is_given_in_no_size(alice: Api) -> None:
    """An SVG is not given as its own thumbnail either."""
    place = await upload(alice, _SVG, "image/svg+xml")
    for width in (32, 5000):
        assert (await thumbnail(alice, place, width, width)).status == 400


async def test_a_long_animation(alice: Api) -> None:
    """An animation of very many frames is not made smaller as one; its first frame is."""
    place = await upload(alice, animation(250, (200, 200)), "image/gif")
    assert (await thumbnail(alice, place, 96, 96, animated="true")).status == 413
    assert shown(await thumbnail(alice, place, 96, 96)).size == (96, 96)


async def test_a_worker_that_hangs_or_dies(server: Server, alice: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that does not answer in time is killed, and another takes its place."""
    place = await upload(alice, picture((1000, 500)), "image/png")
    assert (await thumbnail(alice, place, 32, 32)).status == 200
    worker = server.services.media.thumbnails._workers[0]
    first = worker._process
    assert first is not None
    first.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(thumbnails, "_SECONDS", 0.3)
    assert (await thumbnail(alice, place, 320, 240)).errcode == "M_TOO_LARGE"
    assert first.returncode is not None
    monkeypatch.setattr(thumbnails, "_SECONDS", 20.0)
    assert (await thumbnail(alice, place, 320, 240)).status == 200
    second = worker._process
    assert second is not None
    assert second is not first
    second.kill()
    await second.wait()
    assert (await thumbnail(alice, place, 700, 500)).status == 200
