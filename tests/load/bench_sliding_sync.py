"""What sliding sync costs a user of many rooms.

`python -m tests.load.bench_sliding_sync` makes a user with 20 rooms and one with 2,000, of ten members and some
messages each, and has both ask as Element X does at its start: a new connection with the first 20 rooms, their newest
event, the state that it wants, account data, receipts and typing. Compared is the CPU time of server and PostgreSQL for
that. Besides, without a bound: what the next response costs after a message in one of the 20 rooms, the window having
grown over all rooms.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from homeserver.protocol.events import JsonObject
from homeserver.rooms.timeline import NewEvent
from homeserver.services import Services
from homeserver.storage.account_data import put_account_data
from tests.client_api.test_sliding_sync import room_list
from tests.load.measuring import (
    Account,
    cpu_in_turn,
    http_session,
    join_of,
    make_room,
    prepared,
    register,
    scratch,
    send,
    serving,
    text,
)
from tests.load.report import Progress, Report, milliseconds
from tests.support.processes import Homeserver

BOUND = 2.0
ROOMS = {"few": 20, "many": 2_000}
MEMBERS = 10
MESSAGES = 3
ROUNDS = 20
CALLS = 10  # of each kind a round
_PREFIX = "/_matrix/client/unstable/org.matrix.simplified_msc3575"


@dataclass
class Connection:
    """A connection of one device, and where it is."""

    account: Account
    pos: str | None = None
    rooms: set[str] = field(default_factory=set)  # those of the last response

    async def ask(self, body: JsonObject) -> None:
        """The next response of the connection."""
        query = {} if self.pos is None else {"pos": self.pos}
        answer: Any = await self.account.call("POST", "/sync", body, query, prefix=_PREFIX)
        self.pos, self.rooms = answer["pos"], set(answer["rooms"])


def main() -> int:
    """Measures, prints, and says by its exit status whether the bound holds."""
    report = Report()
    with scratch() as directory:
        server, rooms = prepared(directory, fill)
        with serving(server):
            asyncio.run(measure(report, server, rooms))
    return report.finish()


async def fill(services: Services) -> dict[str, str]:
    """Makes the rooms; for each user the id of one."""
    progress = Progress("rooms", sum(ROOMS.values()))
    rooms: dict[str, str] = {}
    for name, number in ROOMS.items():
        for count in range(number):
            rooms[name] = await fill_room(services, name, count)
            progress.add()
    return rooms


async def fill_room(services: Services, name: str, count: int) -> str:
    """A room that the user has made, with members, a few messages and data of the user's own; its id."""
    joins = [join_of(services, f"member{number}") for number in range(MEMBERS - 1)]
    said = [NewEvent("m.room.message", joins[number].sender, text(count)) for number in range(MESSAGES)]
    room = await make_room(services, name, f"Room {count}", [*joins, *said])
    user_nid = await services.timeline.names.user_nid(f"@{name}:{services.server_name}")
    async with services.stream.write() as write:
        pos = await write.next_position()
        read = b'{"event_id": "$x"}'
        await put_account_data(write.conn, user_nid, "m.fully_read", read, pos, room_nid=room.nid)
    return room.room_id


async def measure(report: Report, server: Homeserver, rooms: dict[str, str]) -> None:
    """All measurements."""
    async with http_session() as session:
        phones = {name: Connection(await register(session, server.url, name)) for name in rooms}
        colds = {name: partial(first_rooms, phone) for name, phone in phones.items()}
        cold = await cpu_in_turn(server, colds, rounds=ROUNDS, calls=CALLS)
        few, many = ROOMS["few"], ROOMS["many"]
        report.note(
            f"the first 20 rooms: of {few} {milliseconds(cold['few'])}, of {many} {milliseconds(cold['many'])} of CPU"
        )
        report.check_ratio(f"cold sliding sync of 20 rooms of {many} / of {few}", cold["many"], cold["few"], BOUND)
        for phone in phones.values():
            await phone.ask(room_list(many))
        warms = {name: partial(next_message, phone, rooms[name]) for name, phone in phones.items()}
        warm = await cpu_in_turn(server, warms, rounds=ROUNDS, calls=CALLS)
        report.note(
            f"a message and the response that tells it: one of {few} rooms {milliseconds(warm['few'])}, "
            f"of {many} {milliseconds(warm['many'])} of CPU"
        )


async def first_rooms(phone: Connection) -> None:
    phone.pos = None
    await phone.ask(room_list(19))
    if len(phone.rooms) != 20:
        raise AssertionError("there should be 20 rooms")


async def next_message(phone: Connection, room_id: str) -> None:
    await send(phone.account, room_id)
    await phone.ask(room_list(ROOMS["many"]))
    if phone.rooms != {room_id}:
        raise AssertionError("there should be one room")


if __name__ == "__main__":
    sys.exit(main())
