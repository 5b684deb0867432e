"""What fifty logins at once do to somebody who waits for a message.

`python -m tests.load.bench_logins` has Bob send to Alice, whose sync waits: with nothing else going on, and in turn
with that while fifty clients log in at once, with passwords hashed at the default cost, until all of them are in.
Compared is the 99th percentile of the time from Bob's request to the end of Alice's. Besides, without a bound: how long
the fifty take.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from itertools import chain
from pathlib import Path

from homeserver.config import PasswordsConfig
from homeserver.services import Services
from tests.load.measuring import (
    PASSWORD,
    Account,
    http_session,
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

BOUND = 2.0
LOGINS = 50
ROUNDS = 5
IDLE_MESSAGES = 100  # a round
PAUSE = 0.02  # seconds between two messages


def main() -> int:
    """Measures, prints, and says by its exit status whether the bound holds."""
    report = Report()
    with scratch() as directory:
        server, room_id = prepared(directory, fill)
        use_default_cost(directory / "config.yaml")
        with serving(server):
            asyncio.run(measure(report, server, room_id))
    return report.finish()


async def fill(services: Services) -> str:
    """The id of Alice's and Bob's room."""
    room = await make_room(services, "bob", "two")
    await join_all(services, room, ["alice"])
    return room.room_id


def use_default_cost(config_file: Path) -> None:
    """Servers of tests hash passwords quickly; this one is to work as hard as any."""
    config = json.loads(config_file.read_text())
    config["passwords"] = {"bcrypt_cost": PasswordsConfig().bcrypt_cost}
    config_file.write_text(json.dumps(config))


async def measure(report: Report, server: Homeserver, room_id: str) -> None:
    """All measurements."""
    idle: list[list[float]] = []
    busy: list[list[float]] = []
    took: list[float] = []
    async with http_session() as session:
        alice, bob, carol = [await register(session, server.url, name) for name in ("alice", "bob", "carol")]
        await deliveries(bob, alice, room_id)
        progress = Progress("rounds", ROUNDS)
        for _ in range(ROUNDS):
            idle.append(await deliveries(bob, alice, room_id))
            started = time.perf_counter()
            logins = asyncio.gather(*(log_in(carol, number) for number in range(LOGINS)))
            busy.append(await deliveries(bob, alice, room_id, logins))
            await logins
            took.append(time.perf_counter() - started)
            progress.add()
    for name, times in (("idle", list(chain(*idle))), (f"{LOGINS} log in", list(chain(*busy)))):
        p99 = percentile(times, 0.99) * 1e3
        report.note(f"{name}: {milliseconds(times)} from request to delivery, 99 % within {p99:.2f} ms")
    report.note(f"{LOGINS} logins at once: {milliseconds(took)}")
    low, middle, high = quartiles([percentile(a, 0.99) / percentile(b, 0.99) for a, b in zip(busy, idle, strict=True)])
    spread = f"of {ROUNDS} rounds: median {middle:.3g}, middle half {low:.3g} to {high:.3g}"
    ratio = percentile(list(chain(*busy)), 0.99) / percentile(list(chain(*idle)), 0.99)
    report.check(f"delivery to a waiting sync p99, {LOGINS} logins at once / idle", ratio, BOUND, spread)


async def log_in(account: Account, number: int) -> None:
    """One of the logins, as a device of its own."""
    body = {"type": "m.login.password", "user": account.user_id, "password": PASSWORD, "device_id": f"D{number}"}
    await Account(account.session, account.url, "", "").call("POST", "/login", body)


async def deliveries(
    sender: Account, reader: Account, room_id: str, meanwhile: asyncio.Future[list[None]] | None = None
) -> list[float]:
    """Seconds from sending to the reader's waiting sync having the message, one message after the other.

    As many as there is time for until `meanwhile` is done; without it, as many as are enough.
    """
    since = (await reader.sync())["next_batch"]
    took: list[float] = []
    while not meanwhile.done() if meanwhile is not None else len(took) < IDLE_MESSAGES:
        waiting = asyncio.create_task(reader.sync(since, 30_000))
        await asyncio.sleep(PAUSE)  # until it waits
        started = time.perf_counter()
        sending = asyncio.create_task(send(sender, room_id))
        answer = await waiting
        took.append(time.perf_counter() - started)
        await sending
        if room_id not in answer["rooms"]["join"]:
            raise AssertionError("something else ended the wait")
        since = answer["next_batch"]
    return took


if __name__ == "__main__":
    sys.exit(main())
