"""What notifies whom, as rows: written with the event, counted and listed for readers.

The file schema/0003_notifications.sql says what the tables mean. `ord` is an event's place in its room's timeline; a
thread is known by its root's event id, the main timeline as MAIN.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from homeserver.storage.stream import Connection

MAIN = "main"
ALL_THREADS = ""
FOREVER = 2**63 - 1


class OrdinaryRow(NamedTuple):
    """What an event does to whoever has no row of their own for it."""

    ord: int
    event_nid: int
    thread_id: str
    notify: bool
    highlight: bool
    unread: bool


class UserRow(NamedTuple):
    """What an event does to one user; `…_diff` is by how much that differs from what the user has without this row."""

    user_nid: int
    ord: int
    event_nid: int
    thread_id: str
    notify: bool
    highlight: bool
    notify_diff: int
    highlight_diff: int
    unread_diff: int


class QuietChange(NamedTuple):
    """From `ord` on, the user is quiet, or no longer."""

    user_nid: int
    ord: int
    quiet: bool


class ReadMark(NamedTuple):
    """That the user has read everything up to `ord` in that thread (ALL_THREADS: in the room)."""

    user_nid: int
    thread_id: str
    ord: int


@dataclass(slots=True)
class NotificationRows:
    """What a batch of events in one room writes."""

    ordinary: list[OrdinaryRow] = field(default_factory=list)
    users: list[UserRow] = field(default_factory=list)
    quiet: list[QuietChange] = field(default_factory=list)
    marks: list[ReadMark] = field(default_factory=list)


async def write_notifications(conn: Connection, room_nid: int, rows: NotificationRows) -> None:
    """Enters the rows. Must run under the room's lock, for running totals are carried on."""
    marks = {(mark.user_nid, mark.thread_id): mark.ord for mark in rows.marks}  # they come in order: the last counts
    if rows.ordinary:
        await _write_ordinary(conn, room_nid, rows.ordinary, marks)
    elif marks:
        await conn.execute(
            f"INSERT INTO read_marks (room_nid, user_nid, thread_id, ord) {_MARKS}",
            room_nid,
            *_mark_columns(marks),
        )
    if rows.users:
        columns = list(zip(*rows.users, strict=True))
        await conn.execute(
            "INSERT INTO user_notifications (room_nid, user_nid, ord, event_nid, thread_id, notify, highlight, "
            "notify_diff, highlight_diff, unread_diff) SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], "
            "$4::bigint[], $5::text[], $6::bool[], $7::bool[], $8::smallint[], $9::smallint[], $10::smallint[]) "
            "ON CONFLICT DO NOTHING",
            room_nid,
            *columns,
        )
    for change in rows.quiet:
        await _write_quiet(conn, room_nid, change)
    told = [(row.ord, row.thread_id) for row in rows.ordinary] + [(row.ord, row.thread_id) for row in rows.users]
    threads = {thread_id: ord for ord, thread_id in sorted(told) if thread_id != MAIN}
    if threads:
        await conn.execute(
            "INSERT INTO notified_threads (room_nid, thread_id, last_ord) "
            "SELECT $1, * FROM unnest($2::text[], $3::bigint[]) ON CONFLICT (room_nid, thread_id) "
            "DO UPDATE SET last_ord = greatest(notified_threads.last_ord, excluded.last_ord)",
            room_nid,
            list(threads),
            list(threads.values()),
        )


_MARKS = (
    "SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::bigint[]) "
    "ON CONFLICT (user_nid, room_nid, thread_id) DO UPDATE SET ord = greatest(read_marks.ord, excluded.ord)"
)


def _mark_columns(marks: Mapping[tuple[int, str], int]) -> tuple[list[int], list[str], list[int]]:
    return [user_nid for user_nid, _ in marks], [thread_id for _, thread_id in marks], list(marks.values())


