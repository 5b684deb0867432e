"""When whose devices changed, who came to share a room with whom, and what is known of devices of other servers."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from homeserver.storage.stream import Connection


class ListHead(NamedTuple):
    """A user's device list. `is_own`: it is kept here. `stream_id` is that of the last update that went out."""

    user_id: str
    server: str
    is_own: bool
    stream_id: int | None


async def lock_list(conn: Connection, user_nid: int) -> ListHead:
    """Makes other changes of this user's list wait until this transaction ends."""
    await conn.execute(
        "INSERT INTO device_list_changes (user_nid, pos) VALUES ($1, 0) ON CONFLICT DO NOTHING", user_nid
    )
    row = await conn.fetchrow(
        "SELECT u.user_id, u.server, EXISTS (SELECT FROM accounts a WHERE a.user_nid = d.user_nid) AS own, "
        "d.stream_id FROM device_list_changes d JOIN users u USING (user_nid) WHERE d.user_nid = $1 FOR UPDATE OF d",
        user_nid,
    )
    assert row is not None
    return ListHead(*row)


async def note_change(conn: Connection, user_nid: int, pos: int, stream_id: int | None) -> None:
    """Enters a change of a list that is locked."""
    await conn.execute(
        "UPDATE device_list_changes SET pos = $2, stream_id = $3 WHERE user_nid = $1", user_nid, pos, stream_id
    )


async def own_device_ids(conn: Connection, user_nid: int) -> list[str]:
    """The devices of a user of this server."""
    rows = await conn.fetch("SELECT device_id FROM devices WHERE user_nid = $1", user_nid)
    return [row["device_id"] for row in rows]


async def changed_among(
    conn: Connection, user_nid: int, room_nids: Collection[int], after: int, until: int
) -> list[str]:
    """The ids of those whose list changed in this stretch and who are this user or joined to one of these rooms."""
    rows = await conn.fetch(
        "SELECT u.user_id FROM device_list_changes d JOIN users u USING (user_nid) "
        "WHERE d.pos > $3 AND d.pos <= $4 AND (d.user_nid = $1 OR EXISTS (SELECT FROM room_members m "
        "WHERE m.user_nid = d.user_nid AND m.membership = 'join' AND m.room_nid = ANY($2)))",
        user_nid,
        list(room_nids),
        after,
        until,
    )
    return [row["user_id"] for row in rows]


class _Stay(NamedTuple):
    """Whether a user was joined to a room at the beginning and at the end of a stretch, and `throughout` it."""

    room_nid: int
    user_nid: int
    before: bool
    after: bool
    throughout: bool

    def meets(self, other: _Stay) -> _Stay:
        """The same for both users being there."""
        return _Stay(
            self.room_nid,
            self.user_nid,
            self.before and other.before,
            self.after and other.after,
            self.throughout and other.throughout,
        )


class SharedRooms(NamedTuple):
    """Who came to share a room with a user and who shares none any more, user ids; `rooms`: where the user is now."""

    came: set[str]
    went: set[str]
    rooms: list[int]


async def shared_rooms_changed(conn: Connection, user_nid: int, since: int, until: int) -> SharedRooms:
    """How the circle of those who share rooms with a user changed after position `since`, up to `until`.

    Who left and came back meanwhile has come: what happened to the devices in between may not have been told here.
    """
    rows = await conn.fetch(
        "SELECT room_nid FROM room_members WHERE user_nid = $1 AND (membership = 'join' OR pos > $2)", user_nid, since
    )
    stays = await _stays(conn, [row["room_nid"] for row in rows], [user_nid], since, until)
    mine = {stay.room_nid: stay for stay in stays if stay.before or stay.after}
    moved = [stay.room_nid for stay in mine.values() if not stay.throughout]
    candidates = await _candidates(conn, list(mine), moved, since, until)
    candidates.pop(user_nid, None)
    theirs = await _stays(conn, list(mine), list(candidates), since, until)
    met = [stay.meets(mine[stay.room_nid]) for stay in theirs]
    before = {stay.user_nid for stay in met if stay.before}
    after = {stay.user_nid for stay in met if stay.after}
    came = after - {stay.user_nid for stay in met if stay.throughout}
    return SharedRooms(
        {candidates[nid] for nid in came},
        {candidates[nid] for nid in before - after},
        [stay.room_nid for stay in mine.values() if stay.after],
    )


async def _candidates(
    conn: Connection, room_nids: list[int], moved: list[int], since: int, until: int
) -> dict[int, str]:
    """Whose places in these rooms changed, and everyone of the `moved` rooms, which the user entered or left."""
    if not room_nids:
        return {}
    rows = await conn.fetch(
        """
        SELECT u.user_nid, u.user_id FROM users u WHERE u.user_id IN (
            SELECT k.state_key FROM room_state s JOIN state_keys k USING (state_key_nid)
             WHERE s.room_nid = ANY($1) AND s.from_pos > $3 AND s.from_pos <= $4 AND k.type = 'm.room.member'
             UNION ALL
            SELECT k.state_key FROM room_state s JOIN state_keys k USING (state_key_nid)
             WHERE s.room_nid = ANY($1) AND s.to_pos > $3 AND s.to_pos <= $4 AND s.to_pos < 9223372036854775807
               AND k.type = 'm.room.member')
        UNION
        SELECT u.user_nid, u.user_id FROM room_members m JOIN users u USING (user_nid)
         WHERE m.room_nid = ANY($2) AND (m.membership = 'join' OR m.pos > $3)
        """,
        room_nids,
        moved,
        since,
        until,
    )
    return {row["user_nid"]: row["user_id"] for row in rows}


async def _stays(
    conn: Connection, room_nids: list[int], user_nids: list[int], since: int, until: int
) -> list[_Stay]:
    """How these users stood to these rooms. Whoever's place has changed since is looked up in the room's state."""
    if not room_nids or not user_nids:
        return []
    rows = await conn.fetch(
        """
        SELECT m.room_nid, m.user_nid, true, true, true FROM room_members m
         WHERE m.room_nid = ANY($1) AND m.user_nid = ANY($2) AND m.pos <= $3 AND m.membership = 'join'
         UNION ALL
        SELECT m.room_nid, m.user_nid, bool_or(s.joined AND s.from_pos <= $3), bool_or(s.joined AND s.to_pos > $4),
               bool_and(s.joined) AND bool_or(s.from_pos <= $3) AND bool_or(s.to_pos > $4)
          FROM room_members m JOIN users u USING (user_nid)
          JOIN state_keys k ON k.type = 'm.room.member' AND k.state_key = u.user_id
          CROSS JOIN LATERAL (
            SELECT s.from_pos, s.to_pos,
                   coalesce(convert_from(e.json, 'UTF8')::json -> 'content' ->> 'membership' = 'join', false) AS joined
              FROM room_state s JOIN events e ON e.event_nid = s.event_nid
             WHERE s.room_nid = m.room_nid AND s.state_key_nid = k.state_key_nid
               AND s.from_pos <= $4 AND s.to_pos > $3
          ) s
         WHERE m.room_nid = ANY($1) AND m.user_nid = ANY($2) AND m.pos > $3
         GROUP BY m.room_nid, m.user_nid
        """,
        room_nids,
        user_nids,
        since,
        until,
    )
    return [_Stay(*row) for row in rows]
