"""Paging over gaps, and what reading costs."""

from __future__ import annotations

import asyncpg
import pytest

from homeserver.storage.events import ORD_SHIFT
from homeserver.storage.gaps import record_missing
from homeserver.storage.names import Room
from homeserver.sync.history import FIRST_ORD, PageRequest, messages
from homeserver.sync.tokens import parse_place
from tests.sync.world import World, bodies


class Gap:
    """Events of a room that this server has lost, and that come back when they are asked for."""

    def __init__(self, world: World, room: Room, lost: list[str], above: str) -> None:
        self.world, self.room, self.lost, self.above = world, room, lost, above
        self.asked = 0

    async def open(self) -> None:
        async with self.world.stream.pool.acquire() as conn:
            nid = await conn.fetchval("SELECT event_nid FROM events WHERE event_id = $1", self.above)
            await record_missing(conn, self.room.nid, nid, [self.lost[-1]])
            await conn.execute("UPDATE events SET ord = NULL, live = false WHERE event_id = ANY($1)", self.lost)

    async def fill(self, room: Room, above: int | None, until: int) -> bool:
        """Puts the next of the lost events, from above, in its place."""
        self.asked += 1
        event_id = self.lost.pop()
        async with self.world.stream.pool.acquire() as conn:
            top = await conn.fetchrow("SELECT event_nid, ord FROM events WHERE event_id = $1", self.above)
            assert top is not None
            await conn.execute("DELETE FROM missing_prev_events")
            await conn.execute("UPDATE events SET ord = $2 WHERE event_id = $1", event_id, top["ord"] - 10)
            self.above = event_id
            if self.lost:
                nid = await conn.fetchval("SELECT event_nid FROM events WHERE event_id = $1", event_id)
                await record_missing(conn, room.nid, nid, [self.lost[-1]])
        return True


async def gap_in(world: World) -> tuple[Room, Gap]:
    room = await world.create_room("alice")
    ids = [await world.say(room, "alice", str(number)) for number in range(6)]
    gap = Gap(world, room, ids[1:4], ids[4])
    await gap.open()
    return room, gap


async def pages(world: World, room: Room, gap: Gap | None, limit: int) -> list[str]:
    reader = await world.reader("alice")
    found: list[str] = []
    start = ((world.stream.position + 1) << ORD_SHIFT) - 1
    for _ in range(30):
        request = PageRequest(True, start, FIRST_ORD, limit)
        fill = None if gap is None else gap.fill
        page = await messages(world.stream.pool, world.timeline.names, reader, room, request, fill)
        found += bodies(page["chunk"])
        if "end" not in page:
            return found
        start = parse_place(page["end"])
    raise AssertionError("paging never ends")


@pytest.mark.parametrize("limit", [1, 2, 3, 20])
async def test_paging_fills_gaps(world: World, limit: int) -> None:
    """Paging backwards over a gap fetches what is missing, puts it where it belongs, and asks no more afterwards."""
    room, gap = await gap_in(world)
    found = await pages(world, room, gap, limit)
    assert found[:6] == ["5", "4", "3", "2", "1", "0"]
    assert gap.asked == 3
    assert await pages(world, room, gap, limit) == found
    assert gap.asked == 3


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_paging_goes_below_what_is_here(world: World, limit: int) -> None:
    """Where everything that is here has been given, more is asked for before paging ends."""
    room = await world.create_room("alice")
    ids = [await world.say(room, "alice", str(number)) for number in range(4)]
    first = await world.stream.pool.fetch("SELECT event_id FROM events WHERE event_id <> ALL($1) ORDER BY ord", ids)
    lost = [row["event_id"] for row in first] + ids[:2]
    gap = Gap(world, room, lost, ids[2])
    await gap.open()
    found = await pages(world, room, gap, limit)
    assert found[:4] == ["3", "2", "1", "0"]
    assert found[-1] == "m.room.create"
    assert len(found) == len(set(found)) == 8


async def test_paging_ends_where_nobody_can_fill_the_gap(world: World) -> None:
    """A gap that stays is passed over, and paging still comes to an end."""
    room, _ = await gap_in(world)
    found = await pages(world, room, None, 2)
    assert found[:3] == ["5", "4", "0"]
    assert found[-1] == "m.room.create"


async def test_history_is_not_news(world: World) -> None:
    """What was fetched for a gap is never told by sync."""
    room, gap = await gap_in(world)
    since = (await world.sync("alice"))["next_batch"]
    await pages(world, room, gap, 20)
    assert (await world.sync("alice", since))["rooms"]["join"] == {}
    timeline = (await world.sync("alice"))["rooms"]["join"][room.room_id]["timeline"]["events"]
    assert bodies(timeline)[-3:] == ["0", "4", "5"]


class Counter:
    """Counts the queries that asyncpg is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for name in ("fetch", "fetchrow", "fetchval", "execute"):
            monkeypatch.setattr(asyncpg.Connection, name, self._counting(getattr(asyncpg.Connection, name)))

    def _counting(self, original: object) -> object:
        def count(connection: object, *arguments: object, **options: object) -> object:
            self.count += 1
            return original(connection, *arguments, **options)  # type: ignore[operator]

        return count


async def test_the_number_of_queries_does_not_grow_with_the_rooms(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First and later syncs ask as many questions for many rooms as for one; with nothing new, but few."""
    counter = Counter(monkeypatch)

    async def cost(since: str | None) -> tuple[int, str]:
        counter.count = 0
        response = await world.sync("alice", since)
        return counter.count, response["next_batch"]

    async def costs(number: int) -> tuple[int, int, int]:
        rooms = [await world.create_room("alice") for _ in range(number)]
        for room in rooms:
            await world.join(room, "bob")
            await world.say(room, "bob", "first")
        await cost(None)  # names are looked up once
        first, since = await cost(None)
        idle, since = await cost(since)
        for room in rooms:
            await world.say(room, "bob", "hello")
            await world.set_state(room, "bob", "m.room.topic", {"topic": "new"})
        later, _ = await cost(since)
        return first, idle, later

    one, many = await costs(1), await costs(9)
    assert many == one
    assert one[1] <= 10
