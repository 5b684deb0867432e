"""When whose devices changed, who came to share a room with whom, and what is known of devices of other servers."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from homeserver.storage.stream import Connection


class ListHead(NamedTuple):
    """A user's device list. `is_own`: it is kept here. `stream_id` is that of the last update that went out, `pos` the
    position of the last change."""

    user_id: str
    server: str
    is_own: bool
    stream_id: int | None
    pos: int


async def lock_list(conn: Connection, user_nid: int) -> ListHead:
    """Makes other changes of this user's list wait until this transaction ends."""
    await conn.execute(
        "INSERT INTO device_list_changes (user_nid, pos) VALUES ($1, 0) ON CONFLICT DO NOTHING", user_nid
    )
    row = await conn.fetchrow(
        "SELECT u.user_id, u.server, EXISTS (SELECT FROM accounts a WHERE a.user_nid = d.user_nid) AS own, "
        "d.stream_id, d.pos FROM device_list_changes d JOIN users u USING (user_nid) "
        "WHERE d.user_nid = $1 FOR UPDATE OF d",
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


async def _stays(conn: Connection, room_nids: list[int], user_nids: list[int], since: int, until: int) -> list[_Stay]:
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


async def is_own_device(conn: Connection, user_id: str, device_id: str) -> bool:
    """Whether that user of this server has that device."""
    found: bool = await conn.fetchval(
        "SELECT EXISTS (SELECT FROM devices d JOIN users u USING (user_nid) WHERE u.user_id = $1 AND d.device_id = $2)",
        user_id,
        device_id,
    )
    return found


async def last_stream_id(conn: Connection, user_nid: int) -> int | None:
    """The id of the last update of a user's list that went out, if there was any."""
    stream_id: int | None = await conn.fetchval(
        "SELECT stream_id FROM device_list_changes WHERE user_nid = $1", user_nid
    )
    return stream_id


class RemoteDevice(NamedTuple):
    """A device of a user of another server. `keys` is JSON; None: it has none."""

    device_id: str
    display_name: str | None
    keys: bytes | None


class RemoteList(NamedTuple):
    """All devices of such a user. `stream_id` names the version; the signing keys are JSON."""

    stream_id: int
    devices: list[RemoteDevice]
    master_key: bytes | None
    self_signing_key: bytes | None


async def store_remote_list(
    conn: Connection, user_nid: int, as_of: int, found: RemoteList, *, stale: bool = False
) -> None:
    """Remembers an answer to a question that was asked when our position was `as_of`, in a transaction.

    :param stale: whether something happened since, which may not be in it
    """
    await conn.execute(
        "INSERT INTO remote_device_lists (user_nid, as_of, stream_ids, master_key, self_signing_key, stale) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (user_nid) DO UPDATE SET as_of = excluded.as_of, "
        "stale = excluded.stale, "
        "stream_ids = excluded.stream_ids, master_key = excluded.master_key, "
        "self_signing_key = excluded.self_signing_key",
        user_nid,
        as_of,
        [found.stream_id],
        found.master_key,
        found.self_signing_key,
        stale,
    )
    await conn.execute("DELETE FROM remote_devices WHERE user_nid = $1", user_nid)
    for device in found.devices:
        await put_remote_device(conn, user_nid, device)


async def put_remote_device(conn: Connection, user_nid: int, device: RemoteDevice) -> None:
    """Enters a device of a list that is remembered."""
    await conn.execute(
        "INSERT INTO remote_devices (user_nid, device_id, display_name, keys) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (user_nid, device_id) DO UPDATE SET display_name = excluded.display_name, keys = excluded.keys",
        user_nid,
        *device,
    )


async def delete_remote_device(conn: Connection, user_nid: int, device_id: str) -> None:
    """Takes a device out of a list that is remembered."""
    await conn.execute("DELETE FROM remote_devices WHERE user_nid = $1 AND device_id = $2", user_nid, device_id)


async def known_stream_ids(conn: Connection, user_nid: int) -> list[int] | None:
    """Of a remembered list that holds, which updates are in it; None if there is none. See `remote_list`."""
    stream_ids: list[int] | None = await conn.fetchval(
        f"SELECT l.stream_ids FROM remote_device_lists l WHERE l.user_nid = $1 AND {_HOLDS}",  # noqa: S608
        user_nid,
    )
    return stream_ids


async def add_stream_id(conn: Connection, user_nid: int, stream_id: int, most: int) -> None:
    """Takes note that an update is in a list; the last `most` are remembered."""
    await conn.execute(
        "UPDATE remote_device_lists SET stream_ids = (array_prepend($2, stream_ids))[1:$3] WHERE user_nid = $1",
        user_nid,
        stream_id,
        most,
    )


async def mark_stale(conn: Connection, user_nid: int) -> None:
    """Takes note that something happened to a list that is not in what is remembered of it."""
    await conn.execute("UPDATE remote_device_lists SET stale = true WHERE user_nid = $1", user_nid)


async def set_remote_signing_keys(
    conn: Connection, user_nid: int, master_key: bytes | None, self_signing_key: bytes | None
) -> None:
    """Replaces the cross-signing keys of a list that is remembered: those that are given."""
    await conn.execute(
        "UPDATE remote_device_lists SET master_key = coalesce($2, master_key), "
        "self_signing_key = coalesce($3, self_signing_key) WHERE user_nid = $1",
        user_nid,
        master_key,
        self_signing_key,
    )


# Their server has told us of every change if all the time since we asked the user was in a room with one of ours.
_HOLDS = """
    NOT l.stale AND EXISTS (
        SELECT FROM room_members theirs
          JOIN room_members ours ON ours.room_nid = theirs.room_nid AND ours.membership = 'join' AND ours.pos <= l.as_of
          JOIN accounts a ON a.user_nid = ours.user_nid
         WHERE theirs.user_nid = l.user_nid AND theirs.membership = 'join' AND theirs.pos <= l.as_of)
"""


async def remote_list(conn: Connection, user_nid: int) -> RemoteList | None:
    """What is remembered of the devices of a user of another server, if it is known to hold still."""
    row = await conn.fetchrow(
        f"SELECT l.stream_ids, l.master_key, l.self_signing_key FROM remote_device_lists l "  # noqa: S608
        f"WHERE l.user_nid = $1 AND {_HOLDS}",
        user_nid,
    )
    if row is None:
        return None
    devices = await conn.fetch(
        "SELECT device_id, display_name, keys FROM remote_devices WHERE user_nid = $1 ORDER BY device_id", user_nid
    )
    return RemoteList(
        row["stream_ids"][0], [RemoteDevice(*one) for one in devices], row["master_key"], row["self_signing_key"]
    )
