"""Where to reach a server of a given name: "Resolving server names", steps 1 to 6.

The outcome is a list of routes to try in order, each saying where to connect, which Host header to send and for which
name the certificate must be. Names of hosts stay names here; the outbound client resolves them as it connects and
checks the addresses then.

# spec: server-server-api/#resolving-server-names
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ipaddress import ip_address

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver

from federation.expiring_cache import ExpiringCache
from homeserver.outbound import OutboundClient, RequestFailed, Response
from homeserver.protocol.canonical_json import decode_json
from homeserver.protocol.errors import InvalidParam, MatrixError, Unavailable
from homeserver.protocol.identifiers import is_server_name, split_server_name

DEFAULT_PORT = 8448

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
_WELL_KNOWN_DEFAULT_MS = 24 * _HOUR_MS
_WELL_KNOWN_MAX_MS = 48 * _HOUR_MS
_WELL_KNOWN_MIN_MS = 5 * _MINUTE_MS
_WELL_KNOWN_FAILED_MS = 2 * _MINUTE_MS  # doubles with every further failure, up to an hour
_WELL_KNOWN_BYTES = 50 * 1024
_WELL_KNOWN_SECONDS = 15.0
_WELL_KNOWN_REDIRECTS = 5
_SRV_SECONDS = 10.0
_SRV_MIN_MS = _MINUTE_MS
_SRV_MAX_MS = 24 * _HOUR_MS
_SRV_MISSING_MS = 10 * _MINUTE_MS
_SRV_FAILED_MS = _MINUTE_MS
_MAX_ROUTES = 4
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?(\d{1,12})", re.IGNORECASE)
_NO_CACHE = re.compile(r"(?:^|[\s,])no-(?:cache|store)(?:$|[\s,=])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Route:
    """One way to reach a server: a host name or IP address with its port, the Host header, the certificate's name."""

    host: str
    port: int
    host_header: str
    tls_name: str


