"""The guarded HTTP client, against real servers on loopback."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from homeserver.outbound import (
    AddressGuard,
    ConnectionLost,
    CouldNotConnect,
    OutboundClient,
    RequestFailed,
    RequestRefused,
    ResponseTooLarge,
    Timeouts,
)
from tests.local_servers import LOOPBACK, FakeResolver, authority, raw_server, serving

PUBLIC = ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::8.8.8.8", "2002:808:808::1"]
SPECIAL = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.1.2.3",
    "::127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:c0a8:101::1",
    "2001:0:808:808::f5ff:fffe",
    "2606:4700::5efe:192.168.0.1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12::1",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
]


@asynccontextmanager
async def client(**options: Any) -> AsyncIterator[OutboundClient]:
    made = OutboundClient(**{"allow": LOOPBACK, "ca_file": authority().ca_file, **options})
    try:
        yield made
    finally:
        await made.close()


async def hello(request: web.Request) -> web.Response:
    return web.Response(text=f"{request.method} {request.path_qs} {request.headers['Host']} {await request.text()}")


@pytest.mark.parametrize("address", SPECIAL)
def test_special_addresses_are_refused(address: str) -> None:
    """No special-purpose address may be connected to, in whatever form it comes."""
    assert not AddressGuard().permits(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_permitted(address: str) -> None:
    """Public addresses may be connected to, also through NAT64 and 6to4."""
    assert AddressGuard().permits(address)


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f000001", "1.1.1.1/8", "[::1]", "1.1.1.1 "])
def test_what_is_no_address_is_refused(text: str) -> None:
    """The guard permits only what it could read as an address."""
    assert not AddressGuard(deny=()).permits(text)


def test_allowed_ranges_override_denied_ones() -> None:
    """An allowed range holds inside a denied one, for mapped and embedded forms too, and no further."""
    guard = AddressGuard(allow=["10.20.0.0/16", "fd00:1::/32"])
    assert guard.permits("10.20.3.4")
    assert guard.permits("::ffff:10.20.3.4")
    assert guard.permits("64:ff9b::10.20.3.4")
    assert guard.permits("fd00:1::5")
    assert not guard.permits("10.21.0.1")
    assert not guard.permits("fd00:2::5")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
async def test_loopback_is_refused_however_it_is_written(host: str) -> None:
    """A URL can't reach an inside address by an unusual spelling of it, nor by a name for it."""
    reached = []

    async def handler(request: web.Request) -> web.Response:
        reached.append(request)
        return web.Response()

    async with serving(handler) as port, client(allow=()) as outbound:
        with pytest.raises(RequestFailed):
            await outbound.request("GET", f"http://{host}:{port}/")
        with pytest.raises(RequestFailed):
            await outbound.request("GET", "http://example.com/", connect_to=(host.strip("[]"), port))
    assert not reached


async def test_refusals_have_an_error_of_their_own() -> None:
    """An inside address is RequestRefused, whether written in the URL or found by name."""
    resolver = FakeResolver({"inside.test": [[("10.0.0.1", 0)]]})
    async with client(allow=(), resolver=resolver) as outbound:
        for host in ("127.0.0.1", "[::1]", "inside.test"):
            with pytest.raises(RequestRefused):
                await outbound.request("GET", f"http://{host}/")


async def test_rebinding_between_check_and_connect_gains_nothing() -> None:
    """A name that is public when first asked and inside when asked again isn't reached: the connect decides."""
    async with serving(hello) as port:
        # 127.0.0.2 plays the public address here; nobody listens there.
        resolver = FakeResolver({"rebind.test": [[("127.0.0.2", port)], [("127.0.0.1", port)]]})
        async with client(deny=LOOPBACK, allow=["127.0.0.2/32"], resolver=resolver) as outbound:
            with pytest.raises(CouldNotConnect):
                await outbound.request("GET", "http://rebind.test/")
            connector = outbound._session.connector
            assert isinstance(connector, aiohttp.TCPConnector)
            connector.clear_dns_cache()
            with pytest.raises(RequestRefused):
                await outbound.request("GET", "http://rebind.test/")


