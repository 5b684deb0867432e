"""Files across servers: fetched from their server once, and only from it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from PIL import Image

from homeserver.media.multipart import Parts, boundary_of
from homeserver.remote import RemoteError
from tests.support.api import Api, open_api
from tests.support.federating import Network, Node
from tests.support.media import picture

_V1 = "/_matrix/client/v1/media"
_LEGACY = "/_matrix/media/v3"


@asynccontextmanager
async def user(node: Node, name: str) -> AsyncIterator[Api]:
    """A new user of that server."""
    async with open_api(node.url) as api:
        yield await api.register(name)


async def upload(alice: Api, body: bytes, content_type: str = "text/plain", name: str = "a.txt") -> str:
    headers = {"Content-Type": content_type}
    answer = await alice.post(f"{_LEGACY}/upload", body=body, headers=headers, query={"filename": name})
    uri: str = answer.body["content_uri"]
    return uri.removeprefix("mxc://")


async def test_a_file_of_another_server(network: Network) -> None:
    """Many ask at once for a file of another server: it is fetched once, comes as it was, and is here when its server
    is gone."""
    one, two = await network.server(), await network.server()
    body = bytes(range(256)) * 4096 + b"\r\n--" * 100
    async with user(one, "alice") as alice, user(two, "bob") as bob:
        place = await upload(alice, body, "image/png", "Grüße.png")
        asked = 0
        download_media = two.remote.download_media

        def counted(*args: Any, **options: Any) -> Any:
            nonlocal asked
            asked += 1
            return download_media(*args, **options)

        two.remote.download_media = counted  # type: ignore[method-assign]
        answers = await asyncio.gather(*(bob.get(f"{_V1}/download/{place}") for _ in range(10)))
        for answer in answers:
            assert (answer.status, answer.body) == (200, body)
            assert answer.headers["Content-Type"] == "image/png"
            assert answer.headers["Content-Disposition"] == "inline; filename*=utf-8''Gr%C3%BC%C3%9Fe.png"
        assert asked == 1
        await one.stop()
        again = await bob.get(f"{_V1}/download/{place}", headers={"Range": "bytes=-4"})
        assert (again.status, again.body) == (206, b"\r\n--")


async def test_what_another_server_has_not(network: Network) -> None:
    """What is not there is not found; what is not uploaded yet is awaited; who can't be reached gives 502."""
    one, two = await network.server(), await network.server()
    async with user(one, "alice") as alice, user(two, "bob") as bob:
        missing = await bob.get(f"{_V1}/download/{one.name}/nothing")
        assert (missing.status, missing.errcode) == (404, "M_NOT_FOUND")
        created = (await alice.post("/_matrix/media/v1/create")).body["content_uri"].removeprefix("mxc://")
        early = await bob.get(f"{_V1}/download/{created}", query={"timeout_ms": "10"})
        assert (early.status, early.errcode) == (504, "M_NOT_YET_UPLOADED")
        waiting = asyncio.create_task(bob.get(f"{_V1}/download/{created}"))
        await alice.put(f"{_LEGACY}/upload/{created}", body=b"late")
        assert (await waiting).body == b"late"
        place = await upload(alice, b"unseen")
        network.cut(one, two)
        unreachable = await bob.get(f"{_V1}/download/{place}")
        assert unreachable.status == 502


async def test_a_file_that_is_too_large_here(network: Network) -> None:
    """A file that is larger than this server fetches is not kept, and whoever asks is told why."""
    one, two = await network.server(), await network.server(media={"remote_bytes": 1000})
    async with user(one, "alice") as alice, user(two, "bob") as bob:
        place = await upload(alice, b"x" * 1001)
        answer = await bob.get(f"{_V1}/download/{place}")
        assert (answer.status, answer.errcode) == (502, "M_TOO_LARGE")
        fits = await upload(alice, b"x" * 1000)
        assert (await bob.get(f"{_V1}/download/{fits}")).status == 200
    assert len([path for path in two.server.config.media_dir.rglob("*") if path.is_file()]) == 1


async def test_a_smaller_form_for_another_server(network: Network) -> None:
    """Another server may ask for the smaller form itself."""
    one, two = await network.server(), await network.server()
    async with user(one, "alice") as alice:
        place = await upload(alice, picture((1000, 500)), "image/png")
        media_id = place.partition("/")[2]
        uri = f"/_matrix/federation/v1/media/thumbnail/{media_id}?width=96&height=96"
        headers = {"Authorization": two.remote._authorization("GET", uri, one.name)}
        async with two.remote._transport.stream(
            one.name, uri, headers=headers, timeout=30, max_bytes=1_000_000
        ) as answer:
            parts = Parts(answer.chunks(), boundary_of(answer.headers["Content-Type"]))
            assert (await parts.headers())["content-type"] == "image/jpeg"
            image = Image.open(io.BytesIO(b"".join([piece async for piece in parts.file()])))
        assert image.size == (96, 48)
        nobody = await alice.as_token(None).get(uri)
        assert nobody.status in (401, 404)


