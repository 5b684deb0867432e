"""Pushers, and the events that each has still to send.

A reader of the stream, the fan-out, enters in `push_queue` which events go to whom, and moves its own position in the
same transaction: whatever crashes, an event is entered once. A row is deleted in the transaction that takes note that
the other side has taken the event.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import asyncpg

from homeserver.protocol.canonical_json import decode_json, encode_json
from homeserver.protocol.events import JsonObject
from homeserver.storage.events import ORD_SHIFT
from homeserver.storage.notifications import NotifyingEvent
from homeserver.storage.stream import Connection

# The first of a pair of numbers that no other advisory lock of ours uses; the other is a hash.
_KEY_LOCK = 0x7A1C


@dataclass(frozen=True, slots=True)
class PusherFields:
    """What a client says of a pusher.  # spec: client-server-api/#post_matrixclientv3pushersset"""

    app_id: str
    pushkey: str
    kind: str
    app_display_name: str
    device_display_name: str
    profile_tag: str | None
    lang: str
    data: JsonObject


@dataclass(frozen=True, slots=True)
class Pusher:
    """A pusher and how it goes. Times in ms.

    `badge` is the number of unread messages that it was told last, None before the first. It may have changed at the
    position `changed_pos`, and was told (or found to be the same) as of `told_pos`. `failures` are those in a row, and
    before `retry_at_ts` the pusher is left alone. One with an `ack_token` is sent that, if it is due, and nothing else,
    until its client has said it back.
    """

    pusher_id: int
    user_nid: int
    device_id: str | None
    fields: PusherFields
    enabled: bool
    ack_token: str | None
    ack_expires_ts: int
    ack_due: bool
    set_ts: int
    badge: int | None
    changed_pos: int
    told_pos: int
    failures: int
    retry_at_ts: int

    @property
    def badge_due(self) -> bool:
        """Whether the other side may have to be told another number."""
        return self.changed_pos > self.told_pos


class QueuedEvent(NamedTuple):
    """An event that a pusher has still to send."""

    event_nid: int
    room_nid: int
    ord: int
    queued_ts: int


_FIELDS = "app_id, pushkey, kind, app_display_name, device_display_name, profile_tag, lang, data"
_COLUMNS = (
    f"pusher_id, user_nid, device_id, {_FIELDS}, enabled, ack_token, ack_expires_ts, ack_due, "
    "set_ts, badge, changed_pos, told_pos, failures, retry_at_ts"
)


def _pusher(row: asyncpg.Record) -> Pusher:
    values: dict[str, Any] = dict(row)
    fields = {name: values.pop(name) for name in _FIELDS.split(", ")}
    return Pusher(fields=PusherFields(**{**fields, "data": decode_json(fields["data"])}), **values)


