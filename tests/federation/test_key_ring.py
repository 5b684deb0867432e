"""Keys of other servers, fetched from real HTTPS servers: whom to believe, for how long, and how often to ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from federation.discovery import Discovery, SrvRecord
from federation.key_ring import KeyRing, StoredKey, _parse_server_keys
from federation.transport import Transport
from homeserver.outbound import OutboundClient
from homeserver.protocol.canonical_json import decode_json, encode_canonical_json
from homeserver.protocol.errors import InvalidSignature, Unavailable
from homeserver.protocol.events import Event, JsonObject
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.protocol.signing import SigningKey, sign_event, sign_json
from tests.local_servers import LOOPBACK, FakeResolver, authority, serving

DAY_MS = 24 * 3600 * 1000
NOW = 1_700_000_000_000
KEY = SigningKey("k1", bytes([1]) * 32)
KEY2 = SigningKey("k2", bytes([2]) * 32)
FALSE_KEY2 = SigningKey("k2", bytes(32))
OLD = SigningKey("old", bytes([3]) * 32)
MANY_KEYS = [SigningKey(f"x{number}", bytes([9]) * 32) for number in range(70)]
NOTARY_KEY = SigningKey("n", bytes([4]) * 32)
OWN = SigningKey("own", bytes([5]) * 32)


def keys_of(
    name: str,
    *keys: SigningKey,
    old: dict[SigningKey, int] | None = None,
    valid_until: int = NOW + DAY_MS,
    signers: Sequence[SigningKey] | None = None,
) -> JsonObject:
    """What /_matrix/key/v2/server answers."""
    response: JsonObject = {
        "server_name": name,
        "valid_until_ts": valid_until,
        "verify_keys": {key.key_id: {"key": key.verify_key_base64} for key in keys},
        "old_verify_keys": {
            key.key_id: {"key": key.verify_key_base64, "expired_ts": at} for key, at in (old or {}).items()
        },
    }
    for key in keys if signers is None else signers:
        response = sign_json(response, name, key)
    return response


class World:
    """Servers origin.test and notary.test, storage as a dict, and a clock."""

    def __init__(self) -> None:
        self.now_ms = NOW
        self.keys: dict[str, Any] = {"notary.test": keys_of("notary.test", NOTARY_KEY)}
        self.notary: list[Any] | None = []
        self.asked: list[str] = []
        self.stored: dict[tuple[str, str], StoredKey] = {}
        self.loads: list[Sequence[str]] = []
        self.queries: list[Any] = []
        self.transport: Transport

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.host} {request.method}")
        if request.method == "POST":
            self.queries.append(decode_json(await request.read()))
            answer = None if self.notary is None else {"server_keys": self.notary}
        else:
            answer = self.keys.get(request.host)
        if answer is None:
            return web.Response(status=500, text="{}")
        return web.Response(body=encode_canonical_json(answer))

    async def load(self, server: str, key_ids: Sequence[str]) -> list[StoredKey]:
        self.loads.append(key_ids)
        return [self.stored[server, key_id] for key_id in key_ids if (server, key_id) in self.stored]

    async def store(self, server: str, keys: Sequence[StoredKey]) -> None:
        self.stored.update({(server, key.key_id): key for key in keys})

    def ring(self, *notaries: str) -> KeyRing:
        return KeyRing(
            self.transport,
            own_name="own.test",
            own_keys={OWN.key_id: OWN.verify_key},
            load_keys=self.load,
            store_keys=self.store,
            trusted_key_servers=notaries,
            now_ms=lambda: self.now_ms,
        )


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    made = World()
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(made.answer, "origin.test", "notary.test"))

        async def srv(_: str) -> tuple[list[SrvRecord], int]:
            return [SrvRecord(1, 1, port, "target.test")], 300

        outbound = OutboundClient(
            allow=LOOPBACK,
            ca_file=authority().ca_file,
            resolver=FakeResolver({"target.test": [[("127.0.0.1", 0)]]}),
        )
        stack.push_async_callback(outbound.close)
        made.transport = Transport(outbound, Discovery(outbound, srv_lookup=srv))
        yield made


async def test_a_key_is_fetched_once_and_stored() -> None:
    """The server is asked for its keys; memory, and storage after a restart, answer from then on."""
    async with world() as w:
        w.keys["origin.test"] = keys_of("origin.test", KEY, KEY2)
        ring = w.ring()
        for _ in range(3):
            assert await ring.verify_key("origin.test", KEY.key_id, valid_at_ms=NOW) == KEY.verify_key
        assert await ring.verify_key("origin.test", KEY2.key_id, valid_at_ms=NOW) == KEY2.verify_key
        assert await w.ring().verify_key("origin.test", KEY.key_id, valid_at_ms=NOW) == KEY.verify_key
        assert w.asked == ["origin.test GET"]
        stored = w.stored["origin.test", KEY.key_id]
        assert decode_json(stored.response) == w.keys["origin.test"]
        assert (stored.fetched_ts, stored.expired_ts) == (NOW, None)


async def test_validity_ends_with_valid_until_ts_or_after_seven_days() -> None:
    """A key counts until valid_until_ts, and never for longer than a week from when it was fetched."""
    async with world() as w:
        w.keys["origin.test"] = keys_of("origin.test", KEY, valid_until=NOW + 2 * DAY_MS)
        ring = w.ring()
        await ring.verify_key("origin.test", KEY.key_id, valid_at_ms=NOW + 2 * DAY_MS)
        with pytest.raises(InvalidSignature):
            await ring.verify_key("origin.test", KEY.key_id, valid_at_ms=NOW + 2 * DAY_MS + 1)
        w.keys["origin.test"] = keys_of("origin.test", KEY, valid_until=NOW + 1000 * DAY_MS)
        ring = w.ring()
        w.stored.clear()
        await ring.verify_key("origin.test", KEY.key_id, valid_at_ms=NOW + 7 * DAY_MS)
        with pytest.raises(InvalidSignature):
            await ring.verify_key("origin.test", KEY.key_id, valid_at_ms=NOW + 7 * DAY_MS + 1)


async def test_a_key_that_ran_out_is_asked_for_again() -> None:
    """When the stored validity is over, the server is asked anew, and what it says now counts."""
    async with world() as w:
        w.keys["origin.test"] = keys_of("origin.test", KEY, valid_until=NOW + 1000)
        ring = w.ring()
        await ring.verify_key("origin.test", KEY.key_id, valid_at_ms=NOW)
        w.now_ms = NOW + DAY_MS
        w.keys["origin.test"] = keys_of("origin.test", KEY, valid_until=NOW + 2 * DAY_MS)
        assert await ring.verify_key("origin.test", KEY.key_id, valid_at_ms=w.now_ms) == KEY.verify_key
        assert len(w.asked) == 2


async def test_old_keys_are_for_old_signatures() -> None:
    """An old_verify_keys entry counts up to its expired_ts, and never for what is signed after it was fetched."""
    async with world() as w:
        w.keys["origin.test"] = keys_of("origin.test", KEY, old={OLD: NOW - 5, KEY2: NOW + DAY_MS})
        ring = w.ring()
        await ring.verify_key("origin.test", OLD.key_id, valid_at_ms=NOW - 5)
        await ring.verify_key("origin.test", OLD.key_id, valid_at_ms=0)
        await ring.verify_key("origin.test", KEY2.key_id, valid_at_ms=NOW)
        for key_id, at in ((OLD.key_id, NOW - 4), (KEY2.key_id, NOW + 1)):
            with pytest.raises(InvalidSignature):
                await ring.verify_key("origin.test", key_id, valid_at_ms=at)
        assert w.stored["origin.test", OLD.key_id].expired_ts == NOW - 5


def _without(name: str) -> JsonObject:
    response = keys_of("origin.test", KEY)
    del response[name]
    return response


BAD_RESPONSES: dict[str, Any] = {
    "no object": [],
    "another server": keys_of("other.test", KEY),
    "not signed": keys_of("origin.test", KEY, signers=[]),
    "signed by a stranger": keys_of("origin.test", KEY, signers=[KEY2]),
    "signed by an old key only": keys_of("origin.test", KEY, old={OLD: 5}, signers=[OLD]),
    "one of two signatures wrong": sign_json(keys_of("origin.test", KEY, KEY2), "origin.test", FALSE_KEY2),
    "changed after signing": {**keys_of("origin.test", KEY), "valid_until_ts": NOW + 5},
    "no valid_until_ts": _without("valid_until_ts"),
    "no verify_keys": _without("verify_keys"),
    "negative time": keys_of("origin.test", KEY, valid_until=-1),
    "time beyond integers": keys_of("origin.test", KEY, valid_until=2**60),
    "time that is no number": sign_json(
        {**keys_of("origin.test", KEY, signers=[]), "valid_until_ts": "1"}, "origin.test", KEY
    ),
    "too many keys": keys_of("origin.test", KEY, *MANY_KEYS, signers=[KEY]),
    "malformed key": sign_json(
        {**keys_of("origin.test", signers=[]), "verify_keys": {KEY.key_id: {"key": "AAAA"}}}, "origin.test", KEY
    ),
}


@pytest.mark.parametrize("fault", BAD_RESPONSES)
async def test_responses_that_prove_nothing_are_not_believed(fault: str) -> None:
    """A response has to be well-formed, of that server and signed rightly by its current keys, or nothing is kept."""
    async with world() as w:
        w.keys["origin.test"] = BAD_RESPONSES[fault]
        with pytest.raises(Unavailable):
            await w.ring().verify_key("origin.test", KEY.key_id, valid_at_ms=0)
        assert not w.stored


async def test_keys_of_other_algorithms_are_left_out() -> None:
    """Unknown algorithms and unusable entries beside a good key don't spoil it."""
    async with world() as w:
        response = keys_of("origin.test", KEY, signers=[])
        response["verify_keys"] |= {"rsa:1": {"key": "x"}, "ed25519:bad": {"key": "x"}, "ed25519:null": None}
        response["old_verify_keys"] = {"ed25519:o": {"key": OLD.verify_key_base64}, "ed25519:p": 1}
        w.keys["origin.test"] = sign_json(response, "origin.test", KEY)
        assert await w.ring().verify_key("origin.test", KEY.key_id, valid_at_ms=NOW) == KEY.verify_key
        assert list(w.stored) == [("origin.test", KEY.key_id)]


