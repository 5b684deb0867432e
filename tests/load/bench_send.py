"""What a message costs over HTTP: in a room with many members as against one with few, and with many in flight.

`python -m tests.load.bench_send` makes rooms with 10 and with 10,000 members and sends messages to them in turn, one at
a time, then to the small one 64 at a time. It prints the CPU time of server and PostgreSQL for a message, and
(in the large room) / (in the small one). Exits with 1 if that is above the bound.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from homeserver.services import Services
from tests.load.measuring import (
    Account,
    check,
    cpu_seconds,
    http_session,
    in_flight,
    join_all,
    make_room,
    prepared,
    register,
    scratch,
    serving,
    text,
)
from tests.support.processes import Homeserver

BOUND = 1.5
SMALL, LARGE = 10, 10_000
SENDS = 100  # to each room a round
ROUNDS = 12
IN_FLIGHT = 64
MANY = 6_000

_numbers = itertools.count()


def main() -> int:
    """Measures, prints, and says by its exit code whether the bound holds."""
    with scratch() as directory:
        server, rooms = prepared(directory, fill)
        with serving(server):
            return asyncio.run(measure(server, rooms))


async def fill(services: Services) -> list[str]:
    """The ids of a small room and a large one, both of alice."""
    rooms = []
    for size in (SMALL, LARGE):
        room = await make_room(services, "alice", f"{size} members")
        await join_all(services, room, [f"user{number}" for number in range(size - 1)])
        rooms.append(room.room_id)
    return rooms


async def measure(server: Homeserver, rooms: list[str]) -> int:
    """All measurements; the exit code."""
    async with http_session() as session:
        alice = await register(session, server.url, "alice")
        total = dict.fromkeys(rooms, 0.0)
        for number in range(-1, ROUNDS):  # the first warms up
            for room_id in rooms:
                before = cpu_seconds(server.process.directory)
                for _ in range(SENDS):
                    await send(alice, room_id)
                if number >= 0:
                    total[room_id] += cpu_seconds(server.process.directory) - before
        small, large = (total[room_id] / ROUNDS / SENDS for room_id in rooms)
        print(f"1 in flight: {SMALL} members {small * 1e3:.2f} ms, {LARGE} members {large * 1e3:.2f} ms of CPU a send")
        holds = check(f"send among {LARGE} / among {SMALL}", large / small, BOUND)
        before, started = cpu_seconds(server.process.directory), time.perf_counter()
        calls: list[Callable[[], Awaitable[Any]]] = [partial(send, alice, rooms[0]) for _ in range(MANY)]
        await in_flight(calls, IN_FLIGHT)
        took, cpu = time.perf_counter() - started, cpu_seconds(server.process.directory) - before
        print(f"{IN_FLIGHT} in flight: {MANY / took:.0f} sends/s beside their client, {cpu / MANY * 1e3:.2f} ms of CPU")
    return 0 if holds else 1


async def send(account: Account, room_id: str) -> None:
    number = next(_numbers)
    await account.call("PUT", f"/rooms/{room_id}/send/m.room.message/{number}", text(number))


if __name__ == "__main__":
    sys.exit(main())
