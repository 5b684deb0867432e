"""Which threads users have subscribed to. A row stays when a subscription ends, to tell of it (proposals, MSC4306 and
MSC4308).

Who subscribes has the push rules that are made for it, so the first subscription is also a change of push rules: those
who tell of these, and those who remember them, learn of it like of any other.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from homeserver.protocol.push_rules import has_thread_subscriptions, with_thread_subscriptions
from homeserver.storage.push_rules import find_push_rules, lock_push_rules, put_push_rules
from homeserver.storage.stream import Connection


class ThreadSubscription(NamedTuple):
    """`thread_id` is the event id of the root, `pos` that of the last change."""

    room_nid: int
    thread_id: str
    subscribed: bool
    automatic: bool
    pos: int


_COLUMNS = "room_nid, thread_id, subscribed, automatic, pos"


async def find_subscription(
    conn: Connection, user_nid: int, room_nid: int, thread_id: str
) -> ThreadSubscription | None:
    """What the user last said of the thread."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM thread_subscriptions WHERE user_nid = $1 AND room_nid = $2 AND thread_id = $3",  # noqa: S608
        user_nid,
        room_nid,
        thread_id,
    )
    return None if row is None else ThreadSubscription(*row)


async def write_subscription(conn: Connection, user_nid: int, subscription: ThreadSubscription) -> None:
    """Sets what the user says of a thread. Must run under `lock_subscriptions`."""
    rules = await find_push_rules(conn, user_nid)
    if not has_thread_subscriptions(rules):
        await put_push_rules(conn, user_nid, with_thread_subscriptions(rules), subscription.pos)
    await conn.execute(
        "INSERT INTO thread_subscriptions (user_nid, room_nid, thread_id, subscribed, automatic, pos) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (user_nid, room_nid, thread_id) DO UPDATE SET "
        "subscribed = excluded.subscribed, automatic = excluded.automatic, pos = excluded.pos",
        user_nid,
        *subscription,
    )


async def subscribed_among(conn: Connection, room_nid: int, thread_id: str, user_nids: Collection[int]) -> set[int]:
    """Those of the users who are subscribed to the thread."""
    rows = await conn.fetch(
        "SELECT user_nid FROM thread_subscriptions "
        "WHERE user_nid = ANY($3) AND room_nid = $1 AND thread_id = $2 AND subscribed",
        room_nid,
        thread_id,
        list(user_nids),
    )
    return {row["user_nid"] for row in rows}


async def subscription_changes(
    conn: Connection, user_nid: int, *, after: int, until: int, limit: int, subscribed_only: bool = False
) -> list[ThreadSubscription]:
    """What changed after position `after` up to `until`, the newest first."""
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM thread_subscriptions WHERE user_nid = $1 AND pos > $2 AND pos <= $3 "  # noqa: S608
        "AND (subscribed OR NOT $5) ORDER BY pos DESC LIMIT $4",
        user_nid,
        after,
        until,
        limit,
        subscribed_only,
    )
    return [ThreadSubscription(*row) for row in rows]


async def lock_subscriptions(conn: Connection, user_nid: int) -> None:
    """Until the transaction ends, whoever else changes this user's subscriptions or push rules waits."""
    await lock_push_rules(conn, user_nid)
