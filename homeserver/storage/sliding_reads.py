"""What sliding sync asks of the database: the user's rooms in one query, and the state of many rooms by its kind.

Every read here is one query for all the rooms that it concerns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple, TypeAlias

from homeserver.protocol.events import StateKey
from homeserver.storage.receipts import ReceiptRow
from homeserver.storage.stream import Connection


class _Joined(NamedTuple):
    room_nid: int
    room_id: str
    pos: int
    active_pos: int
    bump_pos: int
    room_type: str | None
    encrypted: bool


class JoinedRoom(_Joined):
    """A room that the user is in. `pos` is where the user's membership began to be what it is, `active_pos` where
    something last happened, `bump_pos` where somebody last did something. `room_type` and `encrypted` are there only if
    asked for.
    """

    __slots__ = ()
    membership: ClassVar[str] = "join"
    joined: ClassVar[bool] = True
    listed: ClassVar[bool] = True
    stripped: ClassVar[bool] = False
    event_nid: ClassVar[int] = 0

    @property
    def activity(self) -> int:
        """Decides the room's place in lists."""
        return self.active_pos


class _Outside(NamedTuple):
    room_nid: int
    room_id: str
    pos: int
    membership: str
    event_nid: int
    joined_before: bool
    listed: bool


class OutsideRoom(_Outside):
    """A room that the user is not in, but was, is invited to, or knocks at.

    `event_nid` is the member event and `pos` its position, `joined_before` whether the user ever was in. `listed`:
    lists have the room; otherwise it was asked for by its id.
    """

    __slots__ = ()
    joined: ClassVar[bool] = False
    active_pos: ClassVar[int] = 0
    bump_pos: ClassVar[int] = 0

    @property
    def stripped(self) -> bool:
        """Whether the user may know no more of the room than one who was never in it."""
        return self.membership in ("invite", "knock") or not self.joined_before

    @property
    def activity(self) -> int:
        """Decides the room's place in lists."""
        return self.pos


ListedRoom: TypeAlias = JoinedRoom | OutsideRoom


async def joined_rooms_of_user(conn: Connection, user_nid: int, *, with_kinds: bool) -> list[JoinedRoom]:
    """The rooms that the user is in, the most recently active first."""
    # There may be thousands, of most of which nothing is told: so no more of each than it takes to know that.
    columns, join = "NULL, false", ""
    if with_kinds:
        columns = "s.room_type, s.encryption IS NOT NULL"
        join = "LEFT JOIN room_summaries s ON s.room_nid = m.room_nid"
    rows = await conn.fetch(
        f"""
        SELECT m.room_nid, r.room_id, m.pos, r.active_pos, r.bump_pos, {columns}
          FROM room_members m JOIN rooms r ON r.room_nid = m.room_nid {join}
         WHERE m.user_nid = $1 AND m.membership = 'join' ORDER BY r.active_pos DESC, m.room_nid
        """,  # noqa: S608
        user_nid,
    )
    return list(map(JoinedRoom._make, rows))


async def other_rooms_of_user(
    conn: Connection, user_nid: int, room_nids: Collection[int], room_ids: Collection[str]
) -> list[OutsideRoom]:
    """The rooms that the user is invited to, knocks at or was put out of; of others that the user was concerned with,
    those among `room_nids` or `room_ids`. Without forgotten ones.
    """
    rows = await conn.fetch(
        """
        SELECT m.room_nid, r.room_id, m.pos, m.membership, m.event_nid, m.joined_before,
               m.membership IN ('invite', 'knock') OR m.joined_before AND m.put_out OR m.room_nid = ANY($2)
          FROM room_members m JOIN rooms r ON r.room_nid = m.room_nid
         WHERE m.user_nid = $1 AND m.membership IN ('invite', 'knock', 'leave', 'ban') AND NOT m.forgotten AND (
               m.membership IN ('invite', 'knock') OR (m.joined_before AND m.put_out)
               OR m.room_nid = ANY($2) OR r.room_id = ANY($3) AND (m.joined_before OR NOT m.put_out))
        """,
        user_nid,
        list(room_nids),
        list(room_ids),
    )
    return list(map(OutsideRoom._make, rows))


class StateEntry(NamedTuple):
    """That in a room the key's event is `event_nid`; 0: that there is none any more. It began at `from_pos`."""

    room_nid: int
    state_key_nid: int
    key: StateKey
    event_nid: int
    from_pos: int


def _entry(row: Sequence[object]) -> StateEntry:
    room_nid, key_nid, type, state_key, event_nid, from_pos = row
    return StateEntry(room_nid, key_nid, (type, state_key), event_nid, from_pos)  # type: ignore[arg-type]


_MEMBER = "m.room.member"
_ENTRY = "s.room_nid, s.state_key_nid, k.type, k.state_key, s.event_nid, s.from_pos"


