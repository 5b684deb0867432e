"""What a message costs over HTTP: in a room with many members as against one with few, and with many in flight.

`python -m tests.load.bench_send` makes rooms with 10 and with 10,000 members of this server, of whom either everyone
has the predefined push rules, or they are a mixed crowd: one in twenty has silenced the room, one in twenty another
room, one in fifty listens to one of twenty words. It sends messages to them in turn, one at a time, and compares the
CPU time of server and PostgreSQL for a message. Then it compares a sync of a member of the large crowd who has read
nothing of all that with one of a member who has read all but the last message: unread messages are not counted one by
one. Last it sends to the small room 64 at a time; that has no bound here.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.push_rule_edits import put_rule
from homeserver.protocol.push_rules import UserRules
from homeserver.services import Services
from tests.load.measuring import (
    Account,
    cpu_in_turn,
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
from tests.load.report import Report, milliseconds
from tests.support.processes import Homeserver

BOUND = 1.5
SMALL, LARGE = 10, 10_000
SENDS = 100  # to each room a round
ROUNDS = 10
SYNCS = 30
IN_FLIGHT = 64
MANY = 6_000
CROWDS = ("predefined rules", "mixed rules")
Crowd = tuple[str, int]  # of CROWDS, and how many


def main() -> int:
    """Measures, prints, and says by its exit status whether the bounds hold."""
    report = Report()
    with scratch() as directory:
        server, rooms = prepared(directory, fill)
        with serving(server):
            asyncio.run(measure(report, server, rooms))
    return report.finish()


async def fill(services: Services) -> dict[Crowd, str]:
    """The ids of rooms, which are all alice's."""
    rooms: dict[Crowd, str] = {}
    for kind in CROWDS:
        for size in (SMALL, LARGE):
            room = await make_room(services, "alice", f"{size} {kind}")
            await join_all(services, room, [member(kind, size, number) for number in range(size - 1)])
            rooms[kind, size] = room.room_id
            if kind == "mixed rules":
                await mix(services, size, room.room_id)
    return rooms


def member(kind: str, size: int, number: int) -> str:
    return f"{kind.split()[0]}{size}x{number}"


async def mix(services: Services, size: int, room_id: str) -> None:
    """Gives the members of the room rules of their own."""
    ids = [f"@{member('mixed rules', size, number)}:{services.server_name}" for number in range(size - 1)]
    nids = await services.timeline.names.user_nids(ids)
    rules = [(nids[user_id], rules_of(number, room_id)) for number, user_id in enumerate(ids)]
    async with services.stream.write() as write:
        pos = await write.next_position()
        await write.conn.executemany(
            "INSERT INTO push_rules (user_nid, rules, pos) VALUES ($1, $2, $3)",
            [(nid, encode_json(dict(each)), pos) for nid, each in rules if each],
        )


def rules_of(number: int, room_id: str) -> UserRules:
    """The rules of one of a mixed crowd."""
    if number % 20 == 0:
        return put_rule({}, "room", room_id, {"actions": []})
    if number % 20 == 1:
        return put_rule({}, "room", f"!other{number}:elsewhere.example", {"actions": []})
    if number % 50 == 2:
        word = f"word{number // 50 % 20}"
        return put_rule({}, "content", word, {"pattern": word, "actions": ["notify"]})
    return {}


async def measure(report: Report, server: Homeserver, rooms: dict[Crowd, str]) -> None:
    """All measurements."""
    async with http_session() as session:
        alice = await register(session, server.url, "alice")
        sends = {crowd: partial(send, alice, room_id) for crowd, room_id in rooms.items()}
        cpu = await cpu_in_turn(server, sends, rounds=ROUNDS, calls=SENDS)
        for kind in CROWDS:
            small, large = cpu[kind, SMALL], cpu[kind, LARGE]
            report.note(f"a send, {kind}: {SMALL} members {milliseconds(small)}, {LARGE} {milliseconds(large)} of CPU")
            report.check_ratio(f"send among {LARGE} / {SMALL} members, {kind}", large, small, BOUND)
        busy = rooms["mixed rules", LARGE]
        readers = [await register(session, server.url, member("mixed rules", LARGE, number)) for number in (3, 4)]
        newest = (await alice.call("GET", f"/rooms/{busy}/messages", query={"dir": "b", "limit": "2"}))["chunk"]
        await readers[0].call("POST", f"/rooms/{busy}/receipt/m.read/{newest[1]['event_id']}", {})
        syncs = dict(zip(("read", "unread"), (partial(sync_room, reader, busy) for reader in readers), strict=True))
        counts = [await act() for act in syncs.values()]
        cpu_of_syncs = await cpu_in_turn(server, syncs, rounds=ROUNDS, calls=SYNCS)
        what = f"sync with {counts[1]} unread / {counts[0]} unread"
        report.check_ratio(what, cpu_of_syncs["unread"], cpu_of_syncs["read"], BOUND)
        before, started = cpu_seconds(server.process.directory), time.perf_counter()
        calls: list[Callable[[], Awaitable[Any]]] = [partial(send, alice, rooms[CROWDS[0], SMALL])] * MANY
        await in_flight(calls, IN_FLIGHT)
        took, spent = time.perf_counter() - started, cpu_seconds(server.process.directory) - before
        each = spent / MANY * 1e3
        report.note(f"{IN_FLIGHT} in flight: {MANY / took:.0f} sends/s beside their client, {each:.2f} ms of CPU each")


async def sync_room(account: Account, room_id: str) -> int:
    """The first sync of an account, of one room without its state; how many unread messages it tells of."""
    room = {"rooms": [room_id], "timeline": {"limit": 1}, "state": {"types": []}}
    answer = await account.sync(filter=json.dumps({"room": room}))
    unread: int = answer["rooms"]["join"][room_id]["unread_notifications"]["notification_count"]
    return unread


if __name__ == "__main__":
    sys.exit(main())