async def test_the_socket_itself_is_guarded() -> None:
    """Even if a resolver's answer got past every check of names, no socket is made for a refused address."""
    async with serving(hello) as port:
        resolver = FakeResolver({"sly.test": [[("127.0.0.1", port)]]})
        async with client(allow=(), resolver=resolver) as outbound:
            outbound._resolver._guard = AddressGuard(deny=())
            with pytest.raises(RequestRefused):
                await outbound.request("GET", "http://sly.test/")


async def test_a_host_with_one_allowed_address_is_reached_there() -> None:
    """Refused addresses of a host are left out; its others are tried."""
    async with serving(hello) as port:
        resolver = FakeResolver({"both.test": [[("10.0.0.1", port), ("127.0.0.1", port)]]})
        async with client(resolver=resolver) as outbound:
            assert (await outbound.request("GET", "http://both.test/")).status == 200


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com/", "file:///etc/passwd", "/path", "http://", "http://user:pw@example.com/", "http://h:99999/"],
)
async def test_odd_urls_are_refused(url: str) -> None:
    """Only http and https URLs with a host and without credentials are asked."""
    async with client() as outbound:
        with pytest.raises(RequestRefused):
            await outbound.request("GET", url)


async def test_method_headers_and_body_arrive() -> None:
    """What is asked goes out as given, and an encoded URL byte for byte."""
    async with serving(hello) as port, client() as outbound:
        url = URL(f"http://127.0.0.1:{port}/a%2Fb/%21x?q=%7E", encoded=True)
        response = await outbound.request("PUT", url, body=b"hi", headers={"Host": "name.test"})
    assert response.body.decode() == "PUT /a%2Fb/%21x?q=%7E name.test hi"


async def test_redirects_are_followed_only_on_request_and_only_so_far() -> None:
    """A redirect is given back as it is, or followed up to the bound."""

    async def handler(request: web.Request) -> web.Response:
        left = int(request.path[1:])
        return web.Response(text="end") if left == 0 else web.Response(status=302, headers={"Location": f"/{left - 1}"})

    async with serving(handler) as port, client() as outbound:
        url = f"http://127.0.0.1:{port}"
        assert (await outbound.request("GET", f"{url}/1")).status == 302
        assert (await outbound.request("POST", f"{url}/1", follow_redirects=True)).status == 302
        final = await outbound.request("GET", f"{url}/3", follow_redirects=3)
        assert (final.body, final.url) == (b"end", f"{url}/0")
        with pytest.raises(RequestFailed, match="redirects"):
            await outbound.request("GET", f"{url}/4", follow_redirects=3)


@pytest.mark.parametrize(
    "target", ["http://10.0.0.1/", "http://[::1]/", "http://169.254.169.254/x", "ftp://127.0.0.1/", "http://:x"]
)
async def test_every_redirect_is_checked(target: str) -> None:
    """A redirect to an inside address, to another scheme or to nonsense ends there."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=301, headers={"Location": target})

    async with serving(handler) as port, client() as outbound:
        with pytest.raises(RequestRefused):
            await outbound.request("GET", f"http://127.0.0.1:{port}/", follow_redirects=True)


async def test_redirects_do_not_leave_https() -> None:
    """From https to http is refused unless the caller allows it."""
    async with serving(hello) as plain:

        async def handler(_: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": f"http://127.0.0.1:{plain}/"})

        async with serving(handler, "127.0.0.1") as port, client() as outbound:
            url = f"https://127.0.0.1:{port}/"
            with pytest.raises(RequestRefused):
                await outbound.request("GET", url, follow_redirects=True)
            assert (await outbound.request("GET", url, follow_redirects=True, allow_downgrade=True)).status == 200


async def test_credentials_do_not_follow_to_another_origin() -> None:
    """Authorization and Cookie stay with the origin that they were meant for."""
    seen: list[str | None] = []

    async def elsewhere(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response()

    async with serving(elsewhere) as other:

        async def handler(request: web.Request) -> web.Response:
            seen.append(request.headers.get("Authorization"))
            location = "/2" if request.path == "/1" else f"http://127.0.0.1:{other}/"
            return web.Response(status=302, headers={"Location": location})

        async with serving(handler) as port, client() as outbound:
            await outbound.request(
                "GET", f"http://127.0.0.1:{port}/1", headers={"authorization": "Bearer x"}, follow_redirects=True
            )
    assert seen == ["Bearer x", "Bearer x", None]


async def test_bodies_are_capped_with_and_without_a_length() -> None:
    """A body of exactly the cap is given, a longer one is refused, announced or not."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/announced":
            return web.Response(body=b"x" * 1001)
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for _ in range(int(request.query["n"])):
            await response.write(b"x" * 100)
        return response

    async with serving(handler) as port, client() as outbound:
        url = f"http://127.0.0.1:{port}"
        assert len((await outbound.request("GET", f"{url}/?n=10", max_bytes=1000)).body) == 1000
        for path in ("/announced", "/?n=11"):
            with pytest.raises(ResponseTooLarge):
                await outbound.request("GET", url + path, max_bytes=1000)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity", "GZIP"])
