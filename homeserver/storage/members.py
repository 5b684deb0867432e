"""Who is in which room: the current membership of every user, here and elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from homeserver.storage.stream import Connection


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A membership that begins at `pos`. `put_out`: it ended by somebody else's doing."""

    user_nid: int
    membership: str
    event_nid: int
    pos: int
    server: str
    put_out: bool = False


@dataclass(frozen=True, slots=True)
class Membership:
    """A user's place in a room now."""

    room_nid: int
    membership: str
    event_nid: int
    pos: int
    stripped_state: bytes | None
    forgotten: bool


async def write_members(conn: Connection, room_nid: int, rows: Sequence[MemberRow]) -> int:
    """Enters memberships; of several for one user the last counts.

    :returns: how many more are joined than before
    """
    last = {row.user_nid: row for row in rows}
    joined = {row.user_nid for row in rows if row.membership == "join"}
    more: int = await conn.fetchval(
        "WITH entered (user_nid, membership, event_nid, pos, put_out, joined_before) AS ("
        "  SELECT * FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::boolean[], $7::boolean[])"
        "), written AS ("
        "  INSERT INTO room_members (room_nid, user_nid, membership, event_nid, pos, put_out, joined_before) "
        "  SELECT $1, * FROM entered "
        "  ON CONFLICT (room_nid, user_nid) DO UPDATE SET membership = excluded.membership, "
        "  event_nid = excluded.event_nid, pos = excluded.pos, stripped_state = NULL, put_out = excluded.put_out, "
        "  joined_before = room_members.joined_before OR excluded.joined_before, "
        "  forgotten = room_members.forgotten AND excluded.membership IN ('leave', 'ban')"
        ") SELECT (SELECT count(*) FROM entered WHERE membership = 'join') - "
        "(SELECT count(*) FROM room_members m JOIN entered USING (user_nid) "  # as it was before this statement
        "WHERE m.room_nid = $1 AND m.membership = 'join')",
        room_nid,
        list(last),
        [row.membership for row in last.values()],
        [row.event_nid for row in last.values()],
        [row.pos for row in last.values()],
        [row.put_out for row in last.values()],
        [user_nid in joined for user_nid in last],
    )
    return more


async def write_stripped_membership(
    conn: Connection, room_nid: int, user_nid: int, membership: str, event_nid: int, pos: int, stripped_state: bytes
) -> None:
    """Enters an invite or knock to a room that no one here is in, with what is known of the room."""
    await conn.execute(
        "INSERT INTO room_members (room_nid, user_nid, membership, event_nid, pos, stripped_state) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (room_nid, user_nid) DO UPDATE SET "
        "membership = excluded.membership, event_nid = excluded.event_nid, pos = excluded.pos, "
        "stripped_state = excluded.stripped_state, forgotten = false, put_out = false",
        room_nid,
        user_nid,
        membership,
        event_nid,
        pos,
        stripped_state,
    )


_COLUMNS = "room_nid, membership, event_nid, pos, stripped_state, forgotten"


async def memberships_of(conn: Connection, user_nid: int) -> list[Membership]:
    """Every room that this user is or was in, is invited to, knocks at or is banned from."""
    rows = await conn.fetch(f"SELECT {_COLUMNS} FROM room_members WHERE user_nid = $1", user_nid)  # noqa: S608
    return [Membership(*row.values()) for row in rows]


async def membership_in(conn: Connection, room_nid: int, user_nid: int) -> Membership | None:
    """This user's place in this room."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM room_members WHERE room_nid = $1 AND user_nid = $2",  # noqa: S608
        room_nid,
        user_nid,
    )
    return None if row is None else Membership(*row.values())


async def joined_rooms(conn: Connection, user_nid: int) -> list[int]:
    """The rooms that this user is joined to."""
    rows = await conn.fetch("SELECT room_nid FROM room_members WHERE user_nid = $1 AND membership = 'join'", user_nid)
    return [row["room_nid"] for row in rows]


async def member_user_ids(conn: Connection, room_nid: int, memberships: Collection[str] = ("join",)) -> list[str]:
    """The ids of the users with one of these memberships."""
    rows = await conn.fetch(
        "SELECT u.user_id FROM room_members m JOIN users u USING (user_nid) "
        "WHERE m.room_nid = $1 AND m.membership = ANY($2) ORDER BY m.pos, u.user_id",
        room_nid,
        list(memberships),
    )
    return [row["user_id"] for row in rows]


async def is_any_joined(conn: Connection, room_nid: int, server: str) -> bool:
    """Whether anyone of that server is joined."""
    found: bool = await conn.fetchval(
        "SELECT EXISTS (SELECT 1 FROM room_members m JOIN users u USING (user_nid) "
        "WHERE m.room_nid = $1 AND m.membership = 'join' AND u.server = $2)",
        room_nid,
        server,
    )
    return found


async def joined_of_server(conn: Connection, room_nid: int, server: str) -> list[str]:
    """The ids of the joined users of that server."""
    rows = await conn.fetch(
        "SELECT u.user_id FROM room_members m JOIN users u USING (user_nid) "
        "WHERE m.room_nid = $1 AND m.membership = 'join' AND u.server = $2",
        room_nid,
        server,
    )
    return [row["user_id"] for row in rows]


async def joined_servers(conn: Connection, room_nid: int) -> list[str]:
    """The servers with a joined user, those with the most first."""
    rows = await conn.fetch(
        "SELECT u.server FROM room_members m JOIN users u USING (user_nid) "
        "WHERE m.room_nid = $1 AND m.membership = 'join' GROUP BY u.server ORDER BY count(*) DESC, u.server",
        room_nid,
    )
    return [row["server"] for row in rows]


async def member_counts(conn: Connection, room_nid: int) -> dict[str, int]:
    """How many users have each membership."""
    rows = await conn.fetch(
        "SELECT membership, count(*) AS number FROM room_members WHERE room_nid = $1 GROUP BY membership", room_nid
    )
    return {row["membership"]: row["number"] for row in rows}


async def set_forgotten(conn: Connection, room_nid: int, user_nid: int) -> None:
    """Takes the room out of the user's history."""
    await conn.execute(
        "UPDATE room_members SET forgotten = true WHERE room_nid = $1 AND user_nid = $2", room_nid, user_nid
    )


async def mutual_rooms(conn: Connection, user_nid: int, other: str) -> list[tuple[int, str]]:
    """The rooms that both users are joined to, (number, id) in the order of their numbers."""
    rows = await conn.fetch(
        "SELECT r.room_nid, r.room_id FROM room_members theirs JOIN room_members ours USING (room_nid) "
        "JOIN rooms r USING (room_nid) WHERE theirs.user_nid = (SELECT user_nid FROM users WHERE user_id = $2) "
        "AND theirs.membership = 'join' AND ours.user_nid = $1 AND ours.membership = 'join' ORDER BY r.room_nid",
        user_nid,
        other,
    )
    return [(row["room_nid"], row["room_id"]) for row in rows]


async def event_nids_of(conn: Connection, room_nid: int, membership: str, limit: int) -> list[int]:
    """The member events of at most `limit` users with that membership, the newest."""
    rows = await conn.fetch(
        "SELECT event_nid FROM room_members WHERE room_nid = $1 AND membership = $2 AND event_nid > 0 "
        "ORDER BY pos DESC LIMIT $3",
        room_nid,
        membership,
        limit,
    )
    return [row["event_nid"] for row in rows]
