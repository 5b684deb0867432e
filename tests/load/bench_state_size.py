"""What state costs on disk in a large room.

`python -m tests.load.bench_state_size` makes a room with 20,000 joined members, then sets 10,000 more pieces of state:
topics, joins of new users, leaves, profile changes. Compared is by how many bytes the tables grow that hold the room's
state: `state_snapshots` (the state before and after any event), `room_state` (from when to when what was state) and
`room_plain_keys` (which keys there are besides members). Each counts whole, as it lies on disk: rows, the free space
between them, indexes, and what is stored outside the rows (TOAST). Tables are vacuumed, plainly, as often as PostgreSQL
does by itself when there is time: when a fifth of the rows has changed. The events themselves do not count, nor what is
there once for each name (`users`, `state_keys`) or each member (`room_members`); how these grow is shown.
"""

from __future__ import annotations

import sys

from homeserver.rooms.timeline import NewEvent
from homeserver.services import Services
from tests.load.measuring import append_all, join_all, make_room, prepared, scratch
from tests.load.report import Report

BOUND = 300.0
MEMBERS = 20_000
FURTHER = 10_000
STEP = 2_500  # between two times that dead rows are cleared away
STATE = ("state_snapshots", "room_state", "room_plain_keys")
BESIDES = ("events", "state_keys", "users", "room_members")


def main() -> int:
    """Measures, prints, and says by its exit status whether the bound holds."""
    report = Report()
    with scratch() as directory:
        _, (before, after) = prepared(directory, fill)
    grown = {table: (after[table] - before[table]) / FURTHER for table in before}
    for table in (*STATE, *BESIDES):
        counted = "" if table in STATE else " (not counted)"
        report.note(f"{table}: {before[table]} bytes, {grown[table]:.0f} more for each state event{counted}")
    report.check("bytes of state for each further state event", sum(grown[table] for table in STATE), BOUND)
    return report.finish()


async def fill(services: Services) -> tuple[dict[str, int], dict[str, int]]:
    """Makes the room; the sizes of the tables before and after the further state."""
    room = await make_room(services, "alice")
    await join_all(services, room, [f"user{number}" for number in range(MEMBERS - 1)])
    before = after = await sizes(services)
    for start in range(0, FURTHER, STEP):
        events = [further(services, number) for number in range(start, start + STEP)]
        await append_all(services, room, events, "further state", at_once=1)
        after = await sizes(services)
    return before, after


def further(services: Services, number: int) -> NewEvent:
    """One more change of the room's state."""
    server = services.server_name
    match number % 4:
        case 0:
            return NewEvent("m.room.topic", f"@alice:{server}", {"topic": f"Topic {number}"}, "")
        case 1:
            user_id = f"@new{number}:{server}"
            return NewEvent("m.room.member", user_id, {"membership": "join"}, user_id)
        case 2:
            user_id = f"@user{number}:{server}"
            return NewEvent("m.room.member", user_id, {"membership": "leave"}, user_id)
        case _:
            user_id = f"@user{number}:{server}"
            return NewEvent("m.room.member", user_id, {"membership": "join", "displayname": f"{number}"}, user_id)


async def sizes(services: Services) -> dict[str, int]:
    """The bytes of each table, once vacuumed, with its indexes and what is stored outside its rows."""
    found = {}
    async with services.pool.acquire() as conn:
        for table in (*STATE, *BESIDES):
            await conn.execute(f"VACUUM {table}")
            found[table] = await conn.fetchval("SELECT pg_total_relation_size($1::regclass)", table)
    return found


if __name__ == "__main__":
    sys.exit(main())
