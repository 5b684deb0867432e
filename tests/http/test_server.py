"""What holds for every request: errors, CORS, bodies, compression, rate limits, where it comes from, how it ends."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import json
import logging
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from homeserver.http import ApiRequest, Auth, HttpServer, Route
from homeserver.main import Server, running_server
from homeserver.services import Services
from tests.support.api import Api, open_api
from tests.support.servers import server_config

_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "X-Requested-With, Content-Type, Authorization, If-Match, If-None-Match",
}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/_matrix/client/versions", 200),
        ("GET", "/_matrix/client/v3/account/whoami", 401),
        ("GET", "/_matrix/client/v3/nothing/here", 404),
        ("DELETE", "/_matrix/client/versions", 405),
        ("OPTIONS", "/_matrix/client/v3/account/whoami", 200),
        ("OPTIONS", "/_matrix/client/v3/nothing/here", 200),
        ("HEAD", "/_matrix/client/versions", 200),
    ],
)
async def test_every_answer_has_the_cors_headers(api: Api, method: str, path: str, status: int) -> None:
    """Web clients may call from anywhere, and read errors too.  # spec: client-server-api/#web-browser-clients"""
    answer = await api.request(method, path)
    assert answer.status == status
    assert {name: answer.headers[name] for name in _CORS} == _CORS
    assert answer.headers["X-Request-Id"]


async def test_options_does_nothing(alice: Api) -> None:
    """A preflight is answered without looking at tokens or doing what the route does."""
    assert (await alice.request("OPTIONS", "/logout/all")).body == {}
    assert (await alice.get("/account/whoami")).status == 200


@pytest.mark.parametrize(("path", "status"), [("/_matrix/client/v3/nope", 404), ("/_matrix", 404)])
async def test_unknown_paths_are_unrecognized(api: Api, path: str, status: int) -> None:
    """A path that is not there is 404 M_UNRECOGNIZED, a method that is not there 405."""
    answer = await api.get(path)
    assert (answer.status, answer.errcode) == (status, "M_UNRECOGNIZED")
    answer = await api.request("DELETE", "/_matrix/client/v3/login")
    assert (answer.status, answer.errcode) == (405, "M_UNRECOGNIZED")


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        (b"", "M_NOT_JSON"),
        (b"{", "M_NOT_JSON"),
        (b'{"a": "\xff"}', "M_NOT_JSON"),
        (b'{"a": NaN}', "M_NOT_JSON"),
        (b"[]", "M_BAD_JSON"),
        (b"null", "M_BAD_JSON"),
        (b"[" * 300 + b"]" * 300, "M_NOT_JSON"),
    ],
)
async def test_bodies_that_are_no_json_object(api: Api, body: bytes, errcode: str) -> None:
    """What is not JSON and what is not an object are told apart."""
    answer = await api.post("/login", body=body)
    assert (answer.status, answer.errcode) == (400, errcode)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large(database: str, tmp_path: Path, chunked: bool) -> None:
    """A body beyond the limit is 413 M_TOO_LARGE, whether its size is announced or not."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * 10_000

    config = server_config(database, tmp_path, limits={"request_bytes": 65536})
    async with running_server(config) as server, aiohttp.ClientSession() as session:
        data: Any = parts() if chunked else b" " * 100_000
        async with session.post(f"{server.url}/_matrix/client/v3/login", data=data) as response:
            assert response.status == 413
            assert (await response.json())["errcode"] == "M_TOO_LARGE"


async def test_a_compressed_body_is_not_unpacked(api: Api) -> None:
    """A few bytes can't make the server hold many: a compressed body is just not JSON."""
    answer = await api.post("/login", body=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"})
    assert (answer.status, answer.errcode) == (400, "M_NOT_JSON")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_large_answers_are_compressed_for_who_takes_that(alice: Api, encoding: str) -> None:
    """Answers of some size are compressed if the client accepts it; small ones and those of others are not."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        headers = {"Authorization": f"Bearer {alice.token}", "Accept-Encoding": f"br, {encoding}"}
        async with session.get(f"{alice.url}/_matrix/client/v3/pushrules/", headers=headers) as response:
            assert response.headers["Content-Encoding"] == encoding
            raw = zlib.decompress(await response.read(), wbits=31 if encoding == "gzip" else 15)
            assert "global" in json.loads(raw)
        headers["Accept-Encoding"] = f"{encoding};q=0"
        async with session.get(f"{alice.url}/_matrix/client/v3/pushrules/", headers=headers) as response:
            assert "Content-Encoding" not in response.headers
            assert response.headers["Vary"] == "Accept-Encoding"
        headers["Accept-Encoding"] = encoding
        async with session.get(f"{alice.url}/_matrix/client/v3/login", headers=headers) as response:
            assert "Content-Encoding" not in response.headers


async def test_head_is_get_without_the_body(alice: Api) -> None:
    """HEAD answers what GET does, but for the body."""
    head, get = await alice.request("HEAD", "/pushrules/"), await alice.get("/pushrules/")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


async def test_what_is_not_http_gets_an_error_and_the_server_goes_on(api: Api, server: Server) -> None:
    """Garbage on the socket is answered with 400 in JSON or by closing, and hurts nobody else."""
    host, port = server.url.removeprefix("http://").split(":")
    for garbage in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(garbage + b"\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.split(b" ")[1] == b"400", garbage
        assert b'"errcode":"M_UNKNOWN"' in answer
        writer.close()
    assert (await api.get("/_matrix/client/versions")).status == 200


async def test_a_bug_is_answered_without_detail(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """What a handler did not expect is logged with the request's id, and told to nobody."""

    async def broken(services: Services, request: ApiRequest) -> dict[str, Any]:
        raise RuntimeError("the secret is 42")

    async with _mounted(server.http, [Route("GET", "/_broken", broken, Auth.NONE)]) as url, open_api(url) as api:
        with caplog.at_level(logging.ERROR):
            answer = await api.get("/_broken")
    assert (answer.status, answer.body) == (500, {"errcode": "M_UNKNOWN", "error": "Internal error"})
    assert "the secret is 42" in caplog.text


@asynccontextmanager
async def _mounted(http: HttpServer, routes: list[Route], trusted: str | None = None) -> AsyncIterator[str]:
    """Serves these routes on a port of their own."""
    networks = [ipaddress.ip_network(trusted)] if trusted is not None else []
    runner = web.ServerRunner(http.listener(routes, networks), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _tell_address(services: Services, request: ApiRequest) -> dict[str, Any]:
    return {"address": request.client_address}


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        (None, "192.0.2.1", "127.0.0.1"),
        ("127.0.0.0/8", "192.0.2.1", "192.0.2.1"),
        ("127.0.0.0/8", "198.51.100.7, 192.0.2.1", "192.0.2.1"),
        ("127.0.0.0/8", "192.0.2.1, 127.0.0.9", "192.0.2.1"),
        ("127.0.0.0/8", "2001:db8::1", "2001:db8::1"),
        ("127.0.0.0/8", "::ffff:192.0.2.1", "192.0.2.1"),
        ("127.0.0.0/8", "nonsense", "127.0.0.1"),
        ("127.0.0.0/8", "192.0.2.1, nonsense", "127.0.0.1"),
        ("127.0.0.0/8", "", "127.0.0.1"),
    ],
)
async def test_forwarded_addresses_count_only_from_trusted_proxies(
    server: Server, trusted: str | None, forwarded: str, address: str
) -> None:
    """X-Forwarded-For is believed as far as trusted proxies wrote it, and no further."""
    route = Route("GET", "/_address", _tell_address, Auth.NONE)
    async with _mounted(server.http, [route], trusted) as url, open_api(url) as api:
        assert (await api.get("/_address", headers={"X-Forwarded-For": forwarded})).body == {"address": address}


