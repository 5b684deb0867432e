"""States of rooms, stored as deltas in levels, shared by all events that have the same state before them.

A snapshot is a delta against a base. Deltas form three levels: a chain of up to 25 small ones, each against the one
before; then one against the head of the level above, of which up to 50 follow one another; then one against the top
level, up to 100 long; then a whole state again. So a change costs about three keys of storage, and a read merges at
most 175 rows, however large the room.

A state here is a dict of state_key_nid -> event_nid. In a stored delta an event nid of 0 says that the key is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from homeserver.storage.names import BoundedCache
from homeserver.storage.stream import Connection

State: TypeAlias = dict[int, int]

LEVELS = (100, 50, 25)


class StateSnapshots:
    """Reads and writes snapshots, remembering what was read.

    Snapshots never change, so memory can't be stale; one whose transaction was rolled back is remembered under a number
    that nothing refers to.
    """

    def __init__(self, size: int = 1_000) -> None:
        self._states: BoundedCache[int, State] = BoundedCache(size)

    async def load(self, conn: Connection, snapshot_nid: int | None) -> State:
        """The whole state of a snapshot; don't modify it. None is the empty state before the create event."""
        if snapshot_nid is None:
            return {}
        state = self._states.get(snapshot_nid)
        if state is None:
            state = await _read(conn, snapshot_nid, stop_at=None)
            self._states.set(snapshot_nid, state)
        return state

    async def write(
        self, conn: Connection, *, nid: int, room_nid: int, previous: int | None, delta: Mapping[int, int]
    ) -> None:
        """Stores the state that `previous` becomes with `delta` (0: the key goes) as snapshot `nid`."""
        row = await conn.fetchrow("SELECT heads, lengths FROM state_snapshots WHERE snapshot_nid = $1", previous)
        if row is None:
            await _insert(conn, nid, room_nid, None, [nid] * 3, [0] * 3, _without_gone(delta))
            return
        heads, lengths = list(row["heads"]), list(row["lengths"])
        for level in (2, 1, 0):
            if lengths[level] < LEVELS[level]:
                base = heads[level]
                stored = dict(delta)
                if base != previous:
                    assert previous is not None
                    stored = await _read(conn, previous, stop_at=base, keep_gone=True) | stored
                heads[level:] = [nid] * (3 - level)
                lengths[level:] = [lengths[level] + 1] + [0] * (2 - level)
                await _insert(conn, nid, room_nid, base, heads, lengths, stored)
                return
        whole = {**await self.load(conn, previous), **delta}
        await _insert(conn, nid, room_nid, None, [nid] * 3, [0] * 3, _without_gone(whole))


def difference(old: Mapping[int, int], new: Mapping[int, int]) -> State:
    """The delta that makes `new` of `old`, with 0 for keys that go."""
    delta = {key: nid for key, nid in new.items() if old.get(key) != nid}
    delta.update((key, 0) for key in old.keys() - new.keys())
    return delta


def _without_gone(state: Mapping[int, int]) -> State:
    return {key: nid for key, nid in state.items() if nid}


async def _read(conn: Connection, snapshot_nid: int, *, stop_at: int | None, keep_gone: bool = False) -> State:
    """Merges the deltas from `snapshot_nid` down to its whole state, or down to but without `stop_at`."""
    rows = await conn.fetch(
        """
        WITH RECURSIVE chain AS (
            SELECT base_nid, state_key_nids, event_nids, 0 AS distance
              FROM state_snapshots WHERE snapshot_nid = $1
            UNION ALL
            SELECT s.base_nid, s.state_key_nids, s.event_nids, chain.distance + 1
              FROM chain JOIN state_snapshots s ON s.snapshot_nid = chain.base_nid
             WHERE chain.base_nid IS DISTINCT FROM $2
        )
        SELECT state_key_nids, event_nids FROM chain ORDER BY distance DESC
        """,
        snapshot_nid,
        stop_at,
    )
    merged: State = {}
    for row in rows:
        merged.update(zip(row["state_key_nids"], row["event_nids"], strict=True))
    return merged if keep_gone else _without_gone(merged)


async def _insert(
    conn: Connection,
    nid: int,
    room_nid: int,
    base: int | None,
    heads: list[int],
    lengths: list[int],
    delta: Mapping[int, int],
) -> None:
    await conn.execute(
        "INSERT INTO state_snapshots (snapshot_nid, room_nid, base_nid, heads, lengths, state_key_nids, event_nids) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7)",
        nid,
        room_nid,
        base,
        heads,
        lengths,
        list(delta),
        list(delta.values()),
    )
