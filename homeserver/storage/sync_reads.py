"""What a sync asks of the database beyond timelines: the state of many rooms at once, summaries, account data.

Every read here is one query for all the rooms that it concerns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from homeserver.storage.members import Membership
from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class AccountStanding:
    """What is there for a user and one of their devices, whatever the room.

    `ignored` is the content of the m.ignored_user_list, as JSON. The positions are those of the newest change of
    account data, of push rules, and of any user's device list; -1 if there was none. `messages`: some wait for the
    device. What it has of keys for others: how many of each algorithm, and the algorithms of unused fallback keys.
    """

    ignored: bytes | None
    account_data_pos: int
    push_rules_pos: int
    device_lists_pos: int
    messages: bool
    one_time_keys: dict[str, int]
    fallback_keys: list[str]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a user stands to rooms now, and where something may have happened after the position that was asked about.

    `active` rooms have new events or state, those `restated` new state, those in `receipts` new receipts.
    """

    account: AccountStanding
    memberships: list[Membership]
    active: set[int]
    restated: set[int]
    receipts: set[int]


async def standing_of(conn: Connection, user_nid: int, device_id: str | None, since: int) -> Standing:
    """The user's standing, with what may have happened after position `since`: two queries, which say no to all else
    for a client that has missed nothing."""
    rows = await conn.fetch(
        """
        SELECT m.room_nid, m.membership, m.event_nid, m.pos, m.stripped_state, m.forgotten, r.active_pos > $2 AS active,
               r.active_pos > $2 AND (
                 EXISTS (SELECT FROM room_state s WHERE s.room_nid = m.room_nid AND s.from_pos > $2)
                 OR EXISTS (SELECT FROM room_state s WHERE s.room_nid = m.room_nid AND s.to_pos > $2
                               AND s.to_pos < 9223372036854775807)) AS restated,
               (m.membership = 'join' OR m.pos > $2)
               AND EXISTS (SELECT FROM receipts p WHERE p.room_nid = m.room_nid AND p.pos > $2) AS receipts
          FROM room_members m JOIN rooms r ON r.room_nid = m.room_nid WHERE m.user_nid = $1
        """,
        user_nid,
        since,
    )
    return Standing(
        account=await _account_standing(conn, user_nid, device_id),
        memberships=[Membership(*row[:6]) for row in rows],
        active={row["room_nid"] for row in rows if row["active"]},
        restated={row["room_nid"] for row in rows if row["restated"]},
        receipts={row["room_nid"] for row in rows if row["receipts"]},
    )


async def _account_standing(conn: Connection, user_nid: int, device_id: str | None) -> AccountStanding:
    row = await conn.fetchrow(
        """
        SELECT (SELECT content FROM account_data WHERE user_nid = $1 AND room_nid = 0
                   AND type = 'm.ignored_user_list') AS ignored,
               COALESCE((SELECT max(pos) FROM account_data WHERE user_nid = $1), -1) AS account_data_pos,
               COALESCE((SELECT pos FROM push_rules WHERE user_nid = $1), -1) AS push_rules_pos,
               COALESCE((SELECT max(pos) FROM device_list_changes), -1) AS device_lists_pos,
               EXISTS (SELECT FROM to_device_messages WHERE user_nid = $1 AND device_id = $2) AS messages,
               ARRAY(SELECT algorithm || ' ' || count(*) FROM one_time_keys WHERE user_nid = $1 AND device_id = $2
                        AND claimed_ts IS NULL GROUP BY algorithm) AS one_time_keys,
               ARRAY(SELECT algorithm FROM fallback_keys
                      WHERE user_nid = $1 AND device_id = $2 AND NOT used ORDER BY algorithm) AS fallback_keys
        """,
        user_nid,
        device_id,
    )
    assert row is not None
    values = dict(row)
    pairs = [pair.rpartition(" ") for pair in values.pop("one_time_keys")]
    return AccountStanding(**values, one_time_keys={algorithm: int(count) for algorithm, _, count in pairs})


class StateSpan(NamedTuple):
    """In that room the key's event was `event_nid` from `from_pos` until before `to_pos`."""

    room_nid: int
    state_key_nid: int
    event_nid: int
    from_pos: int
    to_pos: int


@dataclass(frozen=True, slots=True)
class StateRange:
    """A room, and the positions from which to which its state is wanted."""

    room_nid: int
    start: int
    end: int


_SPAN = "s.room_nid, s.state_key_nid, s.event_nid, s.from_pos, s.to_pos"


