"""What the first sync of an account in many rooms costs, here and on Synapse.

`python -m tests.load.bench_initial_sync` makes on both servers, over HTTP, an account that is in 1,000 rooms (made with
a name and a topic, one message in each) and syncs it from nothing, each time with another filter so that nobody answers
from memory of answers. Synapse has a PostgreSQL of its own with the settings that ours comes with. The two sync in
turn; compared is the CPU time of server and PostgreSQL. `--rooms` takes another number: Synapse takes minutes to make
them.
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
    cpu_seconds,
    http_session,
    in_flight,
    register,
    scratch,
    serving,
    text,
)
from tests.load.report import Progress, Report, milliseconds
from tests.support.processes import Homeserver, talk_pai
from tests.support.tls import Authority

BOUND = 1 / 10
ROOMS = 1_000
ROUNDS = 5


def main() -> int:
    """Measures, prints, and says by its exit status whether the bound holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=ROOMS)
    rooms = parser.parse_args().rooms
    python = synapse_python()
    if python is None:
        print(f"There is no Synapse: `make bench` installs one, or {PYTHON_VARIABLE} names a Python that has it.")
        return 1
    report = Report()
    with scratch() as directory, synapse_on_postgres(python, directory / "theirs") as theirs:
        ours = talk_pai(directory / "ours" / "server", settings={"presence": {"enabled": False}})
        with serving(ours), serving(theirs):
            cpu = asyncio.run(measure([ours, theirs], rooms))
    for name, seconds in cpu.items():
        report.note(f"{name}: {milliseconds(seconds)} of CPU for the first sync of {rooms} rooms")
    report.check_ratio(f"first sync of {rooms} rooms, ours / Synapse's", cpu[ours.name], cpu[theirs.name], BOUND)
    return report.finish()


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


async def measure(servers: list[Homeserver], rooms: int) -> dict[str, list[float]]:
    """Seconds of CPU time for a first sync on each server, by rounds."""
    async with http_session() as session:
        accounts = {server.name: await register(session, server.url, "alice") for server in servers}
        for name, account in accounts.items():
            progress = Progress(f"rooms on {name}", rooms)
            await in_flight([partial(make, account, number, progress) for number in range(rooms)], 8)
        took: dict[str, list[float]] = {name: [] for name in accounts}
        progress = Progress("rounds", ROUNDS)
        for number in range(-1, ROUNDS):  # the first warms up
            filter = json.dumps({"room": {"timeline": {"limit": 10 + number}}})
            for server in servers:
                before = cpu_seconds(server.process.directory.parent)
                answer = await accounts[server.name].sync(filter=filter)
                if number >= 0:
                    took[server.name].append(cpu_seconds(server.process.directory.parent) - before)
                if len(answer["rooms"]["join"]) != rooms:
                    raise AssertionError("rooms are missing")
            if number >= 0:
                progress.add()
    return took


async def make(account: Account, number: int, progress: Progress) -> None:
    """A room with a name, a topic and a message."""
    body = {"preset": "private_chat", "name": f"Room {number}", "topic": f"What number {number} is about"}
    room_id = (await account.call("POST", "/createRoom", body))["room_id"]
    await account.call("PUT", f"/rooms/{room_id}/send/m.room.message/{number}", text(number))
    progress.add()


if __name__ == "__main__":
    sys.exit(main())
