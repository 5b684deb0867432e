"""The federation client and the transport under it, against a real HTTPS server that checks what reaches it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from federation.client import FederationClient
from federation.discovery import Discovery, SrvRecord
from federation.key_ring import KeyRing
from federation.signed_requests import check_request, parse_authorization
from federation.transport import Transport
from homeserver.outbound import OutboundClient
from homeserver.protocol.errors import Forbidden, InvalidParam, Unavailable
from homeserver.protocol.signing import SigningKey
from homeserver.remote import Remote, RemoteError, RemoteState, RemoteStateIds, SendJoin, Template
from tests.local_servers import LOOPBACK, FakeResolver, authority, raw_server, serving

KEY = SigningKey("own", bytes(range(32)))
ROOM, EVENT, USER = "!a/b:peer.test", "$e+/?", "@u:own.test"
PDU = {"type": "m.room.member", "content": {"membership": "join"}, "depth": 2**60, "float": 1.5}


class Peer:
    """A server called peer.test: answers (status, JSON) by "METHOD path", and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, Any]] = []
        self.client: FederationClient
        self.transport: Transport

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        content = json.loads(body) if body else None
        assert request.host == "peer.test"
        if "Authorization" in request.headers:
            auth = parse_authorization(request.headers["Authorization"])
            assert (auth.origin, auth.destination) == ("own.test", "peer.test")
            check_request(request.method, request.raw_path, auth, "peer.test", KEY.verify_key, content)
        self.asked.append((f"{request.method} {request.raw_path}", content))
        path = request.raw_path.partition("?")[0]
        status, answer = self.answers.get(f"{request.method} {path}", (404, {"errcode": "M_UNRECOGNIZED"}))
        return web.Response(status=status, body=answer if isinstance(answer, bytes) else json.dumps(answer).encode())


async def _no_keys(*_: Any) -> Any:
    return []


def _client(transport: Transport) -> FederationClient:
    ring = KeyRing(transport, own_name="own.test", own_keys={}, load_keys=_no_keys, store_keys=_no_keys)
    return FederationClient(transport, ring, origin="own.test", signing_key=KEY)


@asynccontextmanager
async def transport_to(*ports: int, **options: Any) -> AsyncIterator[Transport]:
    """A transport for which peer.test has an SRV record of each of those ports."""

    async def srv(_: str) -> tuple[list[SrvRecord], int]:
        return [SrvRecord(index, 1, port, "target.test") for index, port in enumerate(ports)], 300

    outbound = OutboundClient(
        allow=LOOPBACK,
        ca_file=authority().ca_file,
        resolver=FakeResolver({"target.test": [[("127.0.0.1", 0)]]}),
    )
    yield Transport(outbound, Discovery(outbound, srv_lookup=srv), **options)
    await outbound.close()


@asynccontextmanager
async def peer(**options: Any) -> AsyncIterator[Peer]:
    made = Peer()
    async with serving(made.answer, "peer.test") as port, transport_to(port, **options) as transport:
        made.transport, made.client = transport, _client(transport)
        yield made


Call = Callable[[FederationClient], Awaitable[Any]]

V1, V2 = "/_matrix/federation/v1", "/_matrix/federation/v2"
R, E, U = "%21a%2Fb%3Apeer.test", "%24e%2B%2F%3F", "%40u%3Aown.test"

