"""What a page of a long history costs at any depth.

`python -m tests.load.bench_history` makes a room with 50,000 events and asks over HTTP for pages of 100 events: the
newest ones, and those at five depths down to the oldest, in turn. Compared is the CPU time of server and PostgreSQL for
a page of each depth with that for the newest page.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial

from homeserver.services import Services
from homeserver.sync.tokens import place_token
from tests.load.measuring import (
    Account,
    append_all,
    cpu_in_turn,
    http_session,
    make_room,
    messages_of,
    prepared,
    register,
    scratch,
    serving,
)
from tests.load.report import Report, milliseconds
from tests.support.processes import Homeserver

BOUND = 1.5
EVENTS = 50_000
LIMIT = 100
DEPTHS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.997)
PAGES = 60  # of each depth a round
ROUNDS = 12


def main() -> int:
    """Measures, prints, and says by its exit status whether the bound holds."""
    report = Report()
    with scratch() as directory:
        server, (room_id, tokens) = prepared(directory, fill)
        with serving(server):
            cpu = asyncio.run(measure(server, room_id, tokens))
    newest = cpu[0.0]
    report.note(f"newest page of {LIMIT} in {EVENTS} events: {milliseconds(newest)} of CPU")
    for depth in DEPTHS[1:]:
        report.check_ratio(f"/messages at {depth:.1%} depth / newest", cpu[depth], newest, BOUND)
    return report.finish()


async def fill(services: Services) -> tuple[str, dict[float, str]]:
    """Makes the room; its id, and for each depth the token to read backwards from."""
    room = await make_room(services, "alice")
    await append_all(services, room, messages_of(services, "alice", EVENTS), "events")
    rows = await services.pool.fetch("SELECT ord FROM events WHERE room_nid = $1 ORDER BY ord DESC", room.nid)
    return room.room_id, {depth: place_token(rows[int(EVENTS * depth)]["ord"]) for depth in DEPTHS}


async def measure(server: Homeserver, room_id: str, tokens: dict[float, str]) -> dict[float, list[float]]:
    """Seconds of CPU time for a page of each depth, by rounds."""
    async with http_session() as session:
        alice = await register(session, server.url, "alice")
        acts = {depth: partial(page, alice, room_id, token) for depth, token in tokens.items()}
        return await cpu_in_turn(server, acts, rounds=ROUNDS, calls=PAGES)


async def page(account: Account, room_id: str, token: str) -> None:
    query = {"dir": "b", "limit": str(LIMIT), "from": token}
    answer = await account.call("GET", f"/rooms/{room_id}/messages", query=query)
    if len(answer["chunk"]) != LIMIT:
        raise AssertionError("the page is not full")


if __name__ == "__main__":
    sys.exit(main())
