"""Resolving server names, against a real HTTPS server for .well-known and a real DNS server for SRV."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import dns.asyncresolver
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from federation.discovery import Discovery, Route, SrvRecord, _by_priority, dns_srv_lookup
from homeserver.outbound import OutboundClient
from homeserver.protocol.errors import InvalidParam, Unavailable
from tests.local_servers import LOOPBACK, FakeResolver, authority, dns_server, serving

HOUR_MS = 3_600_000


class World:
    """What discovery sees: answers of .well-known by host, SRV records, and a clock that a test sets."""

    def __init__(self) -> None:
        self.now_ms = 1_700_000_000_000
        self.well_known: dict[str, web.Response | str] = {}
        self.asked_hosts: list[str] = []
        self.asked_dns: list[str] = []
        self.discovery: Discovery

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert request.path == "/.well-known/matrix/server"
        self.asked_hosts.append(request.host)
        answer = self.well_known.get(request.host, "")
        if isinstance(answer, str):
            return web.Response(text=answer, status=200 if answer else 404)
        response = web.Response(body=answer.body, status=answer.status)
        response.headers.update(answer.headers)
        return response


@asynccontextmanager
async def world(srv: Mapping[str, Sequence[str]] | None = None, ttl: int = 300) -> AsyncIterator[World]:
    made = World()
    hosts = ["a.test", "b.test", "slow.test"]
    async with serving(made.answer, *hosts) as port, dns_server(srv or {}, ttl) as (dns_port, asked):
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], dns_port
        outbound = OutboundClient(
            allow=LOOPBACK,
            ca_file=authority().ca_file,
            resolver=FakeResolver({host: [[("127.0.0.1", port)]] for host in hosts}),
        )
        made.asked_dns = asked
        made.discovery = Discovery(
            outbound,
            srv_lookup=dns_srv_lookup(resolver),
            now_ms=lambda: made.now_ms,
            chance=random.Random(1),
        )
        yield made
        await outbound.close()


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("1.2.3.4", Route("1.2.3.4", 8448, "1.2.3.4", "1.2.3.4")),
        ("1.2.3.4:99", Route("1.2.3.4", 99, "1.2.3.4:99", "1.2.3.4")),
        ("[2001:db8::1]", Route("2001:db8::1", 8448, "[2001:db8::1]", "2001:db8::1")),
        ("[2001:db8::1]:99", Route("2001:db8::1", 99, "[2001:db8::1]:99", "2001:db8::1")),
        ("a.test:443", Route("a.test", 443, "a.test:443", "a.test")),
    ],
)
async def test_literals_and_explicit_ports_need_no_look_up(name: str, route: Route) -> None:
    """Steps 1 and 2: used as they are, neither .well-known nor SRV is asked."""
    async with world() as w:
        assert await w.discovery.resolve(name) == [route]
        assert not w.asked_hosts
        assert not w.asked_dns


@pytest.mark.parametrize(
    ("delegate", "route"),
    [
        ("1.2.3.4", Route("1.2.3.4", 8448, "1.2.3.4", "1.2.3.4")),
        ("[::5]:99", Route("::5", 99, "[::5]:99", "::5")),
        ("b.test:99", Route("b.test", 99, "b.test:99", "b.test")),
        ("b.test", Route("b.test", 8448, "b.test", "b.test")),
    ],
)
async def test_delegation_by_well_known(delegate: str, route: Route) -> None:
    """Steps 3.1, 3.2 and 3.5: Host header and certificate are the delegate's."""
    async with world() as w:
        w.well_known["a.test"] = f'{{"m.server": "{delegate}"}}'
        assert await w.discovery.resolve("a.test") == [route]
        assert w.asked_hosts == ["a.test"]  # a delegate's own .well-known isn't asked


@pytest.mark.parametrize("service", ["_matrix-fed", "_matrix"])
@pytest.mark.parametrize("delegated", [True, False])
async def test_srv_records(service: str, delegated: bool) -> None:
    """Steps 3.3, 3.4, 4 and 5: connect to the target; Host header and certificate stay those of the name."""
    host = "b.test" if delegated else "a.test"
    async with world({f"{service}._tcp.{host}": ["10 5 7000 target.test.", "5 1 7001 first.test."]}) as w:
        if delegated:
            w.well_known["a.test"] = '{"m.server": "b.test"}'
        assert await w.discovery.resolve("a.test") == [
            Route("first.test", 7001, host, host),
            Route("target.test", 7000, host, host),
        ]


