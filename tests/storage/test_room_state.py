"""The state as members are told it: what it is, was, and what changed between, from one table."""

from __future__ import annotations

import random

from homeserver.storage.room_state import (
    StateChange,
    current_state,
    key_history,
    state_at,
    state_changed_between,
    write_state_changes,
)
from tests.support.rooms import rooms_on


async def test_state_at_any_position_and_changes_between_any_two(database: str) -> None:
    """Reads agree with a history kept naively, whatever was changed, taken away and brought back, in any batches."""
    choose = random.Random(3)
    async with rooms_on(database) as rooms:
        room = await rooms.create()
        keys = list((await rooms.timeline.names.state_key_nids([("org.example", str(n)) for n in range(12)])).values())
        history: list[dict[int, int]] = [{}]
        pos = base = 1_000_000
        async with rooms.pool.acquire() as conn:
            while len(history) < 300:
                batch = []
                for _ in range(choose.randint(1, 6)):
                    pos += 1
                    change = StateChange(choose.choice(keys), choose.choice([0, pos, pos]), pos)
                    batch.append(change)
                    state = dict(history[-1])
                    if change.event_nid:
                        state[change.state_key_nid] = change.event_nid
                    else:
                        state.pop(change.state_key_nid, None)
                    history.append(state)
                await write_state_changes(conn, room.nid, batch)
            assert await current_state(conn, room.nid, keys) == history[-1]
            for _ in range(60):
                first, second = sorted(choose.sample(range(len(history)), 2))
                assert await state_at(conn, room.nid, base + first, keys) == history[first]
                changed = await state_changed_between(conn, room.nid, base + first, base + second)
                assert {k: v for k, v in changed.items() if k in keys} == {
                    key: nid for key, nid in history[second].items() if history[first].get(key) != nid
                }
            for key, spans in (await key_history(conn, room.nid, keys)).items():
                for begin, end, event_nid in spans:
                    assert history[begin - base][key] == event_nid
                    assert end > begin
