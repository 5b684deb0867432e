"""Events of our own users: in order, judged one by one, made once."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from homeserver.protocol.errors import AuthRuleError, BadJson, TooLarge
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.rooms.timeline import NewEvent
from homeserver.storage.transactions import ClientTransaction
from tests.support.rooms import ALICE, BOB, CAROL, Rooms, rooms_on


@pytest.mark.parametrize("version", ROOM_VERSIONS)
async def test_every_room_version_takes_messages_state_and_redactions(rooms: Rooms, version: str) -> None:
    """A room of any version can be made, joined, written to and redacted in."""
    room = await rooms.create(version=version)
    await rooms.membership.join(room.room_id, BOB)
    said = await rooms.message(room, BOB, "hello")
    await rooms.set_state(room, ALICE, "m.room.topic", {"topic": "greetings"})
    redaction = NewEvent("m.room.redaction", BOB, {"redacts": said}, redacts=said)
    if not room.version.redacts_in_content:
        redaction.content = {}
    await rooms.timeline.send_event(room, redaction)
    stored = await rooms.event(said)
    assert stored.redacted_by is not None
    assert stored.event.content == {}
    assert (await rooms.state(room))["m.room.topic", ""].content == {"topic": "greetings"}


async def test_each_event_follows_the_one_before(rooms: Rooms) -> None:
    """Events sent at once by many form one line: each cites the one before it, and depths count up."""
    room = await rooms.create()
    ids = await asyncio.gather(*(rooms.message(room, ALICE, str(n)) for n in range(150)))
    stored = sorted([await rooms.event(event_id) for event_id in ids], key=lambda event: event.ord or 0)
    for before, after in itertools.pairwise(stored):
        assert after.event.prev_events == (before.event.event_id,)
        assert after.event.depth == before.event.depth + 1


async def test_one_that_is_refused_does_not_concern_the_others(rooms: Rooms) -> None:
    """Of sends that share a transaction, only the one that the rules refuse fails."""
    room = await rooms.create()
    results = await asyncio.gather(
        *(rooms.message(room, CAROL if n == 5 else ALICE, str(n)) for n in range(10)), return_exceptions=True
    )
    assert [n for n, result in enumerate(results) if isinstance(result, BaseException)] == [5]
    assert isinstance(results[5], AuthRuleError)


async def test_a_repeated_transaction_makes_no_second_event(rooms: Rooms, database: str) -> None:
    """The same transaction id of the same device gives the same event: at once, later, and after a restart."""
    room = await rooms.create()
    transaction = ClientTransaction(await rooms.timeline.names.user_nid(ALICE), "DEVICE", "1")
    at_once = await asyncio.gather(*(rooms.message(room, ALICE, "x", transaction=transaction) for _ in range(5)))
    later = await rooms.message(room, ALICE, "x", transaction=transaction)
    async with rooms_on(database) as restarted:
        after_restart = await restarted.message(room, ALICE, "x", transaction=transaction)
    assert {*at_once, later, after_restart} == {at_once[0]}
    other_device = ClientTransaction(transaction.user_nid, "OTHER", "1")
    assert await rooms.message(room, ALICE, "x", transaction=other_device) != later


async def test_a_repeated_transaction_does_not_hold_up_the_batch(rooms: Rooms) -> None:
    """Events that share a transaction with a repeated one are sent, each once."""
    room = await rooms.create()
    transaction = ClientTransaction(await rooms.timeline.names.user_nid(ALICE), "DEVICE", "1")
    first = await rooms.message(room, ALICE, "x", transaction=transaction)
    sent = await asyncio.gather(
        rooms.message(room, ALICE, "a"),
        rooms.message(room, ALICE, "b"),
        rooms.message(room, ALICE, "x", transaction=transaction),
        rooms.message(room, ALICE, "c"),
    )
    assert sent[2] == first
    assert len({*sent}) == 4
    async with rooms.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM events WHERE type = 'm.room.message'") == 4


async def test_setting_state_to_what_it_is_sends_nothing(rooms: Rooms) -> None:
    """State that is already as asked keeps its event."""
    room = await rooms.create()
    first = await rooms.set_state(room, ALICE, "m.room.topic", {"topic": "t"})
    assert await rooms.set_state(room, ALICE, "m.room.topic", {"topic": "t"}) == first
    assert await rooms.set_state(room, ALICE, "m.room.topic", {"topic": "u"}) != first


async def test_two_processes_write_one_room(rooms: Rooms, database: str) -> None:
    """What keeps a room's events in one line is the database's lock, not the memory of a process."""
    room = await rooms.create()
    async with rooms_on(database, signing_key=rooms.timeline.signing_key) as other:
        ids = await asyncio.gather(
            *((rooms if n % 2 else other).message(room, ALICE, str(n)) for n in range(60)),
        )
    stored = sorted([await rooms.event(event_id) for event_id in ids], key=lambda event: event.ord or 0)
    for before, after in itertools.pairwise(stored):
        assert after.event.prev_events == (before.event.event_id,)


@pytest.mark.parametrize(
    ("content", "error"),
    [({"n": 1.5}, BadJson), ({"n": 2**60}, BadJson), ({"body": "x" * 70_000}, TooLarge)],
)
async def test_what_other_servers_would_refuse_is_refused_here(
    rooms: Rooms, content: dict[str, object], error: type[Exception]
) -> None:
    """An event that breaks the format or the size limits is refused with the spec's error, and nothing is stored."""
    room = await rooms.create()
    before = await rooms.message(room, ALICE, "before")
    with pytest.raises(error):
        await rooms.timeline.send_event(room, NewEvent("m.room.message", ALICE, content))
    after = await rooms.event(await rooms.message(room, ALICE, "after"))
    assert after.event.prev_events == (before,)


async def test_a_refused_send_writes_nothing(rooms: Rooms) -> None:
    """Where all that was to be sent is refused, the room is as it was."""
    room = await rooms.create()
    select = "SELECT head_version, extremities, depth FROM rooms WHERE room_nid = $1"
    before = await rooms.pool.fetchrow(select, room.nid)
    with pytest.raises(AuthRuleError):
        await rooms.message(room, CAROL, "hello")
    assert await rooms.pool.fetchrow(select, room.nid) == before
