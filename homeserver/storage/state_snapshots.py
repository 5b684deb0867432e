"""States of rooms, stored as deltas in levels, shared by all events that have the same state before them.

A snapshot is a delta against a base. Deltas form three levels: a chain of up to 25 small ones, each against the one
before; then one against the head of the level above, of which up to 50 follow one another; then one against the top
level, up to 100 long; then a whole state again. So a change costs about three keys of storage, and a read merges at
most 175 rows, however large the room. A row says its level and no more: where a snapshot stands in the levels follows
from the chain of its bases, which is walked where it is not remembered.

A state here is a dict of state_key_nid -> event_nid. In a stored delta an event nid of 0 says that the key is gone.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from homeserver.storage.names import BoundedCache
from homeserver.storage.stream import Connection

State: TypeAlias = dict[int, int]

LEVELS = (100, 50, 25)
_WHOLE = -1  # the level of a snapshot without base
_ENTRY = struct.Struct(">HIHI")  # two numbers of six bytes


class _Place(NamedTuple):
    """Where a snapshot stands: for each level the snapshot that the next delta is against, and how many there are."""

    heads: tuple[int, ...]
    lengths: tuple[int, ...]

    def after(self, nid: int, level: int) -> _Place:
        """The place of snapshot `nid`, if it is the next of that level."""
        heads = self.heads[:level] + (nid,) * (3 - level)
        lengths = (*self.lengths[:level], self.lengths[level] + 1) + (0,) * (2 - level)
        return _Place(heads, lengths)


class StateSnapshots:
    """Reads and writes snapshots, remembering what was read.

    Snapshots never change, so memory can't be stale; one whose transaction was rolled back is remembered under a number
    that nothing refers to.
    """

    def __init__(self, size: int = 1_000) -> None:
        self._states: BoundedCache[int, State] = BoundedCache(size)
        self._places: BoundedCache[int, _Place] = BoundedCache(10 * size)

    async def load(self, conn: Connection, snapshot_nid: int | None) -> State:
        """The whole state of a snapshot; don't modify it. None is the empty state before the create event."""
        if snapshot_nid is None:
            return {}
        state = self._states.get(snapshot_nid)
        if state is None:
            state = await _read(conn, snapshot_nid, stop_at=None)
            self._states.set(snapshot_nid, state)
        return state

    async def write(self, conn: Connection, *, nid: int, previous: int | None, delta: Mapping[int, int]) -> None:
        """Stores the state that `previous` becomes with `delta` (0: the key goes) as snapshot `nid`."""
        place = await self._place(conn, previous) if previous is not None else None
        if place is not None:
            for level in (2, 1, 0):
                if place.lengths[level] < LEVELS[level]:
                    base = place.heads[level]
                    stored = dict(delta)
                    if base != previous:
                        stored = await _read(conn, previous, stop_at=base, keep_gone=True) | stored
                    self._places.set(nid, place.after(nid, level))
                    await _insert(conn, nid, base, level, stored)
                    return
        whole = {**await self.load(conn, previous), **delta}
        self._places.set(nid, _Place((nid,) * 3, (0, 0, 0)))
        await _insert(conn, nid, None, _WHOLE, _without_gone(whole))

    async def _place(self, conn: Connection, nid: int) -> _Place:
        place = self._places.get(nid)
        if place is None:
            place = await _walk(conn, nid)
            self._places.set(nid, place)
        return place


def difference(old: Mapping[int, int], new: Mapping[int, int]) -> State:
    """The delta that makes `new` of `old`, with 0 for keys that go."""
    delta = {key: nid for key, nid in new.items() if old.get(key) != nid}
    delta.update((key, 0) for key in old.keys() - new.keys())
    return delta


def _without_gone(state: Mapping[int, int]) -> State:
    return {key: nid for key, nid in state.items() if nid}


def _encode(delta: Mapping[int, int]) -> bytes:
    pack = _ENTRY.pack
    return b"".join([pack(key >> 32, key & 0xFFFFFFFF, nid >> 32, nid & 0xFFFFFFFF) for key, nid in delta.items()])


def _decode(delta: bytes) -> State:
    return {a << 32 | b: c << 32 | d for a, b, c, d in _ENTRY.iter_unpack(delta)}


async def _walk(conn: Connection, snapshot_nid: int) -> _Place:
    """The place of a snapshot, from the chain of its bases."""
    rows = await conn.fetch(
        """
        WITH RECURSIVE chain AS (
            SELECT snapshot_nid, base_nid, level, 0 AS distance FROM state_snapshots WHERE snapshot_nid = $1
            UNION ALL
            SELECT s.snapshot_nid, s.base_nid, s.level, chain.distance + 1
              FROM chain JOIN state_snapshots s ON s.snapshot_nid = chain.base_nid
        )
        SELECT snapshot_nid, level FROM chain ORDER BY distance
        """,
        snapshot_nid,
    )
    heads = (next(row["snapshot_nid"] for row in rows if row["level"] <= level) for level in range(3))
    lengths = (sum(row["level"] == level for row in rows) for level in range(3))
    return _Place(tuple(heads), tuple(lengths))


async def _read(conn: Connection, snapshot_nid: int | None, *, stop_at: int | None, keep_gone: bool = False) -> State:
    """Merges the deltas from `snapshot_nid` down to its whole state, or down to but without `stop_at`."""
    rows = await conn.fetch(
        """
        WITH RECURSIVE chain AS (
            SELECT base_nid, delta, 0 AS distance FROM state_snapshots WHERE snapshot_nid = $1
            UNION ALL
            SELECT s.base_nid, s.delta, chain.distance + 1
              FROM chain JOIN state_snapshots s ON s.snapshot_nid = chain.base_nid
             WHERE chain.base_nid IS DISTINCT FROM $2
        )
        SELECT delta FROM chain ORDER BY distance DESC
        """,
        snapshot_nid,
        stop_at,
    )
    merged: State = {}
    for row in rows:
        merged.update(_decode(row["delta"]))
    return merged if keep_gone else _without_gone(merged)


async def _insert(conn: Connection, nid: int, base: int | None, level: int, delta: Mapping[int, int]) -> None:
    await conn.execute(
        "INSERT INTO state_snapshots (snapshot_nid, base_nid, level, delta) VALUES ($1, $2, $3, $4)",
        nid,
        base,
        level,
        _encode(delta),
    )
