"""The outbox: what goes to whom, in which order, and what happens when it can't."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from federation.outbox import Outbox
from federation.room_servers import RoomServers
from homeserver.main import Server, running_server
from homeserver.protocol.canonical_json import encode_canonical_json
from homeserver.protocol.errors import Unavailable
from homeserver.protocol.event_builder import build_event
from homeserver.protocol.events import JsonObject
from homeserver.protocol.signing import SigningKey
from homeserver.rooms.checked_pdus import CheckedPdu
from tests.support.api import Api
from tests.support.client import eventually
from tests.support.servers import server_config

KEY = SigningKey("peer", bytes(range(32)))


class Peers:
    """All other servers: remembers what reached each, and fails or stalls for those that it is told to."""

    def __init__(self) -> None:
        self.got: dict[str, list[JsonObject]] = {}
        self.edus: dict[str, list[JsonObject]] = {}
        self.txn_ids: list[str] = []
        self.attempts: dict[str, int] = {}
        self.down: set[str] = set()
        self.stalled: set[str] = set()
        self.changed = asyncio.Event()

    async def send_transaction(
        self, destination: str, txn_id: str, transaction: JsonObject, *, timeout: float | None = None
    ) -> JsonObject:
        assert len(transaction["pdus"]) <= 50
        assert len(transaction.get("edus", [])) <= 100
        self.attempts[destination] = self.attempts.get(destination, 0) + 1
        self.changed.set()
        if destination in self.stalled:
            await asyncio.Event().wait()
        if destination in self.down:
            raise Unavailable("down")
        self.txn_ids.append(txn_id)
        self.got.setdefault(destination, []).extend(transaction["pdus"])
        self.edus.setdefault(destination, []).extend(transaction.get("edus", []))
        return {"pdus": {}}

    def texts(self, destination: str) -> list[str]:
        return [pdu["content"]["body"] for pdu in self.got.get(destination, []) if "body" in pdu["content"]]

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self.changed.clear()
                await asyncio.wait({asyncio.create_task(self.changed.wait())}, timeout=0.05)


@asynccontextmanager
async def sending(server: Server, peers: Peers, retry_ms: int = 30) -> AsyncIterator[Outbox]:
    """An outbox of the server that sends to `peers`; its own, which would look for them, is not running."""
    outbox = Outbox(server.services.stream, peers, server_name=server.services.server_name, retry_ms=retry_ms)
    server.services.changes.add_listener(outbox.wake)
    task = asyncio.create_task(outbox.run())
    try:
        yield outbox
    finally:
        task.cancel()
        await asyncio.wait({task})


class House:
    """A room of Alice's, in which users of other servers come and go."""

    def __init__(self, server: Server, alice: Api, room_id: str) -> None:
        self.server, self.alice, self.room_id = server, alice, room_id
        self._texts = 0

    async def member(self, user_id: str, membership: str = "join") -> None:
        """A member event of another server, as if it came over send_join or send_leave."""
        services = self.server.services
        room = await services.timeline.room(self.room_id)
        async with services.pool.acquire() as conn:
            head = await services.timeline.head(conn, room)
            keys = [("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.member", user_id)]
            if membership == "join":
                keys.append(("m.room.join_rules", ""))
            state = await head.state(conn, services.timeline.names, keys)
            event = build_event(
                room_version=room.version,
                room_id=self.room_id,
                type="m.room.member",
                sender=user_id,
                state_key=user_id,
                content={"membership": membership},
                prev_events=list(head.extremities.values()),
                auth_events=[entry.event.event_id for entry in state.values()],
                depth=head.depth + 1,
                origin_server_ts=services.timeline.clock(),
                server_name=user_id.partition(":")[2],
                signing_key=KEY,
            )
        checked = CheckedPdu(event, encode_canonical_json(event.json, strict=True))
        await services.receiver.take_in_handed_over(user_id.partition(":")[2], room, checked)

    async def say(self, text: str) -> str:
        """Alice says something."""
        self._texts += 1
        path = f"/rooms/{self.room_id}/send/m.room.message/{self._texts}"
        answer = await self.alice.put(path, {"msgtype": "m.text", "body": text})
        assert answer.status == 200, answer
        return str(answer.body["event_id"])

    async def pending(self) -> list[tuple[str, int, int]]:
        """What is noted for others: destination, first and last position."""
        rows = await self.server.services.pool.fetch(
            "SELECT destination, first_pos, last_pos FROM destination_rooms ORDER BY destination"
        )
        return [(row["destination"], row["first_pos"], row["last_pos"]) for row in rows]


@pytest.fixture
async def server(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """A server whose own outbox does nothing, so that a test's can stand in for it."""

    async def idle(_: Outbox) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "run", idle)
        async with running_server(server_config(database, tmp_path)) as server:
            patch.undo()
            yield server


