"""The state of rooms as their members here are told it: what it is now, what it was, what changed between.

Each row held over a range of positions, so every one of these questions is one indexed read. This is a straight line
even where the DAG forks: what the resolution of a fork changed stands here under the position of the event that
brought it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from homeserver.storage.stream import Connection

FOREVER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class StateChange:
    """From `pos` on, the key's event is `event_nid`; 0 says that the key is gone."""

    state_key_nid: int
    event_nid: int
    pos: int


async def current_state(
    conn: Connection, room_nid: int, state_key_nids: Collection[int] | None = None
) -> dict[int, int]:
    """state_key_nid -> event_nid, for these keys or for all."""
    if state_key_nids is None:
        rows = await conn.fetch(
            "SELECT state_key_nid, event_nid FROM room_state WHERE room_nid = $1 AND to_pos = 9223372036854775807",
            room_nid,
        )
    else:
        rows = await conn.fetch(
            "SELECT state_key_nid, event_nid FROM room_state "
            "WHERE room_nid = $1 AND state_key_nid = ANY($2) AND to_pos = 9223372036854775807",
            room_nid,
            list(state_key_nids),
        )
    return {row["state_key_nid"]: row["event_nid"] for row in rows}


async def state_at(
    conn: Connection, room_nid: int, pos: int, state_key_nids: Collection[int] | None = None
) -> dict[int, int]:
    """state_key_nid -> event_nid as it was just after position `pos`, for these keys or for all."""
    rows = await conn.fetch(
        "SELECT state_key_nid, event_nid FROM room_state "
        "WHERE room_nid = $1 AND from_pos <= $2 AND to_pos > $2 AND ($3::bigint[] IS NULL OR state_key_nid = ANY($3))",
        room_nid,
        pos,
        None if state_key_nids is None else list(state_key_nids),
    )
    return {row["state_key_nid"]: row["event_nid"] for row in rows}


async def state_changed_between(conn: Connection, room_nid: int, after: int, until: int) -> dict[int, int]:
    """The keys whose event at `until` began after `after`: state_key_nid -> event_nid."""
    rows = await conn.fetch(
        "SELECT state_key_nid, event_nid FROM room_state "
        "WHERE room_nid = $1 AND from_pos > $2 AND from_pos <= $3 AND to_pos > $3",
        room_nid,
        after,
        until,
    )
    return {row["state_key_nid"]: row["event_nid"] for row in rows}


async def key_history(
    conn: Connection, room_nid: int, state_key_nids: Collection[int]
) -> dict[int, list[tuple[int, int, int]]]:
    """For each key all that it ever was: [(from_pos, to_pos, event_nid), …] in order."""
    rows = await conn.fetch(
        "SELECT state_key_nid, from_pos, to_pos, event_nid FROM room_state "
        "WHERE room_nid = $1 AND state_key_nid = ANY($2) ORDER BY from_pos",
        room_nid,
        list(state_key_nids),
    )
    history: dict[int, list[tuple[int, int, int]]] = {key: [] for key in state_key_nids}
    for row in rows:
        history[row["state_key_nid"]].append((row["from_pos"], row["to_pos"], row["event_nid"]))
    return history


async def write_state_changes(conn: Connection, room_nid: int, changes: Sequence[StateChange]) -> None:
    """Enters changes, given in the order of their positions. Must run under the room's lock."""
    first: dict[int, int] = {}
    following: dict[int, int] = {}
    rows: list[tuple[int, int, int, int]] = []
    for change in reversed(changes):
        end = following.get(change.state_key_nid, FOREVER)
        if change.event_nid and change.pos < end:
            rows.append((change.state_key_nid, change.event_nid, change.pos, end))
        following[change.state_key_nid] = first[change.state_key_nid] = change.pos
    # In the order of positions, so that indexes grow at their ends and leave no half-empty pages behind.
    rows.reverse()
    ended = list(reversed(first.items()))
    await conn.execute(
        "UPDATE room_state SET to_pos = ended.pos FROM unnest($2::bigint[], $3::bigint[]) AS ended (key, pos) "
        "WHERE room_nid = $1 AND state_key_nid = ended.key AND to_pos = 9223372036854775807",
        room_nid,
        [key for key, _ in ended],
        [pos for _, pos in ended],
    )
    await conn.execute(
        "WITH plain AS (INSERT INTO room_plain_keys SELECT $1, k.state_key_nid FROM state_keys k "
        "WHERE k.state_key_nid = ANY($2) AND k.type <> 'm.room.member' ON CONFLICT DO NOTHING) "
        "INSERT INTO room_state (room_nid, state_key_nid, event_nid, from_pos, to_pos) "
        "SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])",
        room_nid,
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows],
        [row[3] for row in rows],
    )