# The call, the request that it makes, the body, the answer, what the call gives.
ENDPOINTS: dict[str, tuple[Call, str, Any, Any, Any]] = {
    "send_transaction": (
        lambda c: c.send_transaction("peer.test", "t/1", {"pdus": []}),
        f"PUT {V1}/send/t%2F1",
        {"pdus": []},
        {"pdus": {}},
        {"pdus": {}},
    ),
    "make_join": (
        lambda c: c.make_join("peer.test", ROOM, USER, ["1", "12"]),
        f"GET {V1}/make_join/{R}/{U}?ver=1&ver=12",
        None,
        {"room_version": "12", "event": {"a": 1}},
        Template("12", {"a": 1}),
    ),
    "make_knock": (
        lambda c: c.make_knock("peer.test", ROOM, USER, ["7"]),
        f"GET {V1}/make_knock/{R}/{U}?ver=7",
        None,
        {"room_version": "7", "event": {}},
        Template("7", {}),
    ),
    "make_leave": (
        lambda c: c.make_leave("peer.test", ROOM, USER),
        f"GET {V1}/make_leave/{R}/{U}",
        None,
        {"event": {}},
        Template(None, {}),
    ),
    "send_join": (
        lambda c: c.send_join("peer.test", ROOM, EVENT, PDU, omit_members=True),
        f"PUT {V2}/send_join/{R}/{E}?omit_members=true",
        PDU,
        {"state": [{"a": 1}], "auth_chain": [], "event": {}, "members_omitted": True, "servers_in_room": ["x.test"]},
        SendJoin([{"a": 1}], [], {}, True, ["x.test"]),
    ),
    "send_leave": (
        lambda c: c.send_leave("peer.test", ROOM, EVENT, PDU),
        f"PUT {V2}/send_leave/{R}/{E}",
        PDU,
        {},
        None,
    ),
    "send_knock": (
        lambda c: c.send_knock("peer.test", ROOM, EVENT, PDU),
        f"PUT {V1}/send_knock/{R}/{E}",
        PDU,
        {"knock_room_state": [{}]},
        [{}],
    ),
    "invite": (
        lambda c: c.invite("peer.test", ROOM, EVENT, "12", PDU, [{"s": 1}]),
        f"PUT {V2}/invite/{R}/{E}",
        {"room_version": "12", "event": PDU, "invite_room_state": [{"s": 1}]},
        {"event": {"signed": 1}},
        {"signed": 1},
    ),
    "exchange_third_party_invite": (
        lambda c: c.exchange_third_party_invite("peer.test", ROOM, {"a": 1}),
        f"PUT {V1}/exchange_third_party_invite/{R}",
        {"a": 1},
        {},
        None,
    ),
    "get_event": (
        lambda c: c.get_event("peer.test", EVENT),
        f"GET {V1}/event/{E}",
        None,
        {"pdus": [{"a": 1}]},
        {"a": 1},
    ),
    "get_state": (
        lambda c: c.get_state("peer.test", ROOM, EVENT),
        f"GET {V1}/state/{R}?event_id={E}",
        None,
        {"pdus": [{}], "auth_chain": []},
        RemoteState([{}], []),
    ),
    "get_state_ids": (
        lambda c: c.get_state_ids("peer.test", ROOM, EVENT),
        f"GET {V1}/state_ids/{R}?event_id={E}",
        None,
        {"pdu_ids": ["$a"], "auth_chain_ids": []},
        RemoteStateIds(["$a"], []),
    ),
    "get_event_auth": (
        lambda c: c.get_event_auth("peer.test", ROOM, EVENT),
        f"GET {V1}/event_auth/{R}/{E}",
        None,
        {"auth_chain": [{}]},
        [{}],
    ),
    "backfill": (
        lambda c: c.backfill("peer.test", ROOM, ["$a", EVENT], 2),
        f"GET {V1}/backfill/{R}?v=%24a&v={E}&limit=2",
        None,
        {"pdus": [{}, {}, {}]},
        [{}, {}],
    ),
    "get_missing_events": (
        lambda c: c.get_missing_events(
            "peer.test", ROOM, earliest_events=["$a"], latest_events=["$b"], limit=1, min_depth=3
        ),
        f"POST {V1}/get_missing_events/{R}",
        {"earliest_events": ["$a"], "latest_events": ["$b"], "limit": 1, "min_depth": 3},
        {"events": [{}, {}]},
        [{}],
    ),
    "timestamp_to_event": (
        lambda c: c.timestamp_to_event("peer.test", ROOM, 5, "b"),
        f"GET {V1}/timestamp_to_event/{R}?ts=5&dir=b",
        None,
        {"event_id": "$a", "origin_server_ts": 4},
        ("$a", 4),
    ),
    "hierarchy": (
        lambda c: c.hierarchy("peer.test", ROOM, suggested_only=True),
        f"GET {V1}/hierarchy/{R}?suggested_only=true",
        None,
        {"room": {}},
        {"room": {}},
    ),
    "public_rooms": (
        lambda c: c.public_rooms("peer.test", {"limit": 3}),
        f"POST {V1}/publicRooms",
        {"limit": 3},
        {"chunk": [{}]},
        {"chunk": [{}]},
    ),
    "query_profile": (
        lambda c: c.query_profile("peer.test", "@a b:peer.test", "displayname"),
        f"GET {V1}/query/profile?user_id=%40a%20b%3Apeer.test&field=displayname",
        None,
        {"displayname": None},
        {"displayname": None},
    ),
    "query_directory": (
        lambda c: c.query_directory("peer.test", "#ü:peer.test"),
        f"GET {V1}/query/directory?room_alias=%23%C3%BC%3Apeer.test",
        None,
        {"room_id": "!r", "servers": ["x.test"]},
        ("!r", ["x.test"]),
    ),
    "query_user_devices": (
        lambda c: c.query_user_devices("peer.test", "@u:peer.test"),
        f"GET {V1}/user/devices/%40u%3Apeer.test",
        None,
        {"devices": [{}]},
        {"devices": [{}]},
    ),
    "query_keys": (
        lambda c: c.query_keys("peer.test", {"@u:peer.test": ()}),
        f"POST {V1}/user/keys/query",
        {"device_keys": {"@u:peer.test": []}},
        {"device_keys": {}},
        {"device_keys": {}},
    ),
    "claim_keys": (
        lambda c: c.claim_keys("peer.test", {"@u:peer.test": {"D": "signed_curve25519"}}),
        f"POST {V1}/user/keys/claim",
        {"one_time_keys": {"@u:peer.test": {"D": "signed_curve25519"}}},
        {"one_time_keys": {}},
        {"one_time_keys": {}},
    ),
    "get_server_version": (
        lambda c: c.get_server_version("peer.test"),
        f"GET {V1}/version",
        None,
        {"server": {"name": "x"}},
        {"server": {"name": "x"}},
    ),
}


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_every_endpoint(name: str) -> None:
    """Each call makes the request of the specification, signed, and gives the answer's parts."""
    call, request, body, answer, value = ENDPOINTS[name]
    async with peer() as p:
        p.answers[request.partition("?")[0]] = (200, answer)
        assert await call(p.client) == value
        assert p.asked == [(request, body)]


