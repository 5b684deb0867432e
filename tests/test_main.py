"""Starting and stopping: listeners, the database underneath, signals, and what is left afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from homeserver.config import ConfigError
from homeserver.main import all_routes, running_server
from homeserver.storage.stream import DatabaseInUse
from tests.support.api import Api, open_api
from tests.support.servers import server_config
from tests.support.tls import Authority

_VERSIONS = "/_matrix/client/versions"


async def test_listeners_serve_what_they_are_told_to(database: str, tmp_path: Path) -> None:
    """Each listener answers its own parts, and /health and /ready always."""
    listeners = [{"port": 0, "serves": ["metrics"]}, {"port": 0, "serves": ["client"]}]
    async with running_server(server_config(database, tmp_path, listeners=listeners)) as server:
        statuses = []
        for address in server.addresses:
            async with open_api(address) as api:
                paths = ("/health", "/ready", "/metrics", _VERSIONS, "/_synapse/admin/v1/register")
                statuses.append([(await api.get(path)).status for path in paths])
    assert statuses == [[200, 200, 200, 404, 404], [200, 200, 404, 200, 404]]


async def test_a_unix_socket(database: str, tmp_path: Path) -> None:
    """A listener may be a socket in the file system; who may open it is trusted to say where a request comes from."""
    path = tmp_path / "s"
    config = server_config(database, tmp_path, listeners=[{"unix_socket": str(path)}])
    async with running_server(config) as server:
        assert server.addresses == (f"unix:{path}",)
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
            alice = await Api(session, "http://server").register("alice")
            await alice.get("/account/whoami", headers={"X-Forwarded-For": "192.0.2.7"})
            await server.http.authenticator.activity.write()
            assert (await alice.get(f"/devices/{alice.device_id}")).body["last_seen_ip"] == "192.0.2.7"


async def test_tls(database: str, tmp_path: Path) -> None:
    """A listener with a certificate speaks HTTPS; one whose certificate can't be read is refused in one line."""
    authority = Authority(tmp_path)
    issued = authority.issue(["localhost"])
    tls = {"certificate": str(issued.certificate), "private_key": str(issued.private_key)}
    config = server_config(database, tmp_path, listeners=[{"port": 0, "tls": tls}])
    context = ssl.create_default_context(cafile=authority.ca_file)
    async with running_server(config) as server, aiohttp.ClientSession() as session:
        url = server.url.replace("127.0.0.1", "localhost")
        assert url.startswith("https://")
        async with session.get(url + _VERSIONS, ssl=context) as response:
            assert response.status == 200
    bad = server_config(
        database, tmp_path, listeners=[{"port": 0, "tls": {**tls, "private_key": str(authority.ca_file)}}]
    )
    with pytest.raises(ConfigError, match="tls"):
        async with running_server(bad):
            pass


async def test_one_server_for_a_database(database: str, tmp_path: Path) -> None:
    """A second server on the same database is refused, and one that comes after the first has ended is not."""
    config = server_config(database, tmp_path)
    async with running_server(config):
        with pytest.raises(DatabaseInUse):
            async with running_server(config):
                pass
    async with running_server(config):
        pass


async def test_nothing_is_left_after_a_stop(database: str, tmp_path: Path) -> None:
    """With the server its tasks end, its port is free and its connections to the database are closed."""
    before = asyncio.all_tasks()
    async with running_server(server_config(database, tmp_path)) as server, open_api(server.url) as api:
        await api.register("alice")
        url = server.url
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    with pytest.raises(aiohttp.ClientConnectionError):
        async with open_api(url) as api:
            await api.get("/health")
    conn = await asyncpg.connect(database)
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    left = None
    for _ in range(200):
        if (left := await conn.fetchval(others)) == 0:
            break
        await asyncio.sleep(0.01)
    await conn.close()
    assert left == 0


async def test_the_server_outlives_a_break_of_its_connections(database: str, tmp_path: Path) -> None:
    """When PostgreSQL ends all connections, the next requests are served over new ones, and it stays claimed."""
    config = server_config(database, tmp_path)
    async with running_server(config) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        conn = await asyncpg.connect(database)
        await conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        for _ in range(500):
            if await conn.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted") == 1:
                break
            await asyncio.sleep(0.01)
        await conn.close()
        assert (await alice.get("/account/whoami")).status == 200
        with pytest.raises(DatabaseInUse):
            async with running_server(config):
                pass
        assert not server.failed.is_set()


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
async def test_signals_stop_it_cleanly(tmp_path: Path, name: signal.Signals) -> None:
    """With its own database: it says where it listens and how to make the first account; a signal ends it all."""
    program = (
        "import sys; from pathlib import Path; from homeserver.main import run; from homeserver.config import Config\n"
        "sys.exit(run(Config.model_validate({'data_dir': sys.argv[1], 'listeners': [{'port': 0}]})))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    first = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
    second = (await asyncio.wait_for(process.stdout.readline(), 10)).decode()
    assert "localhost at http://127.0.0.1:" in first
    assert "talk-pai user create --admin" in second
    pid = int((tmp_path / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    process.send_signal(name)
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, errors.decode()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_routes_are_listed() -> None:
    """`talk-pai routes` has every route once, of the client API, the admin API and federation."""
    routes = all_routes()
    assert len(routes) == len(set(routes))
    assert {
        ("GET", _VERSIONS),
        ("POST", "/_matrix/client/v3/login"),
        ("POST", "/_matrix/client/r0/login"),
        ("GET", "/_synapse/admin/v1/register"),
        ("GET", "/_matrix/key/v2/server"),
        ("GET", "/health"),
        ("GET", "/metrics"),
    } <= set(routes)