async def _write_ordinary(
    conn: Connection, room_nid: int, rows: Sequence[OrdinaryRow], marks: Mapping[tuple[int, str], int]
) -> None:
    # Marks come along in the same statement: a message has one nearly always.
    await conn.execute(
        f"""
        WITH marked AS (INSERT INTO read_marks (room_nid, user_nid, thread_id, ord) {_MARKS})
        INSERT INTO room_notifications (room_nid, ord, event_nid, thread_id, notify, highlight, unread,
               notifies, highlights, unreads, thread_notifies, thread_highlights, thread_unreads)
        SELECT $1, n.ord, n.event_nid, n.thread_id, n.notify, n.highlight, n.unread,
               coalesce(r.notifies, 0) + sum(n.notify::int) OVER room,
               coalesce(r.highlights, 0) + sum(n.highlight::int) OVER room,
               coalesce(r.unreads, 0) + sum(n.unread::int) OVER room,
               coalesce(t.thread_notifies, 0) + sum(n.notify::int) OVER thread,
               coalesce(t.thread_highlights, 0) + sum(n.highlight::int) OVER thread,
               coalesce(t.thread_unreads, 0) + sum(n.unread::int) OVER thread
          FROM unnest($5::bigint[], $6::bigint[], $7::text[], $8::bool[], $9::bool[], $10::bool[])
            AS n (ord, event_nid, thread_id, notify, highlight, unread)
          LEFT JOIN LATERAL (
            SELECT l.notifies, l.highlights, l.unreads FROM room_notifications l
             WHERE l.room_nid = $1 ORDER BY l.ord DESC LIMIT 1
          ) r ON true
          LEFT JOIN LATERAL (
            SELECT l.thread_notifies, l.thread_highlights, l.thread_unreads FROM room_notifications l
             WHERE l.room_nid = $1 AND l.thread_id = n.thread_id ORDER BY l.ord DESC LIMIT 1
          ) t ON true
        WINDOW room AS (ORDER BY n.ord), thread AS (PARTITION BY n.thread_id ORDER BY n.ord)
        """,  # noqa: S608
        room_nid,
        *_mark_columns(marks),
        *zip(*rows, strict=True),
    )


async def _write_quiet(conn: Connection, room_nid: int, change: QuietChange) -> None:
    if change.quiet:
        await conn.execute(
            "INSERT INTO quiet_spans (user_nid, room_nid, from_ord) VALUES ($1, $2, $3)",
            change.user_nid,
            room_nid,
            change.ord,
        )
    else:
        await conn.execute(
            "UPDATE quiet_spans SET to_ord = $3 WHERE user_nid = $1 AND room_nid = $2 AND to_ord = 9223372036854775807",
            change.user_nid,
            room_nid,
            change.ord,
        )


async def withdraw_notification(conn: Connection, room_nid: int, ord: int) -> None:
    """Takes back what the event at that place did to anybody."""
    await conn.execute(
        "WITH gone AS (DELETE FROM user_notifications WHERE room_nid = $1 AND ord = $2) "
        "UPDATE room_notifications SET withdrawn = true WHERE room_nid = $1 AND ord = $2",
        room_nid,
        ord,
    )


class MemberSettings(NamedTuple):
    """A member of a room who has changed push rules or ignores someone. Both are JSON, as it is stored."""

    user_nid: int
    user_id: str
    rules: bytes | None
    ignored: bytes | None
    quiet: bool


_SETTINGS = (
    "SELECT m.user_nid, u.user_id, p.rules, i.content, EXISTS (SELECT FROM quiet_spans q "
    "WHERE q.user_nid = m.user_nid AND q.room_nid = $1 AND q.to_ord = 9223372036854775807) AS quiet"
)
_SETTINGS_OF = (
    "JOIN users u ON u.user_nid = m.user_nid LEFT JOIN push_rules p ON p.user_nid = m.user_nid "
    "LEFT JOIN account_data i ON i.user_nid = m.user_nid AND i.room_nid = 0 AND i.type = 'm.ignored_user_list'"
)


async def members_with_settings(conn: Connection, room_nid: int) -> list[MemberSettings]:
    """All joined members with settings."""
    rows = await conn.fetch(
        f"{_SETTINGS} FROM room_members m {_SETTINGS_OF} "
        "WHERE m.room_nid = $1 AND m.membership = 'join' AND (p.user_nid IS NOT NULL OR i.user_nid IS NOT NULL)",
        room_nid,
    )
    return [MemberSettings(*row) for row in rows]