class _Body:
    """What a server that is made up answers."""

    status = 200

    def __init__(self, headers: dict[str, str], *pieces: bytes) -> None:
        self.headers = headers
        self._pieces = pieces

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def _answers(node: Node, method: str, answer: _Body | Exception) -> list[str]:
    """Makes every other server answer so; returns the list of what it is asked for."""
    asked: list[str] = []

    @asynccontextmanager
    async def answered(destination: str, media_id: str, **options: Any) -> AsyncIterator[_Body]:
        asked.append(f"{destination}/{media_id}")
        if isinstance(answer, Exception):
            raise answer
        yield answer

    setattr(node.remote, method, answered)
    return asked


async def test_a_server_of_old(network: Network) -> None:
    """A server that does not know the endpoint for servers is asked as of old; one that does is not."""
    one = await network.server()
    async with user(one, "alice") as alice:
        old = _Body({"Content-Type": "text/plain", "Content-Disposition": "attachment; filename=old.txt"}, b"old")
        asked = _answers(one, "download_media_unauthenticated", old)
        _answers(one, "download_media", RemoteError("old.example", 404, "M_UNRECOGNIZED"))
        answer = await alice.get(f"{_V1}/download/old.example/a")
        assert (answer.status, answer.body) == (200, b"old")
        assert answer.headers["Content-Disposition"] == 'inline; filename="old.txt"'
        _answers(one, "download_media", RemoteError("new.example", 404, "M_NOT_FOUND"))
        assert (await alice.get(f"{_V1}/download/new.example/a")).status == 404
        assert asked == ["old.example/a"]


_MIXED = {"Content-Type": "multipart/mixed; boundary=b"}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param({"Content-Type": "text/html"}, b"<html>", id="no multipart"),
        pytest.param(_MIXED, b"--b\r\n\r\n{}\r\n--b\r\n\r\nhalf of a fi", id="half"),
        pytest.param(_MIXED, b"--b\r\n\r\n{}\r\n--b\r\nLocation: http://x.example/a\r\n\r\n\r\n--b--", id="plain http"),
        pytest.param(_MIXED, b"--b\r\n\r\n{}\r\n--b\r\nLocation: file:///etc/passwd\r\n\r\n\r\n--b--", id="a file"),
        pytest.param(_MIXED, b"--b\r\n\r\n{}\r\n--b\r\nLocation: https://10.0.0.1/a\r\n\r\n\r\n--b--", id="inside"),
    ],
)
async def test_a_server_that_lies(network: Network, headers: dict[str, str], body: bytes) -> None:
    """Half a file, and a file that is said to be where nobody asks, is none: nothing is kept."""
    one = await network.server()
    async with user(one, "alice") as alice:
        _answers(one, "download_media", _Body(headers, body))
        assert (await alice.get(f"{_V1}/download/bad.example/a")).status == 502
        assert [path for path in one.server.config.media_dir.rglob("*") if path.is_file()] == []
        evil = b"--b\r\n\r\n{}\r\n--b\r\nContent-Type: text/html\r\nContent-Disposition: inline\r\n\r\n<b>\r\n--b--"
        _answers(one, "download_media", _Body(_MIXED, evil))
        page = await alice.get(f"{_V1}/download/bad.example/a")
        assert (page.status, page.body) == (200, b"<b>")
        assert page.headers["Content-Disposition"] == "attachment"


async def test_a_file_that_is_elsewhere(network: Network) -> None:
    """A server may say where its file is; it is fetched from there, by https, and kept."""
    one, two = await network.server(), await network.server()
    async with user(one, "alice") as alice:
        location = f"Location: https://{two.name}/health\r\n"
        answer = b"--b\r\n\r\n{}\r\n--b\r\n" + location.encode() + b"\r\n\r\n--b--"
        asked = _answers(one, "download_media", _Body(_MIXED, answer))
        for _ in range(2):
            got = await alice.get(f"{_V1}/download/other.example/a")
            assert (got.status, got.body) == (200, {"status": "ok"})
        assert asked == ["other.example/a"]
