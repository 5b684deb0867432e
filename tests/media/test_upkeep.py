"""What is removed, what must stay, and what a crash leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from homeserver.main import Server, running_server
from homeserver.media.repository import place
from homeserver.media.store import DiskStore
from homeserver.storage import media as rows
from tests.support.api import Api, open_api
from tests.support.media import picture, stored, upload
from tests.support.servers import server_config

_V1 = "/_matrix/client/v1/media"
_LEGACY = "/_matrix/media/v3"
_DAY = 24 * 3600


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _age(server: Server, seconds: int) -> None:
    """Makes everything older."""
    async with server.services.pool.acquire() as conn:
        await conn.execute(
            "UPDATE media SET created_ts = created_ts - $1, last_access_ts = last_access_ts - $1, "
            "expires_ts = expires_ts - $1",
            seconds * 1000,
        )
        await conn.execute("UPDATE media_unused_files SET since_ts = since_ts - $1", seconds * 1000)


async def _sweep(server: Server) -> None:
    for _ in range(3):
        await server.services.media.sweep()


async def _delete(server: Server, where: str) -> None:
    async with server.services.pool.acquire() as conn, conn.transaction():
        nids = [row[0] for row in await conn.fetch(f"SELECT media_nid FROM media WHERE {where}")]
        await rows.delete_media(conn, nids)


async def test_the_last_one_takes_the_file_along(server: Server, alice: Api) -> None:
    """A file stays while anything means it; with the last it goes, and so do its smaller forms."""
    body = picture((1000, 500))
    first, second = await upload(alice, body, "image/png"), await upload(alice, body, "image/png")
    small = await alice.get(f"{_V1}/thumbnail/{first}", query={"width": "96", "height": "96"})
    assert small.status == 200
    assert len(stored(server)) == 2
    await _delete(server, f"media_id = '{first.partition('/')[2]}'")
    await _sweep(server)
    assert (await alice.get(f"{_V1}/download/{first}")).status == 404
    assert (await alice.get(f"{_V1}/download/{second}")).body == body
    assert len(stored(server)) == 2
    await _delete(server, "true")
    await _sweep(server)
    assert stored(server) == []
    again = await upload(alice, body, "image/png")
    await _sweep(server)
    assert (await alice.get(f"{_V1}/download/{again}")).body == body


async def test_a_crash_before_the_row(server: Server, alice: Api) -> None:
    """A file whose row was never committed goes after a while, and not sooner: its upload may be under way."""
    media = server.services.media
    pool = server.services.pool
    async with media.store.receive(_pieces(b"orphan"), 100) as incoming:
        await place(pool, incoming, int(time.time() * 1000))
    await _sweep(server)
    assert len(stored(server)) == 1
    await _age(server, 2 * 3600)
    await _sweep(server)
    assert stored(server) == []


async def test_an_upload_while_its_twin_goes(server: Server, alice: Api) -> None:
    """Uploads of bytes whose last file is being removed at that moment are there afterwards, all of them."""
    for _ in range(10):
        await upload(alice, b"twin")
        await _delete(server, "true")
        placed, *_ = await asyncio.gather(upload(alice, b"twin"), _sweep(server), upload(alice, b"twin"))
        await _sweep(server)
        assert (await alice.get(f"{_V1}/download/{placed}")).body == b"twin"


async def test_half_files_are_gone_at_the_next_start(tmp_path: Path) -> None:
    """What a process that was killed had half written is removed when the next one starts."""
    store = DiskStore(tmp_path)
    store.prepare()
    (tmp_path / "incoming" / "half").write_bytes(b"x")
    (tmp_path / "incoming" / "directory").mkdir()
    (tmp_path / "incoming" / "directory" / "thumbnail").write_bytes(b"x")
    store.prepare()
    assert list((tmp_path / "incoming").iterdir()) == []


async def test_addresses_that_stay_empty(server: Server, alice: Api) -> None:
    """An address to which nothing was uploaded in time is none any more."""
    address = (await alice.post("/_matrix/media/v1/create")).body["content_uri"].removeprefix("mxc://")
    await _age(server, 2 * _DAY)
    for _ in range(2):
        assert (await alice.put(f"{_LEGACY}/upload/{address}", body=b"x")).status == 404
        assert (await alice.get(f"{_V1}/download/{address}")).status == 404
        await _sweep(server)
    async with server.services.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM media") == 0


@pytest.mark.parametrize(("days", "left"), [(None, 1), (10, 0)])
async def test_files_of_ones_own_stay(database: str, tmp_path: Path, days: int | None, left: int) -> None:
    """Files of this server's users stay unless the operator says for how long."""
    config = server_config(database, tmp_path, media={"local_retention_days": days})
    async with running_server(config) as server, open_api(server.url) as api:
        await upload(await api.register("alice"), b"x")
        await _age(server, 365 * _DAY)
        await _sweep(server)
        assert len(stored(server)) == left


async def test_what_is_looked_at_stays(database: str, tmp_path: Path) -> None:
    """The time counts from when somebody last looked at the file."""
    config = server_config(database, tmp_path, media={"local_retention_days": 10})
    async with running_server(config) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        address = await upload(alice, b"x")
        await _age(server, 9 * _DAY)
        assert (await alice.get(f"{_V1}/download/{address}")).status == 200
        await _age(server, 9 * _DAY)
        await _sweep(server)
        assert len(stored(server)) == 1


@pytest.mark.parametrize(
    ("setting", "old", "new"),
    [(False, 404, 404), (True, 200, 200), ("today", 200, 404), ("2001-01-01", 404, 404)],
)
async def test_addresses_without_a_token(database: str, tmp_path: Path, setting: Any, old: int, new: int) -> None:
    """The old addresses give nothing, everything, or what came before a day, as the operator says."""
    if setting == "today":
        setting = datetime.now(UTC).date().isoformat()
    config = server_config(database, tmp_path, media={"legacy_unauthenticated": setting})
    async with running_server(config) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        before = await upload(alice, picture((10, 10)), "image/png")
        await _age(server, 2 * _DAY)
        after = await upload(alice, b"y")
        for path in (f"{_LEGACY}/download/{before}", f"{_LEGACY}/thumbnail/{before}?width=10&height=10"):
            assert (await api.get(path)).status == old
        answer = await api.get(f"/_matrix/media/r0/download/{after}/name.txt")
        assert answer.status == new
        assert answer.errcode == ("M_NOT_FOUND" if new == 404 else None)