@pytest.fixture
async def house(alice: Api, server: Server) -> House:
    """A public room of Alice's."""
    answer = await alice.post("/createRoom", {"preset": "public_chat", "room_version": "11"})
    return House(server, alice, answer.body["room_id"])


async def test_events_reach_every_server_of_the_room_in_order(house: House) -> None:
    """Each server with a user in the room gets each event once, in order, in transactions with ids of their own."""
    peers = Peers()
    await house.member("@bob:one.example")
    await house.member("@carol:two.example")
    async with sending(house.server, peers):
        for number in range(120):
            await house.say(f"{number}")
        expected = [f"{number}" for number in range(120)]
        await peers.until(lambda: peers.texts("one.example") == expected and peers.texts("two.example") == expected)
        assert len(set(peers.txn_ids)) == len(peers.txn_ids)
        # Whoever joined over us is passed on to the others, and not told of it itself.
        members = [pdu["sender"] for pdu in peers.got["one.example"] if pdu["type"] == "m.room.member"]
        assert members == ["@carol:two.example"]
        assert "two.example" in peers.got
        assert not any(pdu["type"] == "m.room.member" for pdu in peers.got["two.example"])


async def test_nothing_goes_to_servers_that_are_not_in_the_room(house: House) -> None:
    """What was said before a server came, or after it left, does not go there, even if all of it waits at once."""
    peers = Peers()
    await house.member("@carol:two.example")
    async with sending(house.server, peers):
        peers.down = {"one.example"}
        await house.say("before")
        await house.member("@bob:one.example")
        await house.say("with Bob")
        await house.member("@bob:one.example", "leave")
        await house.say("without Bob")
        await house.member("@bob:one.example")
        await house.say("with Bob again")
        await peers.until(lambda: "with Bob again" in peers.texts("two.example"))
        assert "one.example" in {destination for destination, _, _ in await house.pending()}
        peers.down = set()
        await peers.until(lambda: "with Bob again" in peers.texts("one.example"))
    assert peers.texts("one.example") == ["with Bob", "with Bob again"]
    assert peers.texts("two.example") == ["before", "with Bob", "without Bob", "with Bob again"]


async def test_a_server_that_came_and_went_between_two_looks_gets_what_was_said(house: House) -> None:
    """What was said while a server was in the room goes there, though it was not there before, nor is afterwards."""
    servers, services = RoomServers(), house.server.services
    room = await services.timeline.room(house.room_id)

    async def said(text: str) -> int:
        event_id = await house.say(text)
        return int(await services.pool.fetchval("SELECT event_nid FROM events WHERE event_id = $1", event_id))

    before = await said("before")
    async with services.pool.acquire() as conn:
        assert "one.example" not in (await servers.at(conn, room.nid, [before]))[before]
    await house.member("@bob:one.example")
    with_bob = await said("with Bob")
    await house.member("@bob:one.example", "leave")
    without_bob = await said("without Bob")
    async with services.pool.acquire() as conn:
        found = await servers.at(conn, room.nid, [with_bob, without_bob])
    assert "one.example" in found[with_bob]
    assert "one.example" not in found[without_bob]


async def test_whom_a_kick_or_ban_hits_is_told(house: House) -> None:
    """The server of whoever is thrown out gets that event, and nothing after it."""
    peers = Peers()
    await house.member("@bob:one.example")
    async with sending(house.server, peers):
        await house.alice.post(f"/rooms/{house.room_id}/ban", {"user_id": "@bob:one.example"})
        await house.say("without Bob")
        await peers.until(lambda: bool(peers.got.get("one.example")))
        [ban] = peers.got["one.example"]
        assert (ban["type"], ban["content"]["membership"]) == ("m.room.member", "ban")
    assert peers.texts("one.example") == []


async def test_a_dead_destination_delays_no_other(house: House) -> None:
    """One that fails and one that never answers cost the others nothing."""
    peers = Peers()
    for name in ("dead", "stalled", "alive"):
        await house.member(f"@user:{name}.example")
    peers.down, peers.stalled = {"dead.example"}, {"stalled.example"}
    async with sending(house.server, peers):
        for number in range(10):
            await house.say(f"{number}")
            await peers.until(partial(_has_texts, peers, "alive.example", number + 1), seconds=3)
        assert peers.attempts["stalled.example"] == 1