async def members_with_new_settings(conn: Connection, room_nid: int, after: int) -> list[MemberSettings]:
    """The joined members whose settings were changed in the positions after `after`."""
    rows = await conn.fetch(
        f"{_SETTINGS} FROM (SELECT user_nid FROM push_rules WHERE pos > $2 UNION "  # noqa: S608
        "SELECT user_nid FROM account_data WHERE pos > $2 AND type = 'm.ignored_user_list') c "
        f"JOIN room_members m ON m.room_nid = $1 AND m.user_nid = c.user_nid AND m.membership = 'join' {_SETTINGS_OF}",
        room_nid,
        after,
    )
    return [MemberSettings(*row) for row in rows]


async def settings_of(conn: Connection, room_nid: int, user_nids: Collection[int]) -> list[MemberSettings]:
    """The same for users, whether they are members or not."""
    rows = await conn.fetch(
        f"{_SETTINGS} FROM unnest($2::bigint[]) AS m (user_nid) {_SETTINGS_OF}",
        room_nid,
        list(user_nids),
    )
    return [MemberSettings(*row) for row in rows]


async def joined_count(conn: Connection, room_nid: int) -> int:
    """How many users are joined, here and elsewhere."""
    count: int = await conn.fetchval(
        "SELECT count(*) FROM room_members WHERE room_nid = $1 AND membership = 'join'", room_nid
    )
    return count


async def joined_among(conn: Connection, room_nid: int, user_nids: Collection[int]) -> set[int]:
    """Those of the users who are joined."""
    rows = await conn.fetch(
        "SELECT user_nid FROM room_members WHERE room_nid = $1 AND user_nid = ANY($2) AND membership = 'join'",
        room_nid,
        list(user_nids),
    )
    return {row["user_nid"] for row in rows}


async def joined_by_id(conn: Connection, room_nid: int, user_ids: Collection[str]) -> dict[str, int]:
    """Those of the users who are joined, by their ids, which may be any text: user_id -> user_nid."""
    rows = await conn.fetch(
        "SELECT u.user_id, u.user_nid FROM users u JOIN room_members m ON m.user_nid = u.user_nid "
        "WHERE u.user_id = ANY($2) AND m.room_nid = $1 AND m.membership = 'join'",
        room_nid,
        [user_id for user_id in user_ids if "\0" not in user_id],
    )
    return {row["user_id"]: row["user_nid"] for row in rows}


async def read_positions(conn: Connection, user_nid: int, room_nids: Collection[int]) -> dict[int, dict[str, int]]:
    """How far the user has read: room_nid -> thread (ALL_THREADS: whichever) -> ord. Of several the furthest counts.

    # spec: client-server-api/#marking-notifications-as-read
    """
    rows = await conn.fetch(
        """
        SELECT room_nid, thread_id, max(ord) AS ord FROM (
            SELECT room_nid, thread_id, ord FROM read_marks WHERE user_nid = $1 AND room_nid = ANY($2)
            UNION ALL
            SELECT p.room_nid, p.thread_id, e.ord FROM receipts p
              JOIN events e ON e.event_id = p.event_id AND e.room_nid = p.room_nid AND e.ord IS NOT NULL
             WHERE p.room_nid = ANY($2) AND p.receipt_type IN ('m.read', 'm.read.private') AND p.user_nid = $1
        ) p GROUP BY room_nid, thread_id
        """,
        user_nid,
        list(room_nids),
    )
    positions: dict[int, dict[str, int]] = {room_nid: {} for room_nid in room_nids}
    for row in rows:
        positions[row["room_nid"]][row["thread_id"]] = row["ord"]
    return positions