async def state_begun(conn: Connection, room_nids: Collection[int], after: int, until: int) -> list[StateSpan]:
    """What began to be state of these rooms after position `after`, up to `until`; what didn't last until then too."""
    rows = await conn.fetch(
        f"SELECT {_SPAN} FROM room_state s WHERE s.room_nid = ANY($1) AND s.from_pos > $2 AND s.from_pos <= $3",  # noqa: S608
        list(room_nids),
        after,
        until,
    )
    return [StateSpan(*row) for row in rows]


async def whole_state(conn: Connection, ranges: Sequence[StateRange], *, members: bool) -> list[StateSpan]:
    """Everything that was state at some time from `start` to `end` of each range; without member events, if asked."""
    if not ranges:
        return []
    # Two indexes answer this: one has what is state now, the other what ended when. Of the keys that are no member's
    # there is a list for each room, so that a large room's members are not even looked at.
    if members:
        now, ended = "room_state s", "room_state s"
    else:
        now = "room_plain_keys p JOIN room_state s USING (room_nid, state_key_nid)"
        ended = "room_state s JOIN state_keys k ON k.state_key_nid = s.state_key_nid AND k.type <> 'm.room.member'"
    rows = await conn.fetch(
        f"""
        SELECT {_SPAN} FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS w (room_nid, first, last)
          CROSS JOIN LATERAL (
            SELECT {_SPAN} FROM {now}
             WHERE s.room_nid = w.room_nid AND s.to_pos = 9223372036854775807 AND s.from_pos <= w.last
             UNION ALL
            SELECT {_SPAN} FROM {ended}
             WHERE s.room_nid = w.room_nid AND s.to_pos > w.first AND s.to_pos < 9223372036854775807
               AND s.from_pos <= w.last
          ) s
        """,  # noqa: S608
        [each.room_nid for each in ranges],
        [each.start for each in ranges],
        [each.end for each in ranges],
    )
    return [StateSpan(*row) for row in rows]


async def state_of_keys(conn: Connection, wanted: Iterable[tuple[StateRange, int]]) -> list[StateSpan]:
    """The same for single keys: pairs of a range and a state_key_nid."""
    pairs = list(wanted)
    if not pairs:
        return []
    rows = await conn.fetch(
        f"""
        SELECT {_SPAN}
          FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS w (room_nid, first, last, key)
          JOIN room_state s ON s.room_nid = w.room_nid AND s.state_key_nid = w.key
           AND s.from_pos <= w.last AND s.to_pos > w.first
        """,  # noqa: S608
        [each.room_nid for each, _ in pairs],
        [each.start for each, _ in pairs],
        [each.end for each, _ in pairs],
        [key for _, key in pairs],
    )
    return [StateSpan(*row) for row in rows]


async def joined_and_invited_counts(conn: Connection, room_nids: Collection[int]) -> dict[int, tuple[int, int]]:
    """room_nid -> how many are joined, how many invited."""
    rows = await conn.fetch(
        "SELECT s.room_nid, s.joined_members AS joined, (SELECT count(*) FROM room_members m "
        "WHERE m.room_nid = s.room_nid AND m.membership = 'invite') AS invited "
        "FROM room_summaries s WHERE s.room_nid = ANY($1)",
        list(room_nids),
    )
    return {row["room_nid"]: (row["joined"], row["invited"]) for row in rows}


async def heroes(conn: Connection, room_nids: Collection[int], but: int) -> dict[int, list[str]]:
    """room_nid -> the first five members other than user `but`: joined or invited, or if there are none, gone.

    # spec: client-server-api/#get_matrixclientv3sync m.heroes
    """
    rows = await conn.fetch(
        """
        SELECT w.room_nid, u.user_id FROM unnest($1::bigint[]) AS w (room_nid)
         CROSS JOIN LATERAL (
            (SELECT m.user_nid, m.pos FROM room_members m
              WHERE m.room_nid = w.room_nid AND m.user_nid <> $2 AND m.membership IN ('join', 'invite')
              ORDER BY m.pos, m.user_nid LIMIT 5)
             UNION ALL
            -- In a room without others there are seldom many who have gone.
            (SELECT m.user_nid, m.pos FROM room_members m
              WHERE m.room_nid = w.room_nid AND m.user_nid <> $2 AND m.membership IN ('leave', 'ban')
                AND NOT EXISTS (SELECT FROM room_members o WHERE o.room_nid = w.room_nid AND o.user_nid <> $2
                                   AND o.membership IN ('join', 'invite'))
              ORDER BY m.pos, m.user_nid LIMIT 5)
         ) m JOIN users u ON u.user_nid = m.user_nid
         ORDER BY w.room_nid, m.pos, m.user_nid
        """,
        list(room_nids),
        but,
    )
    found: dict[int, list[str]] = {room_nid: [] for room_nid in room_nids}
    for row in rows:
        found[row["room_nid"]].append(row["user_id"])
    return found