async def test_the_registered_service_comes_before_the_deprecated() -> None:
    """_matrix._tcp is asked only where there is no _matrix-fed._tcp."""
    async with world({"_matrix-fed._tcp.a.test": ["1 1 1 new.test."], "_matrix._tcp.a.test": ["1 1 1 old.test."]}) as w:
        assert [route.host for route in await w.discovery.resolve("a.test")] == ["new.test"]
        assert w.asked_dns == ["_matrix-fed._tcp.a.test"]


async def test_without_anything_it_is_port_8448() -> None:
    """Step 6."""
    async with world() as w:
        assert await w.discovery.resolve("a.test") == [Route("a.test", 8448, "a.test", "a.test")]
        assert w.asked_dns == ["_matrix-fed._tcp.a.test", "_matrix._tcp.a.test"]
        assert await w.discovery.resolve("nowhere.test") == [
            Route("nowhere.test", 8448, "nowhere.test", "nowhere.test")
        ]


async def test_failing_dns_counts_as_no_record() -> None:
    """A SERVFAIL leads to the next step, whose certificate has to be for the same name."""
    async with world({"_matrix-fed._tcp.a.test": ["SERVFAIL"]}) as w:
        assert await w.discovery.resolve("a.test") == [Route("a.test", 8448, "a.test", "a.test")]


async def test_a_target_of_dot_says_no() -> None:
    """RFC 2782: "." means that the service isn't offered."""
    async with world({"_matrix-fed._tcp.a.test": ["0 0 0 ."]}) as w:
        with pytest.raises(Unavailable):
            await w.discovery.resolve("a.test")


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(text="{"),
        web.Response(text="[]"),
        web.Response(text="{}"),
        web.Response(text='{"m.server": 1}'),
        web.Response(text='{"m.server": ""}'),
        web.Response(text='{"m.server": "https://b.test"}'),
        web.Response(text='{"m.server": "b.test:99999"}'),
        web.Response(text='{"m.server": "b.test"}', status=404),
        web.Response(text='{"m.server": "b.test"}', status=201),
        web.Response(text='{"m.server": "b.test"}' + " " * 60_000),
        web.Response(status=302, headers={"Location": "/.well-known/matrix/server"}),
        web.Response(status=302, headers={"Location": "http://a.test/"}),
        web.Response(status=302, headers={"Location": "https://10.0.0.1/"}),
    ],
)
async def test_an_invalid_well_known_is_none(answer: web.Response) -> None:
    """Bad JSON, wrong properties, other statuses, oversize and redirect loops lead to step 4."""
    async with world({"_matrix-fed._tcp.a.test": ["1 1 7000 srv.test."]}) as w:
        w.well_known["a.test"] = answer
        assert await w.discovery.resolve("a.test") == [Route("srv.test", 7000, "a.test", "a.test")]


async def test_redirects_of_well_known_are_followed() -> None:
    """A 30x to another host's https URL is followed."""
    async with world() as w:
        w.well_known["a.test"] = web.Response(
            status=302, headers={"Location": "https://b.test/.well-known/matrix/server"}
        )
        w.well_known["b.test"] = '{"m.server": "c.test:1"}'
        assert await w.discovery.resolve("a.test") == [Route("c.test", 1, "c.test:1", "c.test")]


@pytest.mark.parametrize(
    ("headers", "hours"),
    [
        ({}, 24),
        ({"Cache-Control": "max-age=7200"}, 2),
        ({"Cache-Control": "public, Max-Age=7200"}, 2),
        ({"Cache-Control": "max-age=99999999"}, 48),
        ({"Cache-Control": "no-store, max-age=7200"}, 5 / 60),
        ({"Cache-Control": "max-age=0"}, 5 / 60),
        ({"Expires": "Tue, 14 Nov 2023 23:13:20 GMT"}, 1),
        ({"Expires": "0"}, 5 / 60),
        ({"Cache-Control": "max-age=7200", "Expires": "0"}, 2),
    ],
)
async def test_how_long_a_well_known_holds(headers: dict[str, str], hours: float) -> None:
    """As its headers say, a day without them, within five minutes and two days."""
    async with world() as w:
        w.well_known["a.test"] = web.Response(text='{"m.server": "b.test:1"}', headers=headers)
        await w.discovery.resolve("a.test")
        w.now_ms += int(hours * HOUR_MS) - 1000
        await w.discovery.resolve("a.test")
        assert len(w.asked_hosts) == 1
        w.now_ms += 2000
        await w.discovery.resolve("a.test")
        assert len(w.asked_hosts) == 2


