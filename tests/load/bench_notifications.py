"""What a send costs in a room with many members here, as a ratio that should hold on every machine.

`python -m tests.load.bench_notifications` makes rooms with 10 and with 10,000 members of this server and sends
messages to them in turn, one at a time: with everyone having the predefined push rules, and with a mixed crowd of whom
one in twenty has silenced the room, one in twenty another room, one in fifty listens to one of twenty words. It prints
(median in the large room) / (median in the small one) for both, and what counting the unread messages of a member who
has read nothing costs there against one who has just read. Exits with 1 if a ratio is above its bound.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.push_rule_edits import put_rule
from homeserver.protocol.push_rules import UserRules
from homeserver.rooms.timeline import NewEvent
from homeserver.storage.embedded import EmbeddedPostgres
from homeserver.storage.migrate import migrate
from homeserver.storage.names import Room
from homeserver.sync.notification_counts import unread_counts
from tests.sync.world import SERVER, World, open_world, user_id

BOUND = 1.5
SMALL, LARGE = 10, 10_000
SENDS = 400  # to each room
WARM_UP = 20


def main() -> int:
    """Measures, prints, and says by its exit code whether the bounds hold."""
    with tempfile.TemporaryDirectory(prefix="tp-") as directory:
        return asyncio.run(measure(Path(directory)))


async def measure(directory: Path) -> int:
    database = EmbeddedPostgres(directory)
    url = await database.start()
    try:
        conn = await asyncpg.connect(url)
        await migrate(conn)
        # Waiting for the disk would be most of a send, the same in every room, and hide what this is about.
        await conn.execute("ALTER ROLE CURRENT_USER SET synchronous_commit = off")
        await conn.close()
        async with open_world(url) as world:
            return await run(world)
    finally:
        await database.stop()


async def run(world: World) -> int:
    """All measurements; the exit code."""
    holds = True
    crowded = {}
    for name, mixed in (("predefined rules", False), ("mixed crowd", True)):
        rooms = [await crowd(world, size, mixed=mixed) for size in (SMALL, LARGE)]
        small, large = await send_in_turn(world, rooms)
        ratio = large / small
        holds &= ratio <= BOUND
        crowded[name] = rooms[1]
        print(
            f"{name:>18}: {SMALL} members {small * 1e3:.2f} ms, {LARGE} members {large * 1e3:.2f} ms a send; ", end=""
        )
        print(f"ratio {ratio:.2f} (at most {BOUND})")
    few, many = await count_unread(world, crowded["mixed crowd"])
    holds &= many / few <= BOUND
    print(f"{'counting unread':>18}: 1 unread {few * 1e3:.2f} ms, {SENDS} unread {many * 1e3:.2f} ms")
    print(f"{'':>18}  ratio {many / few:.2f} (at most {BOUND})")
    return 0 if holds else 1


async def crowd(world: World, size: int, *, mixed: bool) -> Room:
    """A room with so many members, the first of whom sends. They are entered as rows, without the events of joins."""
    room = await world.create_room("sender")
    names = [f"{room.nid}-{number}" for number in range(size - 1)]
    nids = await world.timeline.names.user_nids([user_id(name) for name in names])
    async with world.stream.write() as write:
        pos = await write.next_position()
        conn = write.conn
        await conn.execute(
            "INSERT INTO room_members (room_nid, user_nid, membership, event_nid, pos) "
            "SELECT $1, unnest($2::bigint[]), 'join', 0, $3",
            room.nid,
            list(nids.values()),
            pos,
        )
        await conn.execute(
            "INSERT INTO read_marks (user_nid, room_nid, thread_id, ord) SELECT unnest($2::bigint[]), $1, '', $3 << 20",
            room.nid,
            list(nids.values()),
            pos,
        )
        rules = {nid: rules_of(number, room) if mixed else {} for number, nid in enumerate(nids.values())}
        await conn.executemany(
            "INSERT INTO push_rules (user_nid, rules, pos) VALUES ($1, $2, $3)",
            [(nid, encode_json(dict(each)), pos) for nid, each in rules.items() if each],
        )
        await conn.execute("UPDATE rooms SET head_version = head_version + 1 WHERE room_nid = $1", room.nid)
    await world.stream.pool.execute("ANALYZE")
    return room


def rules_of(number: int, room: Room) -> UserRules:
    """The rules of one of a mixed crowd."""
    if number % 20 == 0:
        return put_rule({}, "room", room.room_id, {"actions": []})
    if number % 20 == 1:
        return put_rule({}, "room", f"!other{number}:{SERVER}", {"actions": []})
    if number % 50 == 2:
        word = f"word{number // 50 % 20}"
        return put_rule({}, "content", word, {"pattern": word, "actions": ["notify"]})
    return {}


async def send_in_turn(world: World, rooms: list[Room]) -> list[float]:
    """Seconds a send takes in each room, the median, so that what else the machine does disturbs it little."""
    took: list[list[float]] = [[] for _ in rooms]
    for number in range(SENDS):
        for room, times in zip(rooms, took, strict=True):
            content = {"msgtype": "m.text", "body": f"Shall we meet at half past seven, or later? {number}"}
            start = time.perf_counter()
            await world.timeline.send_event(room, NewEvent("m.room.message", user_id("sender"), content))
            times.append(time.perf_counter() - start)
    return [statistics.median(times[WARM_UP:]) for times in took]


async def count_unread(world: World, room: Room) -> tuple[float, float]:
    """Seconds to count for a member who has read all but the last message, and for one who has read nothing."""
    names = world.timeline.names
    reader, lurker = [await names.user_nid(user_id(f"{room.nid}-{number}")) for number in (3, 4)]
    async with world.stream.pool.acquire() as conn:
        ords = await conn.fetch("SELECT ord FROM events WHERE room_nid = $1 ORDER BY ord DESC LIMIT 2", room.nid)
        await conn.execute("UPDATE read_marks SET ord = $2 WHERE user_nid = $1", reader, ords[1]["ord"])
        took: dict[int, list[float]] = {reader: [], lurker: []}
        for _ in range(200):
            for user_nid, times in took.items():
                start = time.perf_counter()
                counts = await unread_counts(conn, user_nid, [room.nid], world.stream.position, by_thread=True)
                times.append(time.perf_counter() - start)
                if counts[room.nid].room.notify != (1 if user_nid == reader else SENDS):
                    raise AssertionError("the counts are wrong")
    return statistics.median(took[reader]), statistics.median(took[lurker])


if __name__ == "__main__":
    sys.exit(main())
