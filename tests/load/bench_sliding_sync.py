"""What sliding sync costs a user of many rooms, as ratios that should hold on every machine.

`python -m tests.load.bench_sliding_sync` makes a user with 20 rooms and one with 2,000, of ten members and some
messages each, and has both ask as Element X does at its start: a new connection with the first 20 rooms, their newest
event, the state that it wants, account data, receipts and typing. It prints (median for the user of 2,000) / (median
for the user of 20). Besides, for each: what the next response costs after a message in one of the 20 rooms, the window
having grown over all rooms; shown, but without a bound. Exits with 1 if the first ratio is above its bound.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import asyncpg

from homeserver.storage.embedded import EmbeddedPostgres
from homeserver.storage.migrate import migrate
from homeserver.storage.names import Room
from homeserver.sync.sliding.connections import Connections
from tests.client_api.test_sliding_sync import room_list
from tests.sync.sliding.phone import Phone
from tests.sync.world import World, open_world, user_id

BOUND = 2.0
FEW, MANY = 20, 2_000
ROUNDS = 40
WARM_UP = 5
MEMBERS = 10


def main() -> int:
    """Measures, prints, and says by its exit code whether the bound holds."""
    with tempfile.TemporaryDirectory(prefix="tp-") as directory:
        return asyncio.run(measure(Path(directory)))


async def measure(directory: Path) -> int:
    database = EmbeddedPostgres(directory)
    url = await database.start()
    try:
        conn = await asyncpg.connect(url)
        await migrate(conn)
        await conn.execute("ALTER ROLE CURRENT_USER SET synchronous_commit = off")
        await conn.close()
        async with open_world(url) as world:
            return await run(world)
    finally:
        await database.stop()


async def run(world: World) -> int:
    """All measurements; the exit code."""
    users = {}
    for name, number in (("few", FEW), ("many", MANY)):
        users[name] = await make_rooms(world, name, number)
        print(f"{name}: {number} rooms", flush=True)
    await world.sources.pool.execute("VACUUM ANALYZE")
    connections = Connections(world.sources.pool)
    phones = {name: Phone(world, connections, name, conn="room-list") for name in users}
    cold = await in_turn({name: partial(first_sync, phone) for name, phone in phones.items()})
    ratio = cold["many"] / cold["few"]
    print(f"{'first 20 rooms':>18}: {FEW} rooms {cold['few'] * 1e3:.1f} ms, {MANY} rooms {cold['many'] * 1e3:.1f} ms")
    print(f"{'':>18}  ratio {ratio:.2f} (at most {BOUND})")
    for phone in phones.values():
        await phone.sync(room_list(MANY))
    then = await in_turn({name: partial(next_message, world, phones[name], users[name][0]) for name in phones})
    print(f"{'the next message':>18}: {FEW} rooms {then['few'] * 1e3:.1f} ms, {MANY} rooms {then['many'] * 1e3:.1f} ms")
    return 0 if ratio <= BOUND else 1


async def make_rooms(world: World, name: str, number: int) -> list[Room]:
    """Rooms that the user has made, with members, a few messages and the user's own data."""
    nid = await world.timeline.names.user_nid(user_id(name))
    await world.sources.pool.execute("INSERT INTO devices VALUES ($1, 'DEVICE', NULL, NULL, NULL, 0)", nid)
    rooms = []
    for count in range(number):
        room = await world.create_room(name)
        rooms.append(room)
        await world.set_state(room, name, "m.room.name", {"name": f"Room {count}"})
        await asyncio.gather(*(world.join(room, f"member{each}") for each in range(MEMBERS - 1)))
        await asyncio.gather(*(world.say(room, f"member{each}", "hello") for each in range(3)))
        await world.set_account_data(name, "m.fully_read", {"event_id": "$x"}, room)
    return rooms


async def first_sync(phone: Phone) -> float:
    phone.pos = None
    await phone.world.settle()
    start = time.perf_counter()
    response = await phone.ask(room_list(19))
    took = time.perf_counter() - start
    if len(response["rooms"]) != 20:
        raise AssertionError("there should be 20 rooms")
    return took


async def next_message(world: World, phone: Phone, room: Room) -> float:
    await world.say(room, "member0", "and now?")
    await world.settle()
    start = time.perf_counter()
    response = await phone.ask(room_list(MANY))
    took = time.perf_counter() - start
    if response["rooms"].keys() != {room.room_id}:
        raise AssertionError("there should be one room")
    phone.apply(response)
    return took


async def in_turn(acts: dict[str, Callable[[], Awaitable[float]]]) -> dict[str, float]:
    """Seconds that each act takes, the median; one after the other, so that what else happens disturbs them alike."""
    took: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(ROUNDS):
        for name, act in acts.items():
            took[name].append(await act())
    return {name: statistics.median(times[WARM_UP:]) for name, times in took.items()}


if __name__ == "__main__":
    sys.exit(main())