async def joined_at(conn: Connection, user_nid: int) -> dict[int, int]:
    """The rooms that the user is joined to, and since when: room_nid -> ord of the join."""
    rows = await conn.fetch(
        "SELECT m.room_nid, k.ord FROM room_members m JOIN read_marks k ON k.user_nid = m.user_nid "
        "AND k.room_nid = m.room_nid AND k.thread_id = '' WHERE m.user_nid = $1 AND m.membership = 'join'",
        user_nid,
    )
    return {row["room_nid"]: row["ord"] for row in rows}


async def quiet_spans(conn: Connection, user_nid: int, room_nids: Collection[int]) -> dict[int, list[tuple[int, int]]]:
    """room_nid -> when the user had silenced the room: [(from_ord, to_ord), …] in order, `to_ord` not included."""
    rows = await conn.fetch(
        "SELECT room_nid, from_ord, to_ord FROM quiet_spans WHERE user_nid = $1 AND room_nid = ANY($2) "
        "ORDER BY from_ord",
        user_nid,
        list(room_nids),
    )
    spans: dict[int, list[tuple[int, int]]] = {}
    for row in rows:
        spans.setdefault(row["room_nid"], []).append((row["from_ord"], row["to_ord"]))
    return spans


class Stretch(NamedTuple):
    """The events of a room above `after`, up to and with `until`; of one thread or (None) of all. While `quiet`, only
    rows of the user's own count as notifications."""

    room_nid: int
    thread_id: str | None
    after: int
    until: int
    quiet: bool = False


class Counts(NamedTuple):
    notify: int = 0
    highlight: int = 0
    unread: int = 0

    def plus(self, other: Counts, times: int = 1) -> Counts:
        """The sum with `times` the other."""
        return Counts(*(mine + times * theirs for mine, theirs in zip(self, other, strict=True)))


async def counts_between(conn: Connection, user_nid: int, stretches: Sequence[Stretch]) -> list[Counts]:
    """What the events of each stretch come to for the user; costs the same however many they are."""
    counts: list[Counts] = [Counts()] * len(stretches)
    for whole_room in (True, False):
        chosen = [place for place, stretch in enumerate(stretches) if (stretch.thread_id is None) is whole_room]
        if chosen:
            found = await _counts_between(conn, user_nid, [stretches[place] for place in chosen], whole_room)
            for place, count in zip(chosen, found, strict=True):
                counts[place] = count
    return counts


async def _counts_between(
    conn: Connection, user_nid: int, stretches: Sequence[Stretch], whole_room: bool
) -> list[Counts]:
    thread, total = ("", "") if whole_room else ("AND {}.thread_id = w.thread_id", "thread_")
    columns = ", ".join(f"n.{total}{name} AS {name}" for name in ("notifies", "highlights", "unreads"))
    totals = f"SELECT {columns} FROM room_notifications n WHERE n.room_nid = w.room_nid {thread.format('n')}"  # noqa: S608
    rows = await conn.fetch(
        f"""
        SELECT coalesce(high.notifies, 0) - coalesce(low.notifies, 0) - gone.notifies AS notifies,
               coalesce(high.highlights, 0) - coalesce(low.highlights, 0) - gone.highlights AS highlights,
               coalesce(high.unreads, 0) - coalesce(low.unreads, 0) - gone.unreads AS unreads,
               own.notifies AS own_notifies, own.highlights AS own_highlights, own.unreads AS own_unreads
          FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::bigint[])
               WITH ORDINALITY AS w (room_nid, thread_id, after, until, place)
          LEFT JOIN LATERAL ({totals} AND n.ord <= w.until ORDER BY n.ord DESC LIMIT 1) high ON true
          LEFT JOIN LATERAL ({totals} AND n.ord <= w.after ORDER BY n.ord DESC LIMIT 1) low ON true
          CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE g.notify) AS notifies, count(*) FILTER (WHERE g.highlight) AS highlights,
                   count(*) FILTER (WHERE g.unread) AS unreads
              FROM room_notifications g
             WHERE g.room_nid = w.room_nid AND g.withdrawn AND g.ord > w.after AND g.ord <= w.until {thread.format("g")}
          ) gone
          CROSS JOIN LATERAL (
            SELECT coalesce(sum(u.notify_diff), 0) AS notifies, coalesce(sum(u.highlight_diff), 0) AS highlights,
                   coalesce(sum(u.unread_diff), 0) AS unreads
              FROM user_notifications u
             WHERE u.user_nid = $1 AND u.room_nid = w.room_nid AND u.ord > w.after AND u.ord <= w.until
                   {thread.format("u")}
          ) own
         ORDER BY w.place
        """,  # noqa: S608
        user_nid,
        [stretch.room_nid for stretch in stretches],
        [stretch.thread_id for stretch in stretches],
        [stretch.after for stretch in stretches],
        [stretch.until for stretch in stretches],
    )
    return [
        Counts(
            row["own_notifies"] + (0 if stretch.quiet else row["notifies"]),
            row["own_highlights"] + (0 if stretch.quiet else row["highlights"]),
            row["own_unreads"] + row["unreads"],
        )
        for stretch, row in zip(stretches, rows, strict=True)
    ]


