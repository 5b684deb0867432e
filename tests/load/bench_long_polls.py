"""How soon a message reaches a client that waits, with nobody else waiting and with many.

`python -m tests.load.bench_long_polls` has Bob send to Alice, whose sync waits: alone, and in turn with that while 199
others wait for what happens in rooms of their own. Compared is the 99th percentile of the time from Bob's request to
the end of Alice's. Besides, without a bound: all 200 wait in one room, and the time until the last of them has the
message. That is no multiple of the one by any small number: 200 responses are made and sent by one process, one after
the other, and their clients (which are this process) read them one after the other too.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain

from homeserver.services import Services
from tests.load.measuring import (
    Account,
    cpu_seconds,
    http_session,
    in_flight,
    join_all,
    make_room,
    prepared,
    register,
    scratch,
    send,
    serving,
)
from tests.load.report import Progress, Report, milliseconds, percentile, quartiles
from tests.support.processes import Homeserver

BOUND = 3.0
WAITING = 200
MESSAGES = 100  # a round
ROUNDS = 5
TO_ALL = 20


def main() -> int:
    """Measures, prints, and says by its exit status whether the bound holds."""
    report = Report()
    with scratch() as directory:
        server, rooms = prepared(directory, fill)
        with serving(server):
            asyncio.run(measure(report, server, *rooms))
    return report.finish()


async def fill(services: Services) -> tuple[str, str]:
    """The ids of Alice's and Bob's room, and of one in which everybody is. The others have a room each."""
    room = await make_room(services, "bob", "two")
    await join_all(services, room, ["alice"])
    everybody = await make_room(services, "bob", "all")
    await join_all(services, everybody, ["alice", *others()])
    for name in others():
        await make_room(services, name, name)
    return room.room_id, everybody.room_id


def others() -> list[str]:
    return [f"other{number}" for number in range(WAITING - 1)]


async def measure(report: Report, server: Homeserver, room_id: str, everybody: str) -> None:
    """All measurements."""
    async with http_session() as session:
        names = ["alice", "bob", *others()]
        accounts = await in_flight([partial(register, session, server.url, name) for name in names], 4)
        alice, bob, rest = accounts[0], accounts[1], accounts[2:]
        alone: list[list[float]] = []
        among: list[list[float]] = []
        await deliveries(bob, alice, room_id)
        progress = Progress("rounds", ROUNDS)
        for _ in range(ROUNDS):
            alone.append(await deliveries(bob, alice, room_id))
            async with all_waiting(rest):
                among.append(await deliveries(bob, alice, room_id))
            progress.add()
        one, many = list(chain(*alone)), list(chain(*among))
        for name, times in (("1 waits", one), (f"{WAITING} wait", many)):
            p99 = percentile(times, 0.99) * 1e3
            report.note(f"{name}: {milliseconds(times)} from request to delivery, 99 % within {p99:.2f} ms")
        low, middle, high = quartiles(
            [percentile(a, 0.99) / percentile(b, 0.99) for a, b in zip(among, alone, strict=True)]
        )
        spread = f"of {ROUNDS} rounds: median {middle:.3g}, middle half {low:.3g} to {high:.3g}"
        ratio = percentile(many, 0.99) / percentile(one, 0.99)
        report.check(f"idle-to-delivered p99, {WAITING} long polls / 1", ratio, BOUND, spread)
        await to_all(report, server, bob, [alice, *rest], everybody, statistics.median(one))


async def deliveries(sender: Account, reader: Account, room_id: str) -> list[float]:
    """Seconds from sending to the reader's waiting sync having the message, one message after the other."""
    since = (await reader.sync())["next_batch"]
    took = []
    for _ in range(MESSAGES):
        waiting = asyncio.create_task(reader.sync(since, 30_000))
        await asyncio.sleep(0.005)  # until it waits
        started = time.perf_counter()
        sending = asyncio.create_task(send(sender, room_id))
        answer = await waiting
        took.append(time.perf_counter() - started)
        await sending
        if room_id not in answer["rooms"]["join"]:
            raise AssertionError("something else ended the wait")
        since = answer["next_batch"]
    return took


@asynccontextmanager
async def all_waiting(accounts: Sequence[Account]) -> AsyncIterator[list[asyncio.Task[float]]]:
    """Each of the accounts has a sync that waits. The tasks give the time at which it ended."""
    filter = '{"room": {"timeline": {"limit": 1}, "state": {"types": []}}}'  # what was before does not matter
    answers = await in_flight([partial(account.sync, filter=filter) for account in accounts], 4)

    async def wait(account: Account, since: str) -> float:
        await account.sync(since, 120_000)
        return time.perf_counter()

    tasks = [
        asyncio.create_task(wait(account, answer["next_batch"]))
        for account, answer in zip(accounts, answers, strict=True)
    ]
    try:
        await asyncio.sleep(0.5)  # until all wait
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def to_all(
    report: Report, server: Homeserver, sender: Account, accounts: Sequence[Account], room_id: str, one: float
) -> None:
    """Notes what it takes to tell everybody in a room; `one`: the median of what it takes to tell one."""
    last: list[float] = []
    spent = 0.0
    for number in range(-1, TO_ALL):  # the first warms up
        async with all_waiting(accounts) as waiting:
            before, started = cpu_seconds(server.process.directory), time.perf_counter()
            await send(sender, room_id)
            ended = max(await asyncio.gather(*waiting))
            if number >= 0:
                last.append(ended - started)
                spent += cpu_seconds(server.process.directory) - before
    each = spent / TO_ALL / len(accounts)
    report.note(
        f"one message to {len(accounts)} who wait: the last has it after {milliseconds(last)}, "
        f"{statistics.median(last) / one:.1f} times what one takes; {each * 1e3:.2f} ms of CPU each"
    )


if __name__ == "__main__":
    sys.exit(main())