async def state_at_keys(conn: Connection, wanted: Iterable[tuple[int, int, StateKey]]) -> list[StateEntry]:
    """What those of these keys that are set are, each given with its room and position."""
    items = list(wanted)
    if not items:
        return []
    rows = await conn.fetch(
        f"""
        SELECT {_ENTRY}
          FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) AS w (room_nid, pos, type, state_key)
          JOIN state_keys k ON k.type = w.type AND k.state_key = w.state_key
          JOIN room_state s ON s.room_nid = w.room_nid AND s.state_key_nid = k.state_key_nid
           AND s.from_pos <= w.pos AND s.to_pos > w.pos
        """,  # noqa: S608
        [room_nid for room_nid, _, _ in items],
        [pos for _, pos, _ in items],
        [key[0] for _, _, key in items],
        [key[1] for _, _, key in items],
    )
    return [_entry(tuple(row)) for row in rows]


async def state_at_of_types(
    conn: Connection, places: Collection[tuple[int, int]], types: Collection[str]
) -> list[StateEntry]:
    """All state of these types at (room_nid, position)."""
    entries = await _plain_state_at(conn, places, [type for type in types if type != _MEMBER])
    if _MEMBER in types:
        entries += await _all_state_at(conn, places, _MEMBER)
    return entries


async def whole_state_at(conn: Connection, places: Collection[tuple[int, int]], *, members: bool) -> list[StateEntry]:
    """All state at (room_nid, position), with or without members."""
    return await _all_state_at(conn, places, None) if members else await _plain_state_at(conn, places, None)


async def _plain_state_at(
    conn: Connection, places: Collection[tuple[int, int]], types: Collection[str] | None
) -> list[StateEntry]:
    """State that is no member's, of these types or of all. However many members a room has, none is looked at."""
    if not places or types == []:
        return []
    rows = await conn.fetch(
        f"""
        SELECT {_ENTRY}
          FROM unnest($1::bigint[], $2::bigint[]) AS w (room_nid, pos)
          JOIN room_plain_keys p ON p.room_nid = w.room_nid
          JOIN state_keys k ON k.state_key_nid = p.state_key_nid AND ($3::text[] IS NULL OR k.type = ANY($3))
          JOIN room_state s ON s.room_nid = w.room_nid AND s.state_key_nid = k.state_key_nid
           AND s.from_pos <= w.pos AND s.to_pos > w.pos
        """,  # noqa: S608
        [room_nid for room_nid, _ in places],
        [pos for _, pos in places],
        types,
    )
    return [_entry(tuple(row)) for row in rows]


async def _all_state_at(conn: Connection, places: Collection[tuple[int, int]], type: str | None) -> list[StateEntry]:
    """State of that type or of all."""
    if not places:
        return []
    # Two indexes answer this: one has what is state now, the other what ended when.
    rows = await conn.fetch(
        f"""
        SELECT {_ENTRY} FROM unnest($1::bigint[], $2::bigint[]) AS w (room_nid, pos)
          CROSS JOIN LATERAL (
            SELECT n.* FROM room_state n
             WHERE n.room_nid = w.room_nid AND n.to_pos = 9223372036854775807 AND n.from_pos <= w.pos
             UNION ALL
            SELECT e.* FROM room_state e
             WHERE e.room_nid = w.room_nid AND e.to_pos > w.pos AND e.to_pos < 9223372036854775807
               AND e.from_pos <= w.pos
          ) s
          JOIN state_keys k ON k.state_key_nid = s.state_key_nid AND ($3::text IS NULL OR k.type = $3)
        """,  # noqa: S608
        [room_nid for room_nid, _ in places],
        [pos for _, pos in places],
        type,
    )
    return [_entry(tuple(row)) for row in rows]


async def state_changes(conn: Connection, spans: Collection[tuple[int, int, int]]) -> list[StateEntry]:
    """What is another at the end of each (room_nid, after, until) than at its start; event 0 where it is gone."""
    if not spans:
        return []
    rows = await conn.fetch(
        f"""
        WITH w AS MATERIALIZED (
            SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS w (room_nid, after, until))
        SELECT {_ENTRY} FROM w
          JOIN room_state s ON s.room_nid = w.room_nid AND s.from_pos > w.after AND s.from_pos <= w.until
           AND s.to_pos > w.until
          JOIN state_keys k USING (state_key_nid)
         UNION ALL
        SELECT s.room_nid, s.state_key_nid, k.type, k.state_key, 0, s.to_pos FROM w
          JOIN room_state s ON s.room_nid = w.room_nid AND s.to_pos > w.after AND s.to_pos <= w.until
           AND s.to_pos < 9223372036854775807 AND s.from_pos <= w.after
          JOIN state_keys k USING (state_key_nid)
         WHERE NOT EXISTS (
            SELECT 1 FROM room_state now
             WHERE now.room_nid = s.room_nid AND now.state_key_nid = s.state_key_nid
               AND now.from_pos <= w.until AND now.to_pos > w.until)
        """,  # noqa: S608
        [room_nid for room_nid, _, _ in spans],
        [after for _, after, _ in spans],
        [until for _, _, until in spans],
    )
    return [_entry(tuple(row)) for row in rows]