async def threads_after(conn: Connection, places: Mapping[int, int]) -> list[tuple[int, str, int]]:
    """For each room the threads in which anyone was notified after a place: (room_nid, thread_id, last ord).

    :param places: room_nid -> ord
    """
    rows = await conn.fetch(
        "SELECT t.room_nid, t.thread_id, t.last_ord FROM unnest($1::bigint[], $2::bigint[]) AS w (room_nid, after) "
        "JOIN notified_threads t ON t.room_nid = w.room_nid AND t.last_ord > w.after",
        list(places),
        list(places.values()),
    )
    return [(row["room_nid"], row["thread_id"], row["last_ord"]) for row in rows]


async def rooms_with_changed_counts(
    conn: Connection, user_nid: int, room_nids: Collection[int], after: int, until: int
) -> set[int]:
    """Those of the rooms in which something that the user's counts depend on happened after position `after`, up to
    `until`."""
    rows = await conn.fetch(
        """
        SELECT w.room_nid FROM unnest($2::bigint[]) AS w (room_nid)
         WHERE EXISTS (SELECT FROM room_notifications n
                        WHERE n.room_nid = w.room_nid AND n.ord > $3::bigint << 20 AND n.ord <= $4::bigint << 20)
            OR EXISTS (SELECT FROM user_notifications u WHERE u.user_nid = $1 AND u.room_nid = w.room_nid
                          AND u.ord > $3::bigint << 20 AND u.ord <= $4::bigint << 20)
            OR EXISTS (SELECT FROM read_marks k WHERE k.user_nid = $1 AND k.room_nid = w.room_nid
                          AND k.ord > $3::bigint << 20 AND k.ord <= $4::bigint << 20)
            OR EXISTS (SELECT FROM receipts p WHERE p.room_nid = w.room_nid AND p.user_nid = $1
                          AND p.receipt_type IN ('m.read', 'm.read.private') AND p.pos > $3 AND p.pos <= $4)
            OR EXISTS (SELECT FROM events e WHERE e.room_nid = w.room_nid AND e.type = 'm.room.redaction' AND e.live
                          AND e.ord > $3::bigint << 20 AND e.ord <= $4::bigint << 20)
        """,
        user_nid,
        list(room_nids),
        after,
        until,
    )
    return {row["room_nid"] for row in rows}


class Notification(NamedTuple):
    """That an event notified a user."""

    room_nid: int
    ord: int
    event_nid: int
    thread_id: str
    highlight: bool


