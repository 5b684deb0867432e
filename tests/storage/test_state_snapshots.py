"""Snapshots: any state can be read back, and a change costs a few keys, not the room."""

from __future__ import annotations

import random

from homeserver.storage.state_snapshots import LEVELS, StateSnapshots, difference
from tests.support.rooms import rooms_on


async def test_every_state_reads_back_and_changes_stay_small(database: str) -> None:
    """Over thousands of changes every snapshot equals the state it was made of, at about three keys a change."""
    choose = random.Random(7)
    async with rooms_on(database) as rooms:
        snapshots = StateSnapshots()
        state = {key: key for key in range(1, 501)}
        states: dict[int, dict[int, int]] = {}
        async with rooms.stream.write() as write:
            [previous] = await rooms.stream.new_nids(write.conn, 1)
            await snapshots.write(write.conn, nid=previous, previous=None, delta=state)
            states[previous] = dict(state)
            for step in range(3_000):
                key = choose.randint(1, 600)
                delta = {key: 0} if key in state and choose.random() < 0.1 else {key: 10_000 + step}
                [nid] = await rooms.stream.new_nids(write.conn, 1)
                await snapshots.write(write.conn, nid=nid, previous=previous, delta=delta)
                state = {k: v for k, v in {**state, **delta}.items() if v}
                states[nid] = dict(state)
                previous = nid
                if choose.random() < 0.02:  # another process goes on, or this one after a restart
                    snapshots = StateSnapshots()
        fresh = StateSnapshots()
        async with rooms.pool.acquire() as conn:
            for nid in choose.sample(sorted(states), 150):
                assert await fresh.load(conn, nid) == states[nid]
            stored = await conn.fetchval(
                "SELECT sum(length(delta)) / 12 FROM state_snapshots WHERE snapshot_nid = ANY($1)",
                list(states),
            )
            longest = await conn.fetchval(
                """
                WITH RECURSIVE chain AS (
                    SELECT snapshot_nid, base_nid, 1 AS length FROM state_snapshots WHERE snapshot_nid = $1
                    UNION ALL
                    SELECT s.snapshot_nid, s.base_nid, length + 1 FROM chain JOIN state_snapshots s
                        ON s.snapshot_nid = chain.base_nid
                ) SELECT max(length) FROM chain
                """,
                previous,
            )
        assert stored / len(states) < 4
        assert longest <= sum(LEVELS) + 1


def test_difference_makes_one_state_of_another() -> None:
    """A state with the difference applied is the other state."""
    old, new = {1: 1, 2: 2, 3: 3}, {1: 1, 2: 5, 4: 4}
    assert difference(old, new) == {2: 5, 4: 4, 3: 0}