async def lock_pushkey(conn: Connection, app_id: str, pushkey: str) -> None:
    """Has whoever else sets or deletes pushers with that key wait until the transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _KEY_LOCK, f"{app_id}\n{pushkey}")


async def list_pushers(conn: Connection, user_nid: int) -> list[Pusher]:
    rows = await conn.fetch(f"SELECT {_COLUMNS} FROM pushers WHERE user_nid = $1 ORDER BY pusher_id", user_nid)  # noqa: S608
    return [_pusher(row) for row in rows]


async def find_pusher(conn: Connection, pusher_id: int) -> Pusher | None:
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM pushers WHERE pusher_id = $1", pusher_id)  # noqa: S608
    return _pusher(row) if row is not None else None


async def put_pusher(
    conn: Connection,
    user_nid: int,
    device_id: str | None,
    fields: PusherFields,
    *,
    enabled: bool | None,
    ack: tuple[str, int] | None,
    pos: int,
    now_ms: int,
) -> None:
    """Makes a pusher, or has it be as the client says now: it starts afresh, with what it has still to send.

    :param enabled: None leaves that as it is. Whoever switches a pusher on or off from elsewhere does not take it over.
    :param ack: a token that the client must say back before anything is pushed, and until when (ms)
    :param pos: the position of the change; earlier events don't concern a pusher that was not there, or was off
    """
    await conn.execute(
        f"""
        INSERT INTO pushers AS p (user_nid, device_id, {_FIELDS}, enabled, set_ts, pos, after_pos,
                                  ack_token, ack_expires_ts, ack_due)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, coalesce($11, true), $12, $13, $13,
                $14::text, coalesce($15::bigint, 0), $14::text IS NOT NULL)
        ON CONFLICT (user_nid, app_id, pushkey) DO UPDATE SET
            device_id = CASE WHEN $11::boolean IS NULL THEN excluded.device_id ELSE p.device_id END,
            kind = excluded.kind, app_display_name = excluded.app_display_name,
            device_display_name = excluded.device_display_name, profile_tag = excluded.profile_tag,
            lang = excluded.lang, data = excluded.data, enabled = coalesce($11, p.enabled),
            set_ts = excluded.set_ts, pos = excluded.pos, failures = 0, retry_at_ts = 0,
            ack_token = CASE WHEN $14::text IS NULL AND excluded.kind = p.kind THEN p.ack_token ELSE $14::text END,
            ack_expires_ts = CASE WHEN $14::text IS NULL THEN p.ack_expires_ts ELSE $15::bigint END,
            ack_due = CASE WHEN $14::text IS NULL THEN p.ack_due AND excluded.kind = p.kind ELSE true END,
            after_pos = CASE WHEN p.enabled THEN p.after_pos ELSE excluded.after_pos END
        """,  # noqa: S608
        user_nid,
        device_id,
        fields.app_id,
        fields.pushkey,
        fields.kind,
        fields.app_display_name,
        fields.device_display_name,
        fields.profile_tag,
        fields.lang,
        encode_json(fields.data),
        enabled,
        now_ms,
        pos,
        *(ack or (None, None)),
    )
    if enabled is False:
        await conn.execute(
            "DELETE FROM push_queue WHERE pusher_id = (SELECT pusher_id FROM pushers "
            "WHERE user_nid = $1 AND app_id = $2 AND pushkey = $3)",
            user_nid,
            fields.app_id,
            fields.pushkey,
        )


async def delete_pusher(conn: Connection, user_nid: int, app_id: str, pushkey: str) -> None:
    await conn.execute(
        "DELETE FROM pushers WHERE user_nid = $1 AND app_id = $2 AND pushkey = $3", user_nid, app_id, pushkey
    )


async def delete_pushers_of_others(conn: Connection, user_nid: int, app_id: str, pushkey: str) -> None:
    """Deletes every pusher with that key that is not this user's."""
    await conn.execute(
        "DELETE FROM pushers WHERE user_nid <> $1 AND app_id = $2 AND pushkey = $3", user_nid, app_id, pushkey
    )


async def delete_rejected(conn: Connection, pusher: Pusher) -> bool:
    """Deletes a pusher whose key was rejected, unless its client has set it again meanwhile; whether it did."""
    done = await conn.fetchval(
        "DELETE FROM pushers WHERE pusher_id = $1 AND set_ts = $2 RETURNING true", pusher.pusher_id, pusher.set_ts
    )
    return bool(done)


# Fan-out


async def any_pusher(conn: Connection) -> bool:
    return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM pushers)"))


async def users_with_pushers(conn: Connection, room_nid: int) -> list[int]:
    """The members of a room, and those invited to it, to whom something could be pushed."""
    rows = await conn.fetch(
        "SELECT DISTINCT p.user_nid FROM pushers p JOIN room_members m ON m.room_nid = $1 "
        "AND m.user_nid = p.user_nid AND m.membership IN ('join', 'invite') WHERE p.enabled",
        room_nid,
    )
    return [row["user_nid"] for row in rows]


async def queue_event(conn: Connection, event: NotifyingEvent, user_nids: Collection[int], now_ms: int) -> set[int]:
    """Has every pusher of these users send the event; gives those pushers."""
    rows = await conn.fetch(
        "INSERT INTO push_queue (pusher_id, event_nid, room_nid, ord, queued_ts) "
        "SELECT p.pusher_id, $2, $3, $4, $5 FROM pushers p WHERE p.user_nid = ANY($1) AND p.enabled "
        "AND p.ack_token IS NULL AND p.after_pos < $6 ON CONFLICT DO NOTHING RETURNING pusher_id",
        list(user_nids),
        event.event_nid,
        event.room_nid,
        event.ord,
        now_ms,
        event.ord >> ORD_SHIFT,
    )
    return {row["pusher_id"] for row in rows}


async def mark_badges_due(conn: Connection, after: int, until: int) -> set[int]:
    """Has the pushers look at their badge whose users have read or said something in the positions after `after`, up
    to and with `until`; gives those pushers. What was told that nothing is unread, or was told nothing, is right."""
    rows = await conn.fetch(
        "UPDATE pushers p SET changed_pos = $2 FROM ("
        "SELECT user_nid FROM receipts WHERE pos > $1 AND pos <= $2 AND receipt_type IN ('m.read', 'm.read.private') "
        "UNION SELECT sender_nid FROM events WHERE event_nid > $1 AND event_nid <= $2 AND live"
        ") r WHERE p.user_nid = r.user_nid AND p.enabled AND (p.badge > 0 OR EXISTS ("
        "SELECT FROM push_queue q WHERE q.pusher_id = p.pusher_id)) RETURNING p.pusher_id",
        after,
        until,
    )
    return {row["pusher_id"] for row in rows}


