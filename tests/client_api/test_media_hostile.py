"""Uploads that lie, do not end or break off, and how much memory the honest ones take."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from homeserver.main import Server, running_server
from tests.support.api import Api, open_api
from tests.support.client import eventually
from tests.support.media import UPLOAD, stored, upload
from tests.support.servers import server_config

_V1 = "/_matrix/client/v1/media"
_MB = 1024 * 1024


@pytest.fixture
async def small(database: str, tmp_path: Path) -> AsyncIterator[Server]:
    """A server that takes files of 1 MB, and 2 MB of each user."""
    settings = {"limits": {"upload_bytes": _MB}, "media": {"user_quota_bytes": 2 * _MB}}
    async with running_server(server_config(database, tmp_path, **settings)) as server:
        yield server


@pytest.fixture
async def bob(small: Server) -> AsyncIterator[Api]:
    async with open_api(small.url) as api:
        yield await api.register("bob")


async def _send(
    server: Server, user: Api, headers: str, body: bytes, *, more: bytes = b"", close: bool = False
) -> bytes:
    """Sends an upload as it stands here, `more` of it for as long as it is taken; returns how the answer begins."""
    parts = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"POST {UPLOAD} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {user.token}\r\n{headers}\r\n\r\n"
    writer.write(head.encode() + body)

    async def go_on() -> None:
        while more:
            writer.write(more)
            await writer.drain()

    going = asyncio.create_task(go_on())
    try:
        if close:
            await writer.drain()
            return b""
        return await asyncio.wait_for(reader.read(12), 30)
    finally:
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        writer.transport.abort()


async def _nothing_left(server: Server) -> None:
    async def empty() -> bool:
        return not stored(server)

    await eventually(empty, "nothing to be left of it")
    async with server.services.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM media") == 0


async def test_an_announced_length_that_is_too_much(small: Server, bob: Api) -> None:
    """Too large an upload is refused before any of it is read."""
    answer = await _send(small, bob, f"Content-Length: {_MB + 1}", b"")
    assert answer == b"HTTP/1.1 413"
    await _nothing_left(small)


async def test_a_body_without_end(small: Server, bob: Api) -> None:
    """A chunked upload that never ends is cut at the limit."""
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    answer = await _send(small, bob, "Transfer-Encoding: chunked", b"", more=chunk)
    assert answer == b"HTTP/1.1 413"
    await _nothing_left(small)


async def test_a_client_that_leaves(small: Server, bob: Api) -> None:
    """An upload that breaks off leaves neither file nor row."""
    await _send(small, bob, f"Content-Length: {_MB}", b"x" * 300_000, close=True)
    await _nothing_left(small)
    await _send(small, bob, "Transfer-Encoding: chunked", b"10000\r\n" + b"x" * 0x8000, close=True)
    await _nothing_left(small)


async def test_the_largest_and_one_byte_more(small: Server, bob: Api) -> None:
    """Exactly the limit is taken, one byte more is not; who asks first is told to go on."""
    assert (await bob.post(UPLOAD, body=b"x" * (_MB + 1))).errcode == "M_TOO_LARGE"
    await upload(bob, b"x" * _MB)
    expecting = f"Content-Length: {_MB}\r\nExpect: 100-continue"
    assert await _send(small, bob, expecting, b"") == b"HTTP/1.1 100"


async def test_a_quota(small: Server, bob: Api) -> None:
    """Who has uploaded as much as they may uploads no more, with many requests at once neither."""
    answers = await asyncio.gather(*(bob.post(UPLOAD, body=bytes([number]) * (_MB - 10)) for number in range(6)))
    assert sorted(answer.status for answer in answers) == [200, 200, 403, 403, 403, 403]
    assert {answer.errcode for answer in answers} == {None, "M_FORBIDDEN"}
    assert (await bob.post(UPLOAD, body=b"x" * 21)).status == 403
    assert (await bob.post(UPLOAD, body=b"x" * 20)).status == 200


async def test_a_guest_uploads_nothing(database: str, tmp_path: Path) -> None:
    """Guests download and do not upload."""
    config = server_config(database, tmp_path, registration={"mode": "open", "guests": True})
    async with running_server(config) as server, open_api(server.url) as api:
        place = await upload(await api.register("alice"), b"x")
        registered = await api.post("/register", {}, query={"kind": "guest"})
        guest = api.as_token(registered.body["access_token"])
        assert (await guest.post(UPLOAD, body=b"x")).errcode == "M_GUEST_ACCESS_FORBIDDEN"
        assert (await guest.get(f"{_V1}/download/{place}")).status == 200


def _resident() -> int:
    """Bytes of memory that this process takes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def test_memory_stays_flat(database: str, tmp_path: Path) -> None:
    """An upload and a download of 200 MiB take a small part of that in memory."""
    size = 200 * _MB
    piece = os.urandom(_MB)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(size // _MB):
            yield piece

    config = server_config(database, tmp_path, limits={"upload_bytes": size})
    async with running_server(config) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        headers = {"Authorization": f"Bearer {alice.token}"}
        most = before = _resident()
        async with alice.session.post(server.url + UPLOAD, data=body(), headers=headers) as answer:
            assert answer.status == 200
            place = (await answer.json())["content_uri"].removeprefix("mxc://")
        most = max(most, _resident())
        received = 0
        async with alice.session.get(f"{server.url}{_V1}/download/{place}", headers=headers) as answer:
            async for chunk in answer.content.iter_any():
                received += len(chunk)
                most = max(most, _resident())
        assert received == size
        assert most - before < 64 * _MB
