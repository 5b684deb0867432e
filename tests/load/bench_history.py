"""What a page of a long history costs at any depth.

`python -m tests.load.bench_history` makes a room with 50,000 events and asks over HTTP for pages of 100 events: the
newest ones, and those at five depths down to the oldest, in turn. It prints the CPU time of server and PostgreSQL for
a page of each depth, and its ratio to that of the newest page. Exits with 1 if one is above the bound.
"""

from __future__ import annotations

import asyncio
import sys

from homeserver.services import Services
from homeserver.sync.tokens import place_token
from tests.load.measuring import (
    append_all,
    check,
    cpu_seconds,
    http_session,
    make_room,
    messages_of,
    prepared,
    register,
    scratch,
    serving,
)
from tests.support.processes import Homeserver

BOUND = 1.5
EVENTS = 50_000
LIMIT = 100
DEPTHS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.997)
PAGES = 20  # of each depth a round
ROUNDS = 15


def main() -> int:
    """Measures, prints, and says by its exit code whether the bound holds."""
    with scratch() as directory:
        server, (room_id, tokens) = prepared(directory, fill)
        with serving(server):
            cpu = asyncio.run(measure(server, room_id, tokens))
    newest = cpu[0.0]
    print(f"newest page of {LIMIT} in {EVENTS} events: {newest * 1e3:.2f} ms of CPU")
    holds = [check(f"page at {depth:.0%} depth / newest", cpu[depth] / newest, BOUND) for depth in DEPTHS[1:]]
    return 0 if all(holds) else 1


async def fill(services: Services) -> tuple[str, dict[float, str]]:
    """Makes the room; its id, and for each depth the token to read backwards from."""
    room = await make_room(services, "alice")
    await append_all(services, room, messages_of(services, "alice", EVENTS), "events")
    rows = await services.pool.fetch("SELECT ord FROM events WHERE room_nid = $1 ORDER BY ord DESC", room.nid)
    return room.room_id, {depth: place_token(rows[int(EVENTS * depth)]["ord"]) for depth in DEPTHS}


async def measure(server: Homeserver, room_id: str, tokens: dict[float, str]) -> dict[float, float]:
    """Seconds of CPU time for a page of each depth."""
    total = dict.fromkeys(tokens, 0.0)
    async with http_session() as session:
        alice = await register(session, server.url, "alice")
        for number in range(-1, ROUNDS):  # the first warms up
            for depth, token in tokens.items():
                before = cpu_seconds(server.process.directory)
                for _ in range(PAGES):
                    query = {"dir": "b", "limit": str(LIMIT), "from": token}
                    page = await alice.call("GET", f"/rooms/{room_id}/messages", query=query)
                    if len(page["chunk"]) != LIMIT:
                        raise AssertionError("the page is not full")
                if number >= 0:
                    total[depth] += cpu_seconds(server.process.directory) - before
    return {depth: seconds / ROUNDS / PAGES for depth, seconds in total.items()}


if __name__ == "__main__":
    sys.exit(main())
