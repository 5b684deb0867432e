"""The one HTTP client for everything that leaves: federation, previews, push, webhooks, OpenID Connect, AI endpoints.

Other people choose many of the addresses that a homeserver asks, so every request is bounded and guarded here, once:

- The address is checked in the connector's socket factory, at the moment of connecting, whether it came from DNS or
  was written in the URL. Names that resolve to something else the second time (DNS rebinding) gain nothing by it.
- Redirects are followed by hand, so that each hop is a new request that passes the same checks.
- Bodies are inflated here and not by aiohttp: a small bomb never grows past the cap, and nothing is read after it.
- One deadline holds from the first DNS query to the last byte, across redirects.

The address to connect to, the TLS name and the Host header can differ, which Matrix delegation needs.
# spec: server-server-api/#resolving-server-names
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from homeserver.config.sections import REFUSED_ADDRESSES

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


_NAT64 = IPv6Network("64:ff9b::/96")
_IPV4_COMPATIBLE = IPv6Network("::/96")
_ISATAP_INTERFACES = (0x0000_5EFE, 0x0200_5EFE)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CREDENTIAL_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
_INFLATE_STEP = 64 * 1024
_DNS_THREADS = 16


class RequestFailed(Exception):
    """No usable answer: name not found, connection or TLS failed, time-out, broken or oversized response."""


class RequestRefused(RequestFailed):
    """Not asked at all, or not further: the address, the URL or the redirect is not allowed."""


class CouldNotConnect(RequestFailed):
    """Nothing was sent: the name did not resolve, the connection was refused or timed out, TLS failed."""


class ResponseTooLarge(RequestFailed):
    """The body is larger, or inflates to more, than the caller takes."""


class ConnectionLost(RequestFailed):
    """The connection ended before the answer began, as a kept-alive connection does that the server had closed."""


class _AddressRefused(OSError):
    """Inside aiohttp only OSErrors pass as failures to connect; `_translated` makes a RequestRefused of it."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response. `body` is inflated; `url` is where the last redirect led."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: for all of a request, for getting a connection, and between two reads."""

    total: float = 60.0
    connect: float = 10.0
    read: float = 30.0


class AddressGuard:
    """Which addresses may be connected to: those in an allowed range, and of the others those in no denied range."""

    def __init__(self, deny: Iterable[str | Network] = REFUSED_ADDRESSES, allow: Iterable[str | Network] = ()) -> None:
        """`deny` and `allow` are networks, as objects or in CIDR form.

        :raises ValueError: for one that is not
        """
        self._deny = tuple(ip_network(network, strict=False) for network in deny)
        self._allow = tuple(ip_network(network, strict=False) for network in allow)

    def permits(self, address: str) -> bool:
        """Whether the textual IPv4 or IPv6 address may be connected to; anything else may not."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
        return self._permits(mapped or parsed)

    def _permits(self, address: Address) -> bool:
        if _within(address, self._allow):
            return True
        if _within(address, self._deny):
            return False
        # Transition mechanisms carry an IPv4 address inside; where they work, packets reach that address.
        return all(self._permits(inner) for inner in _embedded_addresses(address))


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _embedded_addresses(address: Address) -> Iterator[IPv4Address]:
    if isinstance(address, IPv4Address):
        return
    low = IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _NAT64 or (address in _IPV4_COMPATIBLE and int(address) > 1):
        yield low
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP_INTERFACES:
        yield low


class _SystemResolver(AbstractResolver):
    """getaddrinfo on threads of its own, so that slow DNS can't hold up whatever else runs on the default executor."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_DNS_THREADS, thread_name_prefix="outbound-dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        lookup = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, family=family)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, lookup)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=address_family,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address_family, _, proto, _, address in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class _GuardedResolver(AbstractResolver):
    """Leaves out the addresses that the guard refuses, so that a host with a public address too stays reachable."""

    def __init__(self, inner: AbstractResolver, guard: AddressGuard) -> None:
        self._inner = inner
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        permitted = [result for result in found if self._guard.permits(result["host"])]
        if found and not permitted:
            raise _AddressRefused(f"{host} has no address that may be connected to")
        return permitted

    async def close(self) -> None:
        await self._inner.close()


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Verifies certificates against the system's authorities and those in `ca_file` (PEM), TLS 1.2 or later.

    # spec: server-server-api/#tls
    :raises OSError: when the file can't be read  :raises ssl.SSLError: when it holds no certificate
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context


class Stream:
    """A response whose body is still to be read, once, through `chunks`."""

    def __init__(self, response: aiohttp.ClientResponse, max_bytes: int) -> None:
        self._response = response
        self._max_bytes = max_bytes
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.url = str(response.url)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The inflated body, piece by piece.

        :raises ResponseTooLarge: before more than `max_bytes` bytes were given
        :raises RequestFailed: when the connection or the compressed data breaks off
        """
        length = self._response.content_length
        if length is not None and length > self._max_bytes:
            raise ResponseTooLarge(f"the response announces {length} bytes, {self._max_bytes} are allowed")
        inflate = _inflater(self.headers.get("Content-Encoding", ""))
        received = given = 0
        with _translated(answered=True):
            async for raw in self._response.content.iter_any():
                received += len(raw)
                for piece in inflate(raw):
                    given += len(piece)
                    if max(received, given) > self._max_bytes:
                        raise ResponseTooLarge(f"the response is larger than {self._max_bytes} bytes")
                    yield piece
                if received > self._max_bytes:
                    raise ResponseTooLarge(f"the response is larger than {self._max_bytes} bytes")
        for piece in inflate(None):
            yield piece