async def test_failures_are_backed_off(house: House) -> None:
    """A destination that fails is tried ever less often; being heard from starts it again; success ends it."""
    peers = Peers()
    await house.member("@bob:one.example")
    peers.down = {"one.example"}
    async with sending(house.server, peers, retry_ms=40) as outbox:
        await house.say("hello")
        await peers.until(lambda: peers.attempts.get("one.example", 0) >= 4)
        row = await house.server.services.pool.fetchrow("SELECT * FROM destinations")
        assert row is not None
        assert row["failing_since_ts"] is not None
        assert row["retry_interval_ms"] >= 40 * 4
        peers.down = set()
        outbox.heard_from("one.example")
        await peers.until(lambda: peers.texts("one.example") == ["hello"])

        async def reset() -> bool:
            row = await house.server.services.pool.fetchrow("SELECT * FROM destinations")
            return row is not None and row["failing_since_ts"] is None and row["retry_interval_ms"] == 0

        await eventually(reset, "the back-off to be forgotten")
    assert await house.pending() == []


async def test_after_long_silence_only_the_newest_is_sent(house: House) -> None:
    """Of more than 50 events in a room a destination that was away gets the last: it asks for those before."""
    peers = Peers()
    await house.member("@bob:one.example")
    peers.down = {"one.example"}
    async with sending(house.server, peers, retry_ms=200) as outbox:
        for number in range(60):
            await house.say(f"{number}")
        await peers.until(lambda: peers.attempts.get("one.example", 0) >= 1)
        await _fanned_out(house, outbox)
        peers.down = set()
        outbox.heard_from("one.example")
        await peers.until(lambda: bool(peers.texts("one.example")))
        await house.say("and on")
        await peers.until(lambda: "and on" in peers.texts("one.example"))
    assert peers.texts("one.example") == ["59", "and on"]


async def test_nothing_is_lost_when_it_is_killed_at_any_moment(house: House) -> None:
    """However often the sender ends in the middle of its work, everything arrives; a thing sent twice is no harm."""
    peers = Peers()
    await house.member("@bob:one.example")
    for number in range(30):
        async with sending(house.server, peers):
            await house.say(f"{number}")
            for _ in range(number):
                await asyncio.sleep(0)
    async with sending(house.server, peers):
        await peers.until(lambda: {f"{number}" for number in range(30)} <= set(peers.texts("one.example")))
    first_seen = list(dict.fromkeys(peers.texts("one.example")))
    assert first_seen == [f"{number}" for number in range(30)]


async def test_what_failed_in_the_database_is_not_skipped(house: House) -> None:
    """If the fan-out's transaction fails, the same events are fanned out again."""
    peers = Peers()
    await house.member("@bob:one.example")
    pool = house.server.services.pool
    await pool.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON destination_rooms FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    await house.say("first")
    with pytest.raises(asyncpg.RaiseError):
        await Outbox(house.server.services.stream, peers, server_name="test.example")._fan_out()
    await pool.execute("DROP TRIGGER refuse ON destination_rooms; DROP FUNCTION refuse")
    async with sending(house.server, peers):
        await peers.until(lambda: peers.texts("one.example") == ["first"])


async def test_only_the_newest_of_what_is_ephemeral_is_sent(house: House) -> None:
    """EDUs with the same key replace each other while they wait; to a destination that fails none is kept."""
    peers = Peers()

    def typing(on: bool) -> JsonObject:
        return {"edu_type": "m.typing", "content": {"typing": on}}

    async with sending(house.server, peers, retry_ms=5_000) as outbox:
        for on in (True, False, True):
            outbox.queue_edu("one.example", "typing", typing(on))
        outbox.queue_edu("one.example", "other", typing(False))
        outbox.queue_edu("test.example", "typing", typing(True))
        await peers.until(lambda: len(peers.edus.get("one.example", [])) == 2)
        assert peers.edus["one.example"] == [typing(True), typing(False)]
        assert "test.example" not in peers.attempts
        peers.down = {"two.example"}
        for number in range(5):
            outbox.queue_edu("two.example", number, typing(True))
            await asyncio.sleep(0)
        await peers.until(lambda: peers.attempts.get("two.example", 0) == 1)


async def test_a_room_without_other_servers_notes_nothing(house: House) -> None:
    """Events that concern nobody else are passed over, and their position is not written each time."""
    peers = Peers()
    async with sending(house.server, peers) as outbox:
        for number in range(5):
            await house.say(f"{number}")
        await _fanned_out(house, outbox)
    assert await house.pending() == []
    assert peers.attempts == {}


def _has_texts(peers: Peers, destination: str, count: int) -> bool:
    return len(peers.texts(destination)) == count


async def _fanned_out(house: House, outbox: Outbox) -> None:
    """Waits until the fan-out has come by everything that has happened so far."""
    target = house.server.services.stream.position

    async def caught_up() -> bool:
        return (outbox._read or 0) >= target

    await eventually(caught_up, "the fan-out")