async def test_errors_are_asked_again_ever_later() -> None:
    """A failed .well-known holds for minutes, longer with each failure, an hour at most; success resets it."""
    async with world() as w:
        waits = []
        for _ in range(8):
            await w.discovery.resolve("a.test")
            asked, start = len(w.asked_hosts), w.now_ms
            while len(w.asked_hosts) == asked:
                w.now_ms += 60_000
                await w.discovery.resolve("a.test")
            waits.append((w.now_ms - start) // 60_000)
        assert waits == [2, 4, 8, 16, 32, 60, 60, 60]
        w.now_ms += HOUR_MS
        w.well_known["a.test"] = '{"m.server": "b.test:1"}'
        assert (await w.discovery.resolve("a.test"))[0].host == "b.test"


async def test_srv_records_hold_for_their_ttl() -> None:
    """SRV answers are asked again when their time to live is over, but not more than once a minute."""
    async with world({"_matrix-fed._tcp.a.test": ["1 1 7000 srv.test."]}, ttl=5) as w:
        await w.discovery.resolve("a.test")
        w.now_ms += 59_000
        await w.discovery.resolve("a.test")
        assert len(w.asked_dns) == 1
        w.now_ms += 2000
        await w.discovery.resolve("a.test")
        assert len(w.asked_dns) == 2


async def test_concurrent_look_ups_share_one() -> None:
    """Many look-ups of one name at once ask once, also when the first of them is cancelled."""
    async with world() as w:
        w.well_known["a.test"] = '{"m.server": "b.test:1"}'
        tasks = [asyncio.create_task(w.discovery.resolve("a.test")) for _ in range(20)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [[Route("b.test", 1, "b.test:1", "b.test")]] * 19
        assert w.asked_hosts == ["a.test"]


async def test_the_cache_is_bounded() -> None:
    """Names beyond the cache's size push out the least recently used."""
    async with world() as w:
        small = Discovery(w.discovery._outbound, srv_lookup=w.discovery._srv_lookup, cache_size=3)
        for number in range(10):
            await small.resolve(f"n{number}.test")
        assert len(small._well_known) == 3
        assert len(small._srv) == 3


@pytest.mark.parametrize("name", ["", "a b", "a.test/x", "a.test:x", "a.test:99999", "[::1", "user@a.test", "x" * 300])
async def test_what_is_no_server_name_is_refused(name: str) -> None:
    """Nothing is asked for a name outside the grammar."""
    async with world() as w:
        with pytest.raises(InvalidParam):
            await w.discovery.resolve(name)
        assert not w.asked_dns


@pytest.mark.parametrize("name", [".", "..", "-", "a..b", ".a.test", "a.test.", "x" * 64 + ".test", "x" * 250])
async def test_odd_host_names_do_no_harm(name: str) -> None:
    """What the grammar lets through but DNS has no place for ends at step 6."""
    async with world() as w:
        assert await w.discovery.resolve(name) == [Route(name, 8448, name, name)]


@given(
    st.lists(st.builds(SrvRecord, st.integers(0, 3), st.integers(0, 65535), st.just(1), st.text("ab", max_size=3))),
    st.randoms(),
)
def test_srv_order(records: list[SrvRecord], chance: random.Random) -> None:
    """The order has every record once, by ascending priority."""
    ordered = _by_priority(records, chance)
    assert sorted(map(repr, ordered)) == sorted(map(repr, records))
    assert [record.priority for record in ordered] == sorted(record.priority for record in records)


def test_srv_weights_are_proportions() -> None:
    """Within a priority a record of three times the weight comes first about three times as often."""
    records = [SrvRecord(1, 30, 1, "heavy"), SrvRecord(1, 10, 1, "light"), SrvRecord(1, 0, 1, "spare")]
    chance = random.Random(7)
    first = [_by_priority(records, chance)[0].target for _ in range(2000)]
    assert 0.65 < first.count("heavy") / 2000 < 0.82
    assert first.count("spare") < 120