async def rooms_read_since(conn: Connection, user_nid: int, rooms: Mapping[int, int], until: int) -> set[int]:
    """Those of the rooms in which the user's own receipts moved after the position given with the room."""
    if not rooms:
        return set()
    rows = await conn.fetch(
        """
        SELECT DISTINCT p.room_nid FROM unnest($2::bigint[], $3::bigint[]) AS w (room_nid, after)
          JOIN receipts p ON p.room_nid = w.room_nid AND p.pos > w.after AND p.pos <= $4
         WHERE p.user_nid = $1 AND p.receipt_type IN ('m.read', 'm.read.private')
        """,
        user_nid,
        list(rooms),
        list(rooms.values()),
        until,
    )
    return {row["room_nid"] for row in rows}


async def stripped_states(conn: Connection, user_nid: int, room_nids: Collection[int]) -> dict[int, bytes | None]:
    """room_nid -> what another server said of the room with the user's invitation, as JSON; None: this server is in."""
    rows = await conn.fetch(
        "SELECT room_nid, stripped_state FROM room_members WHERE user_nid = $1 AND room_nid = ANY($2)",
        user_nid,
        list(room_nids),
    )
    return {row["room_nid"]: row["stripped_state"] for row in rows}


async def senders_of(conn: Connection, event_nids: Collection[int]) -> dict[int, str]:
    """event_nid -> user id."""
    rows = await conn.fetch(
        "SELECT e.event_nid, u.user_id FROM events e JOIN users u ON u.user_nid = e.sender_nid "
        "WHERE e.event_nid = ANY($1)",
        list(event_nids),
    )
    return {row["event_nid"]: row["user_id"] for row in rows}


async def tags_of(conn: Connection, user_nid: int) -> dict[int, bytes]:
    """room_nid -> the content of the user's m.tag there, as JSON."""
    rows = await conn.fetch(
        "SELECT room_nid, content FROM account_data WHERE user_nid = $1 AND type = 'm.tag' AND room_nid <> 0", user_nid
    )
    return {row["room_nid"]: row["content"] for row in rows}


_RECEIPT = "p.room_nid, p.receipt_type, u.user_id, p.thread_id, p.event_id, p.data"


async def receipts_set_since(conn: Connection, user_nid: int, rooms: Mapping[int, int], until: int) -> list[ReceiptRow]:
    """Receipts set after the position given with each room, as the user may know them.

    # spec: client-server-api/#private-read-receipts
    """
    if not rooms:
        return []
    rows = await conn.fetch(
        f"""
        SELECT {_RECEIPT} FROM unnest($2::bigint[], $3::bigint[]) AS w (room_nid, after)
          JOIN receipts p ON p.room_nid = w.room_nid AND p.pos > w.after AND p.pos <= $4
          JOIN users u USING (user_nid)
         WHERE p.receipt_type <> 'm.read.private' OR p.user_nid = $1
         ORDER BY p.pos
        """,  # noqa: S608
        user_nid,
        list(rooms),
        list(rooms.values()),
        until,
    )
    return [ReceiptRow(*row) for row in rows]


async def receipts_at_events(conn: Connection, user_nid: int, rooms: Mapping[int, int], until: int) -> list[ReceiptRow]:
    """The user's own receipts in these rooms, and those of others at events from the ord given with the room on."""
    if not rooms:
        return []
    rows = await conn.fetch(
        f"""
        WITH w AS MATERIALIZED (SELECT * FROM unnest($2::bigint[], $3::bigint[]) AS w (room_nid, first_ord))
        SELECT {_RECEIPT} FROM (
            SELECT p.* FROM w JOIN receipts p ON p.room_nid = w.room_nid AND p.user_nid = $1 AND p.pos <= $4
               AND p.receipt_type IN ('m.read', 'm.read.private')
             UNION ALL
            SELECT p.* FROM w
              JOIN receipts p ON p.room_nid = w.room_nid AND p.pos > w.first_ord >> 20 AND p.pos <= $4
               AND p.user_nid <> $1 AND p.receipt_type <> 'm.read.private'
              JOIN events e ON e.event_id = p.event_id AND e.room_nid = p.room_nid AND e.ord >= w.first_ord
          ) p JOIN users u USING (user_nid)
         ORDER BY p.pos
        """,  # noqa: S608
        user_nid,
        list(rooms),
        list(rooms.values()),
        until,
    )
    return [ReceiptRow(*row) for row in rows]