class _Inflater:
    """Inflates gzip or zlib data in steps of bounded size; called with None it checks that the end was reached."""

    def __init__(self, window_bits: int) -> None:
        self._window_bits = window_bits
        self._inflate = zlib.decompressobj(window_bits)
        self._started = False

    def __call__(self, data: bytes | None) -> Iterator[bytes]:
        if data is None:
            if self._started and not self._inflate.eof:
                raise RequestFailed("the compressed response breaks off")
            return
        while data:
            self._started = True
            if self._inflate.eof:  # gzip allows several members one after the other
                self._inflate = zlib.decompressobj(self._window_bits)
            try:
                piece = self._inflate.decompress(data, _INFLATE_STEP)
            except zlib.error as error:
                raise RequestFailed(f"the response is not compressed as it says: {error}") from error
            data = self._inflate.unused_data or self._inflate.unconsumed_tail
            if piece:
                yield piece


def _verbatim(data: bytes | None) -> Iterator[bytes]:
    if data:
        yield data


def _inflater(encoding: str) -> Callable[[bytes | None], Iterator[bytes]]:
    match encoding.strip().lower():
        case "" | "identity":
            return _verbatim
        case "gzip" | "x-gzip":
            return _Inflater(16 + zlib.MAX_WBITS)
        case "deflate":
            return _Inflater(zlib.MAX_WBITS)
        case other:
            raise RequestFailed(f"the response has a content encoding that was not asked for: {other[:40]!r}")


@dataclass(frozen=True, slots=True)
class _Hop:
    """One request of a chain of redirects."""

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes | None
    limits: Timeouts
    connect_to: tuple[str, int] | None
    server_hostname: str | None

    def redirected(self, target: URL) -> _Hop:
        drop = {"host"} if target.origin() == self.url.origin() else {"host", *_CREDENTIAL_HEADERS}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in drop}
        return replace(self, url=target, headers=headers, connect_to=None, server_hostname=None)