async def test_too_many_logins_are_refused_for_a_while(database: str, tmp_path: Path) -> None:
    """Beyond the limit the answer is 429 with the time to wait; others are not concerned."""
    limits = {"enabled": True, "login": {"per_second": 0.001, "burst": 3}}
    config = server_config(
        database, tmp_path, rate_limits=limits, listeners=[{"port": 0, "trusted_proxies": ["127.0.0.1"]}]
    )
    body = {"type": "m.login.password", "user": "alice", "password": "guess"}
    async with running_server(config) as server, open_api(server.url) as api:
        statuses = [(await api.post("/login", body)).status for _ in range(3)]
        assert statuses == [403, 403, 403]
        answer = await api.post("/login", body)
        assert (answer.status, answer.errcode) == (429, "M_LIMIT_EXCEEDED")
        assert answer.body["retry_after_ms"] > 1000
        assert int(answer.headers["Retry-After"]) >= answer.body["retry_after_ms"] / 1000
        elsewhere = {"X-Forwarded-For": "192.0.2.1"}
        assert (await api.post("/login", body, headers=elsewhere)).status == 429, "the account is limited too"
        assert (await api.post("/login", {**body, "user": "bob"}, headers=elsewhere)).status == 403


async def test_a_long_poll_ends_when_its_client_goes(server: Server) -> None:
    """Nothing waits on behalf of a client that has hung up."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait(services: Services, request: ApiRequest) -> dict[str, Any]:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return {}

    route = Route("GET", "/_wait", wait, Auth.NONE, long_poll=True)
    async with _mounted(server.http, [route]) as url, open_api(url) as api:
        task = asyncio.create_task(api.get("/_wait"))
        await began.wait()
        task.cancel()
        await asyncio.wait_for(ended.wait(), 5)


async def test_long_polls_end_when_the_server_stops(server: Server) -> None:
    """A stop does not wait for long polls: they are told that the server goes, and new ones too."""
    began = asyncio.Event()

    async def wait(services: Services, request: ApiRequest) -> dict[str, Any]:
        began.set()
        await asyncio.Event().wait()
        return {}

    route = Route("GET", "/_wait", wait, Auth.NONE, long_poll=True)
    async with _mounted(server.http, [route]) as url, open_api(url) as api:
        task = asyncio.create_task(api.get("/_wait"))
        await began.wait()
        server.http.stop_waiting()
        assert (await asyncio.wait_for(task, 5)).status == 503
        assert (await asyncio.wait_for(api.get("/_wait"), 5)).status == 503


async def test_health_and_readiness(api: Api) -> None:
    """/health says that the process is up, /ready that the database answers; neither needs a token."""
    assert (await api.get("/health")).body == {"status": "ok"}
    assert (await api.get("/ready")).body == {"status": "ok"}


async def test_requests_are_counted_by_route(alice: Api) -> None:
    """Metrics name the pattern of a path, never a path that somebody made up."""
    await alice.get("/devices/MADEUP")
    await alice.get("/made/up")
    text = (await alice.get("/metrics")).body.decode()
    assert 'route="/_matrix/client/v3/devices/{deviceId}"' in text
    assert "MADEUP" not in text
    assert "/made/up" not in text