NO_JSON = (b"", b"{", b"[" * 300)
NO_OBJECT = (b"1", b"[]", b"null")
WRONG_TYPES = (b'{"pdus": 1, "event": [], "events": {}, "auth_chain": {}, "event_id": 1, "devices": null}',)
ANY_JSON = {"exchange_third_party_invite"}
ANY_OBJECT = {
    "claim_keys",
    "get_server_version",
    "hierarchy",
    "query_keys",
    "query_profile",
    "send_leave",
    "send_transaction",
}


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_malformed_answers_are_unavailable(name: str) -> None:
    """An answer of another shape than promised is Unavailable, never a value or another error."""
    call, request, *_ = ENDPOINTS[name]
    answers: tuple[bytes, ...] = NO_JSON if name in ANY_JSON else NO_JSON + NO_OBJECT
    if name not in ANY_JSON | ANY_OBJECT:
        answers += WRONG_TYPES
    async with peer() as p:
        for answer in answers:
            p.answers[request.partition("?")[0]] = (200, answer)
            with pytest.raises(Unavailable) as failure:
                await call(p.client)
            assert failure.value.status == 502


def test_the_client_is_a_remote() -> None:
    """FederationClient has every method of the Protocol that rooms depend on (mypy checks their types)."""
    assert all(hasattr(FederationClient, name) for name in vars(Remote) if not name.startswith("_"))