async def test_compressed_bodies_are_inflated(encoding: str) -> None:
    """gzip (of several members too) and deflate are undone, nothing else was asked for."""
    text = b"hello " * 1000
    packed = {
        "gzip": gzip.compress(text[:3000]) + gzip.compress(text[3000:]),
        "deflate": zlib.compress(text),
        "identity": text,
        "GZIP": gzip.compress(text),
    }

    async def handler(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "gzip, deflate"
        return web.Response(body=packed[encoding], headers={"Content-Encoding": encoding})

    async with serving(handler) as port, client() as outbound:
        assert (await outbound.request("GET", f"http://127.0.0.1:{port}/")).body == text


async def test_a_gzip_bomb_does_not_unfold() -> None:
    """A body that inflates far beyond the cap is refused while little of it is in memory."""
    bomb = gzip.compress(bytes(64 * 1024 * 1024))

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async with serving(handler) as port, client() as outbound:
        tracemalloc.start()
        try:
            with pytest.raises(ResponseTooLarge):
                await outbound.request("GET", f"http://127.0.0.1:{port}/", max_bytes=1024 * 1024)
            assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"not gzip"),
        ("gzip", gzip.compress(b"x" * 1000)[:-9]),
        ("br", b"x"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"x"))),
    ],
    ids=["no gzip", "cut off", "unknown", "twice"],
)
async def test_bad_compression_is_an_error(encoding: str, body: bytes) -> None:
    """Broken, cut off, unknown and stacked encodings are failures, not bodies."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Content-Encoding": encoding})

    async with serving(handler) as port, client() as outbound:
        with pytest.raises(RequestFailed):
            await outbound.request("GET", f"http://127.0.0.1:{port}/")


async def test_a_slow_server_is_bounded_by_the_total() -> None:
    """A server that sends a byte now and then never gets longer than the total, in head or body."""
    for beginning in (b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"):

        async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter, start: bytes = beginning) -> None:
            writer.write(start)
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)

        async with raw_server(drip) as port, client() as outbound:
            before = asyncio.get_running_loop().time()
            with pytest.raises(RequestFailed):
                await outbound.request("GET", f"http://127.0.0.1:{port}/", timeout=Timeouts(total=0.15, read=5))
            assert asyncio.get_running_loop().time() - before < 2


async def test_silence_is_bounded_by_the_read_timeout() -> None:
    """A server that says nothing is given up after the read time-out."""

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_server(silent) as port, client() as outbound:
        with pytest.raises(RequestFailed):
            await outbound.request("GET", f"http://127.0.0.1:{port}/", timeout=Timeouts(total=30, read=0.05))


async def test_a_timeout_of_the_caller_stays_its_own() -> None:
    """A TimeoutError raised while a stream is read isn't taken for the request's."""
    async with serving(hello) as port, client() as outbound:
        with pytest.raises(TimeoutError):
            async with outbound.stream("GET", f"http://127.0.0.1:{port}/"):
                raise TimeoutError


async def test_streams_give_head_before_body() -> None:
    """Status and headers can be judged before the body is read, and the body be left unread."""
    async with serving(hello) as port, client() as outbound:
        async with outbound.stream("GET", f"http://127.0.0.1:{port}/") as stream:
            assert (stream.status, stream.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        async with outbound.stream("GET", f"http://127.0.0.1:{port}/") as stream:
            assert b"".join([piece async for piece in stream.chunks()]).startswith(b"GET /")


async def test_failures_are_told_apart() -> None:
    """Not connected, closed before the answer, and cut off within it have different errors."""

    async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async def cut_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

    async with client(resolver=FakeResolver({})) as outbound:
        async with raw_server(hang_up) as port:
            with pytest.raises(ConnectionLost):
                await outbound.request("POST", f"http://127.0.0.1:{port}/")
        with pytest.raises(CouldNotConnect):
            await outbound.request("GET", f"http://127.0.0.1:{port}/")
        with pytest.raises(CouldNotConnect):
            await outbound.request("GET", "http://nowhere.test/")
        async with raw_server(cut_off) as port:
            with pytest.raises(RequestFailed) as failure:
                await outbound.request("GET", f"http://127.0.0.1:{port}/")
            assert not isinstance(failure.value, ConnectionLost | CouldNotConnect)


async def test_the_certificate_is_for_the_tls_name_not_the_address() -> None:
    """Connecting elsewhere, the Host header is the URL's and the certificate must be for the name asked for."""
    async with serving(hello, "matrix.test") as port, client() as outbound:
        response = await outbound.request("GET", "https://matrix.test/x", connect_to=("127.0.0.1", port))
        assert response.body == b"GET /x matrix.test "
        for name in ("other.test", "127.0.0.1"):
            with pytest.raises(CouldNotConnect):
                await outbound.request(
                    "GET", "https://matrix.test/x", connect_to=("127.0.0.1", port), server_hostname=name
                )


