"""What the first sync of an account in many rooms costs, here and on Synapse.

`python -m tests.load.bench_initial_sync` makes on both servers, over HTTP, an account that is in 1,000 rooms (made with
a name and a topic, one message in each) and syncs it from nothing, each time with another filter so that nobody answers
from memory of answers. Synapse has a PostgreSQL of its own with the settings that ours comes with. It prints the CPU
time of server and PostgreSQL for a sync (the least of the rounds) and (ours) / (Synapse's), and exits with 1 if that is
above the bound. `--rooms` takes another number: Synapse needs minutes to make 1,000.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from homeserver.storage.embedded import EmbeddedPostgres
from tests.interop.synapse import PYTHON_VARIABLE, synapse, synapse_python
from tests.load.measuring import (
    Account,
    Progress,
    check,
    cpu_seconds,
    http_session,
    in_flight,
    register,
    scratch,
    serving,
    text,
)
from tests.support.processes import Homeserver, talk_pai
from tests.support.tls import Authority

BOUND = 1 / 10
ROOMS = 1_000
ROUNDS = 3


def main() -> int:
    """Measures, prints, and says by its exit code whether the bound holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=ROOMS)
    rooms = parser.parse_args().rooms
    python = synapse_python()
    if python is None:
        print(f"There is no Synapse: `make bench` installs one, or {PYTHON_VARIABLE} names a Python that has it.")
        return 1
    with scratch() as directory, synapse_on_postgres(python, directory / "theirs") as theirs:
        ours = talk_pai(directory / "ours" / "server", settings={"presence": {"enabled": False}})
        with serving(ours), serving(theirs):
            cpu = {server.name: asyncio.run(measure(server, rooms)) for server in (ours, theirs)}
    for name, seconds in cpu.items():
        print(f"{name}: initial sync of {rooms} rooms, {seconds:.3f} s of CPU")
    return 0 if check("initial sync, ours / Synapse's", cpu[ours.name] / cpu[theirs.name], BOUND) else 1


@contextmanager
def synapse_on_postgres(python: Path, directory: Path) -> Iterator[Homeserver]:
    """A Synapse, not yet started, with a PostgreSQL that runs meanwhile, everything in one directory."""
    (directory / "authority").mkdir(parents=True)
    server = synapse(python, directory / "synapse", Authority(directory / "authority"))
    database = EmbeddedPostgres(directory / "database")
    url = urlsplit(asyncio.run(database.start()))
    try:
        query = parse_qs(url.query)
        config_file = directory / "synapse" / "homeserver.yaml"
        config = json.loads(config_file.read_text())
        config["database"] = {
            "name": "psycopg2",
            "args": {
                "host": query["host"][0],
                "port": query["port"][0],
                "user": url.username,
                "dbname": url.path.removeprefix("/"),
                "cp_min": 5,
                "cp_max": 10,
            },
        }
        config["rc_room_creation"] = {"per_second": 10_000, "burst_count": 10_000}
        config_file.write_text(json.dumps(config))
        yield server
    finally:
        asyncio.run(database.stop())


async def measure(server: Homeserver, rooms: int) -> float:
    """Seconds of CPU time for an initial sync."""
    async with http_session() as session:
        alice = await register(session, server.url, "alice")
        progress = Progress(f"rooms on {server.name}", rooms)
        await in_flight([partial(make, alice, number, progress) for number in range(rooms)], 8)
        best = float("inf")
        for number in range(ROUNDS):
            filter = json.dumps({"room": {"timeline": {"limit": 10 + number}}})
            before = cpu_seconds(server.process.directory.parent)
            answer = await alice.sync(filter=filter)
            best = min(best, cpu_seconds(server.process.directory.parent) - before)
            if len(answer["rooms"]["join"]) != rooms:
                raise AssertionError("rooms are missing")
    return best


async def make(account: Account, number: int, progress: Progress) -> None:
    """A room with a name, a topic and a message."""
    body = {"preset": "private_chat", "name": f"Room {number}", "topic": f"What number {number} is about"}
    room_id = (await account.call("POST", "/createRoom", body))["room_id"]
    await account.call("PUT", f"/rooms/{room_id}/send/m.room.message/{number}", text(number))
    progress.add()


if __name__ == "__main__":
    sys.exit(main())
