"""Files across servers: fetched from their server once, and only from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.api import Api, open_api
from tests.support.federating import Network, Node

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
