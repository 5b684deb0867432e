"""What state costs on disk in a large room.

`python -m tests.load.bench_state_size` makes a room with 20,000 joined members, then sets 2,000 more pieces of state:
profile changes, joins, leaves, topics. It prints by how many bytes the tables that hold the room's state over time
(state_snapshots, room_state) grow for each, indexes included. Exits with 1 if that is above the bound.
"""

from __future__ import annotations

import sys

from homeserver.rooms.timeline import NewEvent
from homeserver.services import Services
from tests.load.measuring import append_all, check, join_all, make_room, prepared, scratch

BOUND = 300.0
MEMBERS = 20_000
FURTHER = 2_000
TABLES = ("state_snapshots", "room_state")


def main() -> int:
    """Measures, prints, and says by its exit code whether the bound holds."""
    with scratch() as directory:
        _, (before, after) = prepared(directory, fill)
    for table in TABLES:
        grown = after[table] - before[table]
        print(f"  {table}: {before[table]} bytes with {MEMBERS} members, {grown / FURTHER:.0f} more a state event")
    total = sum(after.values()) - sum(before.values())
    return 0 if check("bytes of state a further state event", total / FURTHER, BOUND) else 1


async def fill(services: Services) -> tuple[dict[str, int], dict[str, int]]:
    """Makes the room; the sizes of the tables before and after the further state."""
    room = await make_room(services, "alice")
    await join_all(services, room, [f"user{number}" for number in range(MEMBERS - 1)])
    before = await sizes(services)
    await append_all(services, room, [further(services, number) for number in range(FURTHER)], "further state")
    return before, await sizes(services)


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
    """The bytes of each table with its indexes and what is stored outside its rows, without space to be reused."""
    found = {}
    async with services.pool.acquire() as conn:
        for table in TABLES:
            await conn.execute(f"VACUUM FULL {table}")
            found[table] = await conn.fetchval("SELECT pg_total_relation_size($1::regclass)", table)
    return found


if __name__ == "__main__":
    sys.exit(main())