async def newest_notifications(
    conn: Connection, user_nid: int, stretches: Sequence[Stretch], *, before: int, count: int, highlights: bool
) -> list[Notification]:
    """The newest events below `before` that notified the user, newest first.

    :param stretches: where ordinary events did: of whole rooms, none of them quiet
    :param highlights: only those that did so as highlights
    """
    only = "AND {0}.highlight" if highlights else ""
    rows = await conn.fetch(
        f"""
        SELECT * FROM (
            SELECT n.* FROM unnest($4::bigint[], $5::bigint[], $6::bigint[]) AS w (room_nid, after, until)
             CROSS JOIN LATERAL (
                SELECT n.room_nid, n.ord, n.event_nid, n.thread_id, n.highlight FROM room_notifications n
                  JOIN events e ON e.event_nid = n.event_nid AND e.sender_nid <> $1
                 WHERE n.room_nid = w.room_nid AND n.ord > w.after AND n.ord <= w.until AND n.ord < $2
                   AND n.notify AND NOT n.withdrawn {only.format("n")}
                   AND NOT EXISTS (SELECT FROM user_notifications u
                                    WHERE u.user_nid = $1 AND u.room_nid = n.room_nid AND u.ord = n.ord)
                 ORDER BY n.ord DESC LIMIT $3
             ) n
             UNION ALL
            SELECT u.room_nid, u.ord, u.event_nid, u.thread_id, u.highlight FROM user_notifications u
              JOIN room_members m ON m.room_nid = u.room_nid AND m.user_nid = $1 AND m.membership IN ('join', 'invite')
             WHERE u.user_nid = $1 AND u.ord < $2 AND u.notify {only.format("u")}
        ) n ORDER BY ord DESC LIMIT $3
        """,  # noqa: S608
        user_nid,
        before,
        count,
        [stretch.room_nid for stretch in stretches],
        [stretch.after for stretch in stretches],
        [stretch.until for stretch in stretches],
    )
    return [Notification(*row) for row in rows]


class NotifyingEvent(NamedTuple):
    """An event that notified someone; `ordinary`: the members of its room, unless it is said otherwise of them."""

    ord: int
    room_nid: int
    event_nid: int
    ordinary: bool


async def notifying_events(conn: Connection, after: int, until: int, count: int) -> list[NotifyingEvent]:
    """The first `count` events in the positions after `after`, up to `until`, that notified someone: what whoever
    sends push notifications reads on from its own position. `notified_among` says whom."""
    rows = await conn.fetch(
        """
        SELECT ord, room_nid, event_nid, bool_or(ordinary) AS ordinary FROM (
            (SELECT ord, room_nid, event_nid, true AS ordinary FROM room_notifications
              WHERE notify AND NOT withdrawn AND ord > $1::bigint << 20 AND ord <= $2::bigint << 20
              ORDER BY ord LIMIT $3)
            UNION ALL
            (SELECT DISTINCT ord, room_nid, event_nid, false FROM user_notifications
              WHERE notify AND ord > $1::bigint << 20 AND ord <= $2::bigint << 20 ORDER BY ord LIMIT $3)
        ) n GROUP BY ord, room_nid, event_nid ORDER BY ord LIMIT $3
        """,
        after,
        until,
        count,
    )
    return [NotifyingEvent(*row) for row in rows]


async def notified_among(conn: Connection, event: NotifyingEvent, user_nids: Collection[int]) -> dict[int, bool]:
    """Those of the users whom the event notified, and who are still where it did: user_nid -> whether as highlight."""
    rows = await conn.fetch(
        """
        SELECT m.user_nid, coalesce(u.highlight, n.highlight, false) AS highlight
          FROM room_members m JOIN events e ON e.event_nid = $3
          LEFT JOIN room_notifications n ON n.room_nid = $1 AND n.ord = $2
          LEFT JOIN user_notifications u ON u.user_nid = m.user_nid AND u.room_nid = $1 AND u.ord = $2
          LEFT JOIN read_marks k ON k.user_nid = m.user_nid AND k.room_nid = $1 AND k.thread_id = ''
         WHERE m.room_nid = $1 AND m.user_nid = ANY($4) AND m.membership IN ('join', 'invite')
           AND e.sender_nid <> m.user_nid
           AND coalesce(u.notify, m.membership = 'join' AND n.notify AND NOT n.withdrawn AND k.ord < $2
                        AND NOT EXISTS (SELECT FROM quiet_spans q WHERE q.user_nid = m.user_nid AND q.room_nid = $1
                                           AND q.from_ord <= $2 AND q.to_ord > $2), false)
        """,
        event.room_nid,
        event.ord,
        event.event_nid,
        list(user_nids),
    )
    return {row["user_nid"]: row["highlight"] for row in rows}