async def test_concurrent_look_ups_ask_once() -> None:
    """A burst that needs a server's keys makes one request."""
    async with world() as w:
        w.keys["origin.test"] = keys_of("origin.test", KEY, KEY2)
        ring = w.ring()
        look_ups = (ring.verify_key("origin.test", k.key_id, valid_at_ms=NOW) for k in (KEY, KEY2) * 10)
        await asyncio.gather(*look_ups)
        assert w.asked == ["origin.test GET"]


async def test_unknown_key_ids_do_not_make_requests() -> None:
    """Made-up key ids of a server that just answered are refused without asking it; after a minute it is asked."""
    async with world() as w:
        w.keys["origin.test"] = keys_of("origin.test", KEY)
        ring = w.ring()
        for number in range(20):
            with pytest.raises(InvalidSignature):
                await ring.verify_key("origin.test", f"ed25519:x{number}", valid_at_ms=NOW)
        assert len(w.asked) == 1
        w.now_ms += 60_001
        w.keys["origin.test"] = keys_of("origin.test", KEY, KEY2)
        await ring.verify_key("origin.test", KEY2.key_id, valid_at_ms=NOW)
        assert len(w.asked) == 2


async def test_a_failing_server_is_asked_ever_less_often() -> None:
    """Failures are remembered for ten seconds, doubling up to ten minutes; then it gets another chance."""
    async with world() as w:
        ring = w.ring()
        waits = []
        for _ in range(9):
            with pytest.raises(Unavailable):
                await ring.verify_key("origin.test", KEY.key_id, valid_at_ms=NOW)
            asked, start = len(w.asked), w.now_ms
            while len(w.asked) == asked:
                w.now_ms += 10_000
                with pytest.raises(Unavailable):
                    await ring.verify_key("origin.test", KEY.key_id, valid_at_ms=NOW)
            waits.append((w.now_ms - start) // 1000)
        assert waits == [10, 20, 40, 80, 160, 320, 600, 600, 600]
        w.now_ms += 600_000
        w.keys["origin.test"] = keys_of("origin.test", KEY)
        await ring.verify_key("origin.test", KEY.key_id, valid_at_ms=NOW)


async def test_a_trusted_notary_stands_in() -> None:
    """When the server can't be asked, keys that it signed and a trusted notary signed too are believed."""
    async with world() as w:
        w.notary = [sign_json(keys_of("origin.test", KEY), "notary.test", NOTARY_KEY)]
        ring = w.ring("notary.test")
        assert await ring.verify_key("origin.test", KEY.key_id, valid_at_ms=NOW) == KEY.verify_key
        assert w.queries == [{"server_keys": {"origin.test": {KEY.key_id: {"minimum_valid_until_ts": NOW}}}}]
        assert decode_json(w.stored["origin.test", KEY.key_id].response) == w.notary[0]


async def test_a_notary_knows_keys_that_the_server_no_longer_publishes() -> None:
    """A key id that the server doesn't list is asked for at the notary, for signatures of the past."""
    async with world() as w:
        w.keys["origin.test"] = keys_of("origin.test", KEY)
        past = keys_of("origin.test", OLD, valid_until=NOW - 100 * DAY_MS)
        w.notary = [sign_json(past, "notary.test", NOTARY_KEY)]
        ring = w.ring("notary.test")
        assert await ring.verify_key("origin.test", OLD.key_id, valid_at_ms=NOW - 101 * DAY_MS) == OLD.verify_key
        with pytest.raises(InvalidSignature):
            await ring.verify_key("origin.test", OLD.key_id, valid_at_ms=NOW)


NOTARY_FAULTS: dict[str, Any] = {
    "nothing": [],
    "an error": None,
    "not signed by the notary": [keys_of("origin.test", KEY)],
    "not signed by the server": [sign_json(keys_of("origin.test", KEY, signers=[]), "notary.test", NOTARY_KEY)],
    "wrong notary signature": [sign_json(keys_of("origin.test", KEY), "notary.test", SigningKey("n", bytes(32)))],
    "of another server": [sign_json(keys_of("other.test", KEY), "notary.test", NOTARY_KEY)],
    "no object": [1, "x", None],
    "too many": [{}] * 100,
}


@pytest.mark.parametrize("fault", NOTARY_FAULTS)
async def test_notaries_have_to_prove_it_too(fault: str) -> None:
    """Without both signatures a notary's answer counts for nothing."""
    async with world() as w:
        w.notary = NOTARY_FAULTS[fault]
        with pytest.raises(Unavailable):
            await w.ring("notary.test").verify_key("origin.test", KEY.key_id, valid_at_ms=NOW)
        assert not any(server == "origin.test" for server, _ in w.stored)


async def test_a_notary_does_not_shorten_what_the_server_said() -> None:
    """An older response out of a notary's cache doesn't replace a fresher one of the server itself."""
    async with world() as w:
        w.keys["origin.test"] = keys_of("origin.test", KEY, valid_until=NOW + 3 * DAY_MS)
        stale = keys_of("origin.test", KEY, OLD, valid_until=NOW + 1)
        w.notary = [sign_json(stale, "notary.test", NOTARY_KEY)]
        ring = w.ring("notary.test")
        await ring.verify_key("origin.test", KEY.key_id, valid_at_ms=NOW)
        await ring.verify_key("origin.test", OLD.key_id, valid_at_ms=NOW)
        await ring.verify_key("origin.test", KEY.key_id, valid_at_ms=NOW + 3 * DAY_MS)
        assert w.asked.count("origin.test GET") == 1


async def test_queries_to_notaries_are_bounded() -> None:
    """Made-up key ids cost a notary a few queries a minute, not one each."""
    async with world() as w:
        w.keys["origin.test"] = keys_of("origin.test", KEY)
        ring = w.ring("notary.test")
        for number in range(30):
            with pytest.raises(InvalidSignature):
                await ring.verify_key("origin.test", f"ed25519:x{number}", valid_at_ms=NOW)
        assert len(w.queries) == 8


async def test_a_notarys_own_keys_come_from_itself() -> None:
    """A trusted key server isn't asked about itself as a notary."""
    async with world() as w:
        w.keys["notary.test"] = None
        with pytest.raises(Unavailable):
            await w.ring("notary.test").verify_key("notary.test", NOTARY_KEY.key_id, valid_at_ms=NOW)
        assert not w.queries


async def test_own_keys_are_answered_here() -> None:
    """This server's own signatures are checked without asking anyone."""
    async with world() as w:
        ring = w.ring("notary.test", "own.test")
        await ring.check_json(sign_json({"a": 1}, "own.test", OWN), "own.test", NOW)
        for key in (SigningKey("other", bytes(32)), SigningKey("own", bytes(32))):
            with pytest.raises(InvalidSignature):
                await ring.check_json(sign_json({"a": 1}, "own.test", key), "own.test", NOW)
        assert not w.asked


@pytest.mark.parametrize(
    "signatures",
    [
        None,
        [],
        {},
        {"origin.test": []},
        {"origin.test": {}},
        {"origin.test": {"rsa:1": "x"}},
        {"origin.test": {"ed25519:" + "x" * 300: "x"}},
        {"other.test": {"ed25519:k1": "x"}},
    ],
)
async def test_objects_without_a_usable_signature(signatures: Any) -> None:
    """No signature of that server by an algorithm that we know: refused, nobody is asked."""
    async with world() as w:
        with pytest.raises(InvalidSignature):
            await w.ring().check_json({"a": 1, "signatures": signatures}, "origin.test", NOW)
        assert not w.asked


async def test_names_that_are_no_server_are_refused() -> None:
    """A signature of "" or of something that can't be asked is InvalidSignature."""
    async with world() as w:
        for name in ("", "a b", "x" * 500):
            with pytest.raises(InvalidSignature):
                await w.ring().check_json({"signatures": {name: {"ed25519:1": "x"}}}, name, NOW)


async def test_one_wrong_signature_spoils_the_right_one() -> None:
    """All signatures by known keys have to be right; those by unknown keys are skipped."""
    async with world() as w:
        w.keys["origin.test"] = keys_of("origin.test", KEY, KEY2)
        ring = w.ring()
        good = sign_json({"a": 1}, "origin.test", KEY)
        await ring.check_json(sign_json(good, "origin.test", SigningKey("unknown", bytes(32))), "origin.test", NOW)
        with pytest.raises(InvalidSignature):
            await ring.check_json(sign_json(good, "origin.test", FALSE_KEY2), "origin.test", NOW)
        assert len(w.asked) == 1


def _event(version: str = "11", at: int = NOW, **fields: Any) -> JsonObject:
    return {
        "type": "m.room.message",
        "room_id": "!r:origin.test",
        "sender": "@a:origin.test",
        "content": {"body": "x"},
        "depth": 1,
        "prev_events": [],
        "auth_events": [],
        "origin_server_ts": at,
        "hashes": {"sha256": ""},
        **fields,
    }


def _signed(pdu: JsonObject, version: str, *signers: tuple[str, SigningKey], event_id: str = "$e") -> Event:
    for name, key in signers:
        pdu = sign_event(pdu, ROOM_VERSIONS[version], name, key)
    return Event(pdu, ROOM_VERSIONS[version], event_id)


async def test_events_are_checked_in_their_redacted_form() -> None:
    """The sender's server has to have signed; what a redaction removes may be missing, what it keeps may not differ."""
    async with world() as w:
        w.keys["origin.test"] = keys_of("origin.test", KEY)
        ring = w.ring()
        event = _signed(_event(), "11", ("origin.test", KEY))
        await ring.check_event(event)
        await ring.check_event(Event({**event.json, "content": {}}, event.room_version, "$e"))
        for changed in ({**event.json, "depth": 2}, {**event.json, "signatures": {}}):
            with pytest.raises(InvalidSignature):
                await ring.check_event(Event(changed, event.room_version, "$e"))


@pytest.mark.parametrize(("version", "counts"), [("4", True), ("5", False), ("11", False)])
async def test_key_validity_counts_from_room_version_5(version: str, counts: bool) -> None:
    """An event made after its key's validity passes only in room versions 1 to 4."""
    async with world() as w:
        w.keys["origin.test"] = keys_of("origin.test", KEY, valid_until=NOW)
        event = _signed(_event(at=NOW + 1), version, ("origin.test", KEY))
        if counts:
            await w.ring().check_event(event)
        else:
            with pytest.raises(InvalidSignature):
                await w.ring().check_event(event)


async def test_every_required_server_has_to_sign() -> None:
    """A restricted join needs the authorising server's signature, an event of version 1 that of its id's server."""
    async with world() as w:
        w.keys |= {"origin.test": keys_of("origin.test", KEY), "notary.test": keys_of("notary.test", KEY2)}
        both = (("origin.test", KEY), ("notary.test", KEY2))
        content = {"membership": "join", "join_authorised_via_users_server": "@b:notary.test"}
        join = _event(type="m.room.member", state_key="@a:origin.test", content=content)
        old = _event(event_id="$e:notary.test")
        ring = w.ring()
        await ring.check_event(_signed(join, "11", *both))
        await ring.check_event(_signed(old, "1", *both, event_id="$e:notary.test"))
        for one in both:
            with pytest.raises(InvalidSignature):
                await ring.check_event(_signed(join, "11", one))
            with pytest.raises(InvalidSignature):
                await ring.check_event(_signed(old, "1", one, event_id="$e:notary.test"))


async def test_many_signatures_cost_no_more() -> None:
    """Of the signatures that an object bears in one server's name only a few are looked at."""
    async with world() as w:
        w.keys["origin.test"] = keys_of("origin.test", KEY)
        obj = {"signatures": {"origin.test": {f"ed25519:a{n:04}": "x" for n in range(1000)}}}
        with pytest.raises(InvalidSignature):
            await w.ring().check_json(obj, "origin.test", NOW)
        assert [len(key_ids) for key_ids in w.loads] == [8]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, st.sampled_from(["server_name", "verify_keys", "old_verify_keys", "valid_until_ts", "signatures"]))
def test_no_response_breaks_the_parser(value: Any, name: str) -> None:
    """Any JSON in place of a part of the response, or of all, is either understood or InvalidSignature."""
    changed = (
        sign_json({**keys_of("origin.test", KEY, signers=[]), name: value}, "origin.test", KEY)
        if (name != "signatures")
        else {**keys_of("origin.test", KEY), name: value}
    )
    for answer in (value, changed):
        try:
            assert _parse_server_keys(answer, "origin.test", NOW)
        except InvalidSignature:
            continue