@pytest.mark.parametrize(
    ("status", "errcode", "told"),
    [
        (403, "M_FORBIDDEN", (403, "M_FORBIDDEN")),
        (404, "M_NOT_FOUND", (404, "M_NOT_FOUND")),
        (400, "M_UNABLE_TO_GRANT_JOIN", (400, "M_UNABLE_TO_GRANT_JOIN")),
        (401, "M_UNAUTHORIZED", (502, "M_UNKNOWN")),
        (403, "M_UNKNOWN_TOKEN", (502, "M_UNKNOWN")),
        (429, "M_LIMIT_EXCEEDED", (502, "M_UNKNOWN")),
        (500, "M_FORBIDDEN", (502, "M_UNKNOWN")),
        (403, None, (502, "M_UNKNOWN")),
        (403, 5, (502, "M_UNKNOWN")),
        (302, None, (502, "M_UNKNOWN")),
    ],
)
async def test_errors_of_the_peer(status: int, errcode: object, told: tuple[int, str]) -> None:
    """What the peer said is kept; only what can't be mistaken for being about the client itself is passed on."""
    async with peer() as p:
        p.answers[f"GET {V1}/event/{E}"] = (status, {"errcode": errcode, "error": "no", "secret": 1})
        with pytest.raises(RemoteError) as failure:
            await p.client.get_event("peer.test", EVENT)
    error = failure.value
    assert (error.status, error.errcode) == told
    assert (error.peer_status, error.destination) == (status, "peer.test")
    assert error.peer_errcode == (errcode if isinstance(errcode, str) else None)
    assert "secret" not in error.body()


async def test_the_room_version_of_an_incompatible_room_is_passed_on() -> None:
    """M_INCOMPATIBLE_ROOM_VERSION comes with the version of the room."""
    async with peer() as p:
        answer = {"errcode": "M_INCOMPATIBLE_ROOM_VERSION", "room_version": "99", "error": "x"}
        p.answers[f"GET {V1}/make_join/{R}/{U}"] = (400, answer)
        with pytest.raises(RemoteError) as failure:
            await p.client.make_join("peer.test", ROOM, USER, ["1"])
    assert failure.value.body()["room_version"] == "99"


@pytest.mark.parametrize("unsupported", [(404, {"errcode": "M_UNRECOGNIZED"}), (405, {}), (404, b"not found")])
async def test_old_servers_are_asked_by_version_1(unsupported: tuple[int, Any]) -> None:
    """Where version 2 of an endpoint isn't known, version 1 is used, whose answers stand in a list."""
    async with peer() as p:
        for action in ("send_join", "send_leave", "invite"):
            p.answers[f"PUT {V2}/{action}/{R}/{E}"] = unsupported
        p.answers[f"PUT {V1}/send_join/{R}/{E}"] = (200, [200, {"state": [], "auth_chain": [{}]}])
        p.answers[f"PUT {V1}/send_leave/{R}/{E}"] = (200, [200, {}])
        p.answers[f"PUT {V1}/invite/{R}/{E}"] = (200, [200, {"event": {"signed": 1}}])
        assert await p.client.send_join("peer.test", ROOM, EVENT, PDU) == SendJoin([], [{}])
        await p.client.send_leave("peer.test", ROOM, EVENT, PDU)
        pdu = {"a": 1, "unsigned": {"age": 1}}
        assert await p.client.invite("peer.test", ROOM, EVENT, "2", pdu, [{"s": 1}]) == {"signed": 1}
        assert p.asked[-1][1] == {"a": 1, "unsigned": {"age": 1, "invite_room_state": [{"s": 1}]}}


async def test_version_1_of_invite_is_for_old_rooms() -> None:
    """An invite to a room of version 3 or later, or one that is refused, isn't sent by version 1."""
    async with peer() as p:
        for version, answer in (("3", (404, {})), ("1", (403, {"errcode": "M_FORBIDDEN"}))):
            p.answers[f"PUT {V2}/invite/{R}/{E}"] = answer
            with pytest.raises(RemoteError):
                await p.client.invite("peer.test", ROOM, EVENT, version, {}, [])
        assert all(V2 in request for request, _ in p.asked)