class OutboundClient:
    """Make one per process inside the running loop, and `close` it at the end. Requests may run concurrently."""

    def __init__(
        self,
        *,
        deny: Iterable[str | Network] = REFUSED_ADDRESSES,
        allow: Iterable[str | Network] = (),
        ca_file: str | None = None,
        user_agent: str = "Talk pAI",
        max_connections: int = 512,
        max_connections_per_host: int = 16,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """`deny` and `allow` are networks or CIDR strings, allow wins. `resolver` replaces the system's; its answers
        are checked too.

        :raises ValueError: for a malformed network  :raises OSError, ssl.SSLError: for an unusable `ca_file`
        """
        self.guard = AddressGuard(deny, allow)
        self._tls = tls_context(ca_file)
        self._user_agent = user_agent
        self._resolver = _GuardedResolver(resolver or _SystemResolver(), self.guard)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._resolver,
                ssl=self._tls,
                limit=max_connections,
                limit_per_host=max_connections_per_host,
                socket_factory=self._checked_socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Closes every connection; requests still running fail."""
        await self._session.close()
        await self._resolver.close()

    async def request(
        self,
        method: str,
        url: str | URL,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float | Timeouts = 60.0,
        max_bytes: int = 1024 * 1024,
        connect_to: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        follow_redirects: bool | int = False,
        allow_downgrade: bool = False,
    ) -> Response:
        """Asks, and reads the whole answer, whatever its status. The parameters are those of `stream`.

        :raises RequestRefused, RequestFailed: as `stream` does
        :raises ResponseTooLarge: when the inflated body has more than `max_bytes` bytes
        """
        async with self.stream(
            method,
            url,
            headers=headers,
            body=body,
            timeout=timeout,
            max_bytes=max_bytes,
            connect_to=connect_to,
            server_hostname=server_hostname,
            follow_redirects=follow_redirects,
            allow_downgrade=allow_downgrade,
        ) as stream:
            pieces = [piece async for piece in stream.chunks()]
            return Response(stream.status, stream.headers, b"".join(pieces), stream.url)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str | URL,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float | Timeouts = 60.0,
        max_bytes: int = 1024 * 1024,
        connect_to: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        follow_redirects: bool | int = False,
        allow_downgrade: bool = False,
    ) -> AsyncIterator[Stream]:
        """Asks, and gives the answer while its body is still to come; leaving the block ends the exchange.

        `url` as a string is quoted where needed; a yarl URL made with `encoded=True` goes out exactly as it is.
        `connect_to` replaces host and port of the URL as the place to connect to; the Host header stays the URL's
        unless `headers` has one. `server_hostname` is the name (or IP address) that the certificate must be for.
        `follow_redirects` is a bound (True: 5) and concerns GET and HEAD only; `allow_downgrade` lets them lead from
        https to http. `timeout` is seconds for everything until the block is left, or `Timeouts`.

        :raises RequestRefused: for an address, URL or redirect that isn't allowed
        :raises ConnectionLost: when the connection ended before an answer came
        :raises RequestFailed: for every other failure to get an answer
        """
        limits = timeout if isinstance(timeout, Timeouts) else Timeouts(total=timeout, read=timeout)
        hop = _Hop(method, _checked_url(url), dict(headers or {}), body, limits, connect_to, server_hostname)
        hops = 0
        if follow_redirects and method in ("GET", "HEAD"):
            hops = 5 if follow_redirects is True else int(follow_redirects)
        deadline = asyncio.timeout(limits.total)
        try:
            async with deadline:
                response = await self._follow(hop, hops, allow_downgrade) if hops else await self._send(hop)
                try:
                    yield Stream(response, max_bytes)
                finally:
                    # Closing what was not read to its end: releasing it would go on reading without a bound.
                    if response.content.at_eof():
                        response.release()
                    else:
                        response.close()
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise RequestFailed(f"no complete answer within {limits.total:g} s") from error

    async def _follow(self, hop: _Hop, hops: int, allow_downgrade: bool) -> aiohttp.ClientResponse:
        for _ in range(hops + 1):
            response = await self._send(hop)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                return response
            response.close()
            target = _redirect_target(hop.url, location)
            if hop.url.scheme == "https" and target.scheme != "https" and not allow_downgrade:
                raise RequestRefused(f"{hop.url.host} redirects from https to {target.scheme}")
            hop = hop.redirected(target)
        raise RequestFailed(f"more than {hops} redirects")

    async def _send(self, hop: _Hop) -> aiohttp.ClientResponse:
        headers = {"User-Agent": self._user_agent, "Accept-Encoding": "gzip, deflate", **hop.headers}
        url, server_hostname = hop.url, hop.server_hostname
        if hop.connect_to is not None:
            headers.setdefault("Host", url.host_port_subcomponent or "")
            server_hostname = server_hostname or url.host
            url = _at(url, *hop.connect_to)
        limits = hop.limits
        with _translated():
            return await self._session.request(
                hop.method,
                url,
                headers=headers,
                data=hop.body,
                allow_redirects=False,
                server_hostname=server_hostname if url.scheme == "https" else None,
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=limits.connect, sock_connect=limits.connect, sock_read=limits.read
                ),
            )

    def _checked_socket(self, address_info: Any) -> socket.socket:
        family, kind, proto, _, address = address_info
        if not self.guard.permits(str(address[0])):
            raise _AddressRefused(f"{address[0]} may not be connected to")
        return socket.socket(family, kind, proto)


def _checked_url(url: str | URL) -> URL:
    try:
        parsed = URL(url) if isinstance(url, str) else url
        parsed.port  # noqa: B018  raises for a port out of range
    except ValueError as error:
        raise RequestRefused(f"not a URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise RequestRefused("only http and https URLs with a host can be asked")
    if parsed.user is not None or parsed.password is not None:
        raise RequestRefused("a URL with credentials in it is not asked")
    return parsed


def _redirect_target(url: URL, location: str) -> URL:
    try:
        target = url.join(URL(location))
    except ValueError as error:
        raise RequestRefused("redirected to something that is not a URL") from error
    return _checked_url(target)


def _at(url: URL, host: str, port: int) -> URL:
    """That URL's path and query, untouched, at another host and port."""
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return URL(f"{url.scheme}://{netloc}{url.raw_path_qs}", encoded=True)


@contextmanager
def _translated(*, answered: bool = False) -> Iterator[None]:
    """Turns what aiohttp raises into this module's errors; `answered`: the head of the response has come."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise CouldNotConnect("no connection in time") from error
    except aiohttp.ServerTimeoutError as error:
        raise RequestFailed("the server did not answer in time") from error
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.__cause__, _AddressRefused):
            raise RequestRefused(str(error.__cause__)) from error
        raise CouldNotConnect(f"could not connect to {error.host}: {error.__cause__}") from error
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        if answered:
            raise RequestFailed("the connection was closed within the answer") from error
        raise ConnectionLost("the connection was closed before an answer came") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise RequestFailed(f"the request failed: {type(error).__name__}: {error}") from error