async def pushers_set(conn: Connection, after: int, until: int) -> set[int]:
    """The pushers that their clients have set in the positions after `after`, up to and with `until`."""
    rows = await conn.fetch("SELECT pusher_id FROM pushers WHERE pos > $1 AND pos <= $2", after, until)
    return {row["pusher_id"] for row in rows}


async def waiting_pushers(conn: Connection) -> dict[int, int]:
    """The pushers that have something to send, and from when (ms) they may."""
    rows = await conn.fetch(
        "SELECT p.pusher_id, p.retry_at_ts FROM pushers p WHERE p.enabled AND (p.ack_due OR p.changed_pos > p.told_pos "
        "OR EXISTS (SELECT FROM push_queue q WHERE q.pusher_id = p.pusher_id))"
    )
    return {row["pusher_id"]: row["retry_at_ts"] for row in rows}


# Sending


async def next_events(conn: Connection, pusher_id: int, count: int) -> list[QueuedEvent]:
    """What a pusher has to send next, in the order of the stream."""
    rows = await conn.fetch(
        "SELECT event_nid, room_nid, ord, queued_ts FROM push_queue WHERE pusher_id = $1 "
        "ORDER BY ord, event_nid LIMIT $2",
        pusher_id,
        count,
    )
    return [QueuedEvent(*row) for row in rows]


async def delete_queued(conn: Connection, pusher_id: int, events: Sequence[QueuedEvent]) -> None:
    """Takes note that a pusher has sent these, or need not send them."""
    await conn.execute(
        "DELETE FROM push_queue q USING unnest($2::bigint[], $3::bigint[]) AS s (ord, event_nid) "
        "WHERE q.pusher_id = $1 AND q.ord = s.ord AND q.event_nid = s.event_nid",
        pusher_id,
        [event.ord for event in events],
        [event.event_nid for event in events],
    )


async def delete_old_queued(conn: Connection, pusher_id: int, before_ms: int, keep: int) -> int:
    """Gives up what a pusher has tried to send since before a moment, and all but the newest `keep`; how many."""
    rows = await conn.fetch(
        "DELETE FROM push_queue WHERE pusher_id = $1 AND (queued_ts < $2 OR ord <= (SELECT ord FROM push_queue "
        "WHERE pusher_id = $1 ORDER BY ord DESC OFFSET $3 LIMIT 1)) RETURNING 1",
        pusher_id,
        before_ms,
        keep,
    )
    return len(rows)


async def set_badge(conn: Connection, pusher: Pusher, badge: int, *, sent: bool) -> None:
    """Takes note that the other side knows that number of unread messages.

    :param pusher: as it was before they were counted: what changed since is still to be told
    :param sent: it was just told that, so it can be reached
    """
    await conn.execute(
        "UPDATE pushers SET badge = $2, told_pos = greatest(told_pos, $3), failures = failures * $4, "
        "retry_at_ts = retry_at_ts * $4 WHERE pusher_id = $1",
        pusher.pusher_id,
        badge,
        pusher.changed_pos,
        0 if sent else 1,
    )


async def activate(conn: Connection, pusher_id: int, pos: int) -> None:
    """Takes note that a pusher's client has said its token back: from position `pos` on it is told of events."""
    await conn.execute(
        "UPDATE pushers SET ack_token = NULL, ack_due = false, after_pos = $2 WHERE pusher_id = $1", pusher_id, pos
    )


async def clear_ack_due(conn: Connection, pusher: Pusher) -> None:
    """Takes note that a pusher has sent its token, or need not any more."""
    await conn.execute(
        "UPDATE pushers SET ack_due = false, failures = 0, retry_at_ts = 0 WHERE pusher_id = $1 AND set_ts = $2",
        pusher.pusher_id,
        pusher.set_ts,
    )


async def write_failure(conn: Connection, pusher: Pusher, failures: int, retry_at_ts: int) -> None:
    """Takes note that a pusher fails, unless its client has set it again meanwhile."""
    await conn.execute(
        "UPDATE pushers SET failures = $3, retry_at_ts = $4 WHERE pusher_id = $1 AND set_ts = $2",
        pusher.pusher_id,
        pusher.set_ts,
        failures,
        retry_at_ts,
    )