async def test_dots_in_a_segment_do_not_climb() -> None:
    """An id of dots stays one segment of the path."""
    async with peer() as p:
        p.answers[f"GET {V1}/event/%2E%2E"] = (200, {"pdus": [{}]})
        await p.client.get_event("peer.test", "..")


async def test_the_next_route_is_tried_when_one_can_not_be_connected_to() -> None:
    """Routes are tried in order until one can be connected to; an answer of any kind ends it."""
    p = Peer()
    async with raw_server(_silent) as dead, serving(p.answer, "peer.test") as port:
        pass
    async with (
        serving(p.answer, "wrong.test") as wrong,
        serving(p.answer, "peer.test") as port,
        transport_to(dead, wrong, port) as transport,
    ):
        p.answers[f"GET {V1}/version"] = (500, {})
        with pytest.raises(RemoteError):
            await transport.request_json("peer.test", "GET", f"{V1}/version")
        assert len(p.asked) == 1
        assert not transport.recently_failed("peer.test")


async def _silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_unreachable_servers_are_remembered_for_a_minute() -> None:
    """A server that can't be reached counts as recently failed until it answers or a minute is over."""
    now = [1000]
    async with raw_server(_silent) as dead:
        pass
    async with transport_to(dead, now_ms=lambda: now[0]) as transport:
        client = _client(transport)
        assert not client.recently_failed("peer.test")
        with pytest.raises(Unavailable):
            await client.get_event("peer.test", EVENT)
        assert client.recently_failed("peer.test")
        now[0] += 60_001
        assert not client.recently_failed("peer.test")


@pytest.mark.parametrize(("repeatable", "requests"), [(True, 2), (False, 1)])
async def test_one_retry_on_a_connection_that_died(repeatable: bool, requests: int) -> None:
    """A POST whose connection dies before the answer is sent once more, unless it must not be repeated."""
    asked = 0

    async def die(request: web.Request) -> web.Response:
        nonlocal asked
        await request.read()
        asked += 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serving(die, "peer.test") as port, transport_to(port) as transport:
        with pytest.raises(Unavailable):
            await _client(transport).post_json("peer.test", f"{V1}/x", repeatable=repeatable)
    assert asked == requests


async def test_slow_and_large_answers_are_unavailable() -> None:
    """Time and size of an answer are bounded."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("large"):
            return web.Response(body=b" " * 2000)
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    async with serving(answer, "peer.test") as port, transport_to(port, timeout=0.2) as transport:
        with pytest.raises(Unavailable):
            await transport.request_json("peer.test", "GET", "/_matrix/large", max_bytes=1000)
        with pytest.raises(Unavailable):
            await transport.request_json("peer.test", "GET", "/_matrix/slow")


async def test_the_operators_domain_list_and_malformed_names() -> None:
    """Servers that the operator doesn't want, and names that are none, are never asked."""
    async with peer(may_talk_with=lambda name: name != "peer.test") as p:
        with pytest.raises(Forbidden):
            await p.client.get_event("peer.test", EVENT)
        with pytest.raises(InvalidParam):
            await p.client.get_event("peer test", EVENT)
        with pytest.raises(Forbidden):
            async with p.client.download_media("peer.test", "m", max_bytes=1):
                pass
        assert not p.asked


async def test_media_is_streamed() -> None:
    """A download is signed, and its head can be looked at before the body is read."""
    async with peer() as p:
        p.answers[f"GET {V1}/media/download/a%2Fb"] = (200, b"--x\r\n...")
        async with p.client.download_media("peer.test", "a/b", max_bytes=100, timeout_ms=7) as body:
            assert body.status == 200
            assert b"".join([piece async for piece in body.chunks()]) == b"--x\r\n..."
        assert p.asked == [(f"GET {V1}/media/download/a%2Fb?timeout_ms=7", None)]
        with pytest.raises(RemoteError):
            async with p.client.download_media("peer.test", "missing", max_bytes=100):
                pass