async def test_connections_are_not_shared_between_tls_names() -> None:
    """A connection whose certificate was checked for one name isn't reused for another name at the same address."""
    async with serving(hello, "one.test") as port, client() as outbound:
        assert (await outbound.request("GET", "https://one.test/", connect_to=("127.0.0.1", port))).status == 200
        with pytest.raises(CouldNotConnect):
            await outbound.request("GET", "https://two.test/", connect_to=("127.0.0.1", port))


async def test_certificates_for_ip_addresses() -> None:
    """A server that is named by its IP address must have a certificate for that."""
    async with serving(hello, "127.0.0.1") as port, client() as outbound:
        assert (await outbound.request("GET", f"https://127.0.0.1:{port}/")).status == 200


async def test_unknown_authorities_are_not_trusted() -> None:
    """Without the extra CA file a certificate of that authority is refused."""
    async with serving(hello, "127.0.0.1") as port, client(ca_file=None) as outbound:
        with pytest.raises(CouldNotConnect):
            await outbound.request("GET", f"https://127.0.0.1:{port}/")


def test_tls_is_1_2_or_later() -> None:
    """Older protocol versions are not spoken, and host names are checked."""
    from homeserver.outbound import tls_context

    context = tls_context()
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


async def test_cookies_are_not_kept() -> None:
    """What one answer sets is not sent with the next request."""

    async def handler(request: web.Request) -> web.Response:
        response = web.Response(text=request.headers.get("Cookie", "none"))
        response.set_cookie("id", "1")
        return response

    async with serving(handler) as port, client() as outbound:
        for _ in range(2):
            assert (await outbound.request("GET", f"http://127.0.0.1:{port}/")).body == b"none"


async def test_header_injection_is_refused() -> None:
    """A header value with a line break never goes out."""
    async with serving(hello) as port, client() as outbound:
        with pytest.raises(RequestFailed):
            await outbound.request("GET", f"http://127.0.0.1:{port}/", headers={"X": "a\r\nY: b"})