class AccountDataRow(NamedTuple):
    """One entry of account data; room 0 is none. `content` is JSON."""

    room_nid: int
    type: str
    content: bytes


async def account_data_since(
    conn: Connection, user_nid: int, after: int, until: int, whole_rooms: Collection[int] = ()
) -> list[AccountDataRow]:
    """The user's account data that was set after `after`, and all that there is in `whole_rooms`; up to `until`."""
    # Two indexes answer this, so that what neither is new nor asked for is not looked at.
    rows = await conn.fetch(
        """
        SELECT room_nid, type, content FROM (
            SELECT * FROM account_data WHERE user_nid = $1 AND pos > $2 AND pos <= $3
             UNION ALL
            SELECT * FROM account_data WHERE user_nid = $1 AND room_nid = ANY($4) AND pos <= least($2, $3)
          ) found ORDER BY pos
        """,
        user_nid,
        after,
        until,
        list(whole_rooms),
    )
    return [AccountDataRow(*row) for row in rows]


class Reading(NamedTuple):
    """How far a user has read in a room, thread ("": whichever) -> ord, and when the room was silenced: [(from_ord,
    to_ord), …] in order, `to_ord` not included."""

    positions: dict[str, int]
    quiet: list[tuple[int, int]]


async def readings_of(conn: Connection, user_nid: int, room_nids: Collection[int]) -> dict[int, Reading]:
    """room_nid -> reading: what storage.notifications has as read_positions and as quiet_spans, in one query."""
    rows = await conn.fetch(
        """
        SELECT room_nid, thread_id, max(ord) AS first, NULL::bigint AS last FROM (
            SELECT room_nid, thread_id, ord FROM read_marks WHERE user_nid = $1 AND room_nid = ANY($2)
            UNION ALL
            SELECT p.room_nid, p.thread_id, e.ord FROM receipts p
              JOIN events e ON e.event_id = p.event_id AND e.room_nid = p.room_nid AND e.ord IS NOT NULL
             WHERE p.room_nid = ANY($2) AND p.receipt_type IN ('m.read', 'm.read.private') AND p.user_nid = $1
        ) p GROUP BY room_nid, thread_id
        UNION ALL
        SELECT room_nid, NULL, from_ord, to_ord FROM quiet_spans WHERE user_nid = $1 AND room_nid = ANY($2)
         ORDER BY first
        """,
        user_nid,
        list(room_nids),
    )
    readings = {room_nid: Reading({}, []) for room_nid in room_nids}
    for room_nid, thread_id, first, last in rows:
        if last is None:
            readings[room_nid].positions[thread_id] = first
        else:
            readings[room_nid].quiet.append((first, last))
    return readings


async def ignored_user_list(conn: Connection, user_nid: int) -> bytes | None:
    """The content of the user's m.ignored_user_list, as JSON.  # spec: client-server-api/#ignoring-users"""
    content: bytes | None = await conn.fetchval(
        "SELECT content FROM account_data WHERE user_nid = $1 AND room_nid = 0 AND type = 'm.ignored_user_list'",
        user_nid,
    )
    return content


async def known_user_nids(conn: Connection, user_ids: Collection[str]) -> list[int]:
    """The numbers of those of these users that this server has ever heard of."""
    rows = await conn.fetch("SELECT user_nid FROM users WHERE user_id = ANY($1)", list(user_ids))
    return [row["user_nid"] for row in rows]


async def member_nids_at(conn: Connection, room_nid: int, pos: int) -> list[int]:
    """The numbers of the room's member events just after position `pos`, in the order in which they became state."""
    rows = await conn.fetch(
        "SELECT s.event_nid FROM room_state s JOIN state_keys k USING (state_key_nid) "
        "WHERE s.room_nid = $1 AND s.from_pos <= $2 AND s.to_pos > $2 AND k.type = 'm.room.member' "
        "ORDER BY s.from_pos",
        room_nid,
        pos,
    )
    return [row["event_nid"] for row in rows]


async def known_state_key_nid(conn: Connection, type: str, state_key: str) -> int | None:
    """The number of a (type, state_key) pair, if any event ever had it; asking makes none."""
    nid: int | None = await conn.fetchval(
        "SELECT state_key_nid FROM state_keys WHERE type = $1 AND state_key = $2", type, state_key
    )
    return nid