@dataclass(frozen=True, slots=True)
class SrvRecord:
    """One target of an SRV record, RFC 2782."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class _WellKnown:
    """`delegate` is None when the response was an error; `failures` counts those in a row."""

    delegate: str | None
    failures: int


# The records of a name and for how many seconds they hold; an empty list when there are none.
SrvLookup = Callable[[str], Awaitable[tuple[list[SrvRecord], int]]]


def dns_srv_lookup(resolver: dns.asyncresolver.Resolver | None = None) -> SrvLookup:
    """Looks SRV records up with dnspython; without a resolver, with the one that the system is set up for.

    The function that it returns raises dns.exception.DNSException where DNS fails (other than by "no such record").
    """
    if resolver is None:
        try:
            resolver = dns.asyncresolver.Resolver()
        except dns.resolver.NoResolverConfiguration:
            resolver = dns.asyncresolver.Resolver(configure=False)
    asked = resolver

    async def lookup(name: str) -> tuple[list[SrvRecord], int]:
        try:
            answer = await asked.resolve(name, dns.rdatatype.SRV, lifetime=_SRV_SECONDS, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return [], _SRV_MISSING_MS // 1000
        records = [
            SrvRecord(record.priority, record.weight, record.port, record.target.to_text(omit_final_dot=True) or ".")
            for record in answer
        ]
        return records, int(answer.rrset.ttl) if answer.rrset is not None else 0

    return lookup


class Discovery:
    """Resolves server names and remembers what it learned. One for the process."""

    def __init__(
        self,
        outbound: OutboundClient,
        *,
        srv_lookup: SrvLookup | None = None,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
        cache_size: int = 10_000,
        chance: random.Random | None = None,
    ) -> None:
        self._outbound = outbound
        self._srv_lookup = srv_lookup or dns_srv_lookup()
        self._now_ms = now_ms
        self._chance = chance or random.SystemRandom()
        self._well_known: ExpiringCache[str, _WellKnown] = ExpiringCache(cache_size, now_ms)
        self._srv: ExpiringCache[str, list[SrvRecord]] = ExpiringCache(cache_size, now_ms)

    async def resolve(self, server_name: str) -> list[Route]:
        """The routes to that server, the best first, at least one.

        :raises InvalidParam: when it is not a server name
        :raises Unavailable: when DNS says that the server offers no federation
        """
        if not is_server_name(server_name):
            raise InvalidParam("Not a server name")
        host, port = split_server_name(server_name)
        # Steps 1 and 2.
        if port is not None or _is_ip_literal(host):
            return [_direct_route(server_name)]
        # Step 3.
        delegate = await self._delegate_of(host)
        if delegate is None:
            return await self._by_srv(host)  # steps 4 to 6
        delegated_host, delegated_port = split_server_name(delegate)
        if delegated_port is not None or _is_ip_literal(delegated_host):
            return [_direct_route(delegate)]  # steps 3.1 and 3.2
        return await self._by_srv(delegated_host)  # steps 3.3 to 3.5

    async def _by_srv(self, host: str) -> list[Route]:
        """Steps 3.3 to 3.5 and 4 to 6: the SRV record, the deprecated one, port 8448."""
        for service in ("_matrix-fed", "_matrix"):
            records = await self._srv_records(f"{service}._tcp.{host}")
            if not records:
                continue
            usable = [record for record in records if record.target != "." and record.port]
            if not usable:
                # RFC 2782: a target of "." says that the service is decidedly not available at this domain.
                raise Unavailable(f"{host} says that it offers no federation")
            ordered = _by_priority(usable, self._chance)[:_MAX_ROUTES]
            return [Route(record.target, record.port, host, host) for record in ordered]
        return [Route(host, DEFAULT_PORT, host, host)]

    async def _srv_records(self, name: str) -> list[SrvRecord]:
        async def load(_previous: list[SrvRecord] | None) -> tuple[list[SrvRecord], int]:
            try:
                records, ttl = await self._srv_lookup(name)
            except (dns.exception.DNSException, OSError):
                # As if there were none: the certificate has to be for the same name either way.
                return [], _SRV_FAILED_MS
            return records, min(max(ttl * 1000, _SRV_MIN_MS), _SRV_MAX_MS)

        return await self._srv.get(name, load)

    async def _delegate_of(self, host: str) -> str | None:
        async def load(previous: _WellKnown | None) -> tuple[_WellKnown, int]:
            response = await self._fetch_well_known(host)
            delegate = None if response is None else _parse_well_known(response)
            if response is not None and delegate is not None:
                return _WellKnown(delegate, 0), _cache_time_ms(response, self._now_ms())
            failures = previous.failures if previous is not None else 0
            return _WellKnown(None, failures + 1), min(_WELL_KNOWN_FAILED_MS << min(failures, 10), _HOUR_MS)

        return (await self._well_known.get(host, load)).delegate

    async def _fetch_well_known(self, host: str) -> Response | None:
        try:
            return await self._outbound.request(
                "GET",
                f"https://{host}/.well-known/matrix/server",
                timeout=_WELL_KNOWN_SECONDS,
                max_bytes=_WELL_KNOWN_BYTES,
                follow_redirects=_WELL_KNOWN_REDIRECTS,
            )
        except RequestFailed:
            return None


def _direct_route(server_name: str) -> Route:
    """Of an IP literal, or of a host with an explicit port; the Host header is the name as it was given."""
    host, port = split_server_name(server_name)
    bare = host.removeprefix("[").removesuffix("]")
    return Route(bare, DEFAULT_PORT if port is None else port, server_name, bare)


def _is_ip_literal(host: str) -> bool:
    try:
        ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _parse_well_known(response: Response) -> str | None:
    """The delegated server name, None when the response is invalid in any way."""
    if response.status != 200:
        return None
    try:
        answer = decode_json(response.body)
    except (MatrixError, ValueError):
        return None
    delegate = answer.get("m.server") if isinstance(answer, dict) else None
    return delegate if isinstance(delegate, str) and is_server_name(delegate) else None


def _cache_time_ms(response: Response, now_ms: int) -> int:
    """How long a valid response holds: its Cache-Control, else its Expires header, else a day; within bounds."""
    control, expires = response.headers.get("Cache-Control", ""), response.headers.get("Expires")
    wanted = _WELL_KNOWN_DEFAULT_MS
    if _NO_CACHE.search(control):
        wanted = 0
    elif age := _MAX_AGE.search(control):
        wanted = int(age[1]) * 1000
    elif expires is not None:
        try:
            wanted = int(parsedate_to_datetime(expires).timestamp() * 1000) - now_ms
        except (ValueError, OverflowError):
            wanted = 0  # RFC 9111 5.3: an invalid date means already expired
    return min(max(wanted, _WELL_KNOWN_MIN_MS), _WELL_KNOWN_MAX_MS)


def _by_priority(records: Sequence[SrvRecord], chance: random.Random) -> list[SrvRecord]:
    """RFC 2782: by ascending priority; within one priority drawn at random in proportion to the weights."""
    ordered: list[SrvRecord] = []
    for priority in sorted({record.priority for record in records}):
        # Those of weight 0 stand first, so that they are drawn too, rarely.
        waiting = sorted((r for r in records if r.priority == priority), key=lambda r: r.weight)
        while waiting:
            drawn = chance.randint(0, sum(record.weight for record in waiting))
            for index, record in enumerate(waiting):
                drawn -= record.weight
                if drawn <= 0:
                    ordered.append(waiting.pop(index))
                    break
    return ordered
