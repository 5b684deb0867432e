"""What one user has sent into one room, found by walking the room's timeline a stretch at a time.

An index by sender would cost every message that is sent, and only rare work in the background asks for this.
"""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.storage.events import StoredEvent, events_by_nid
from homeserver.storage.stream import Connection

_STRETCH = 5_000  # events that one step looks at
LAST_ORD = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Stretch:
    """The events of the user in a stretch of a timeline, and where the next begins; None: there is no more."""

    events: list[StoredEvent]
    next_ord: int | None


async def sent_before(conn: Connection, room_nid: int, sender_nid: int, ord: int) -> Stretch:
    """The events of a user below a place, in the stretch that ends there; the newest first."""
    rows = await conn.fetch(
        "WITH stretch AS MATERIALIZED (SELECT event_nid, ord, sender_nid FROM events "
        "WHERE room_nid = $1 AND ord < $3 ORDER BY ord DESC LIMIT $4) "
        "SELECT event_nid, ord, sender_nid = $2 AS own FROM stretch "
        "WHERE sender_nid = $2 OR ord = (SELECT min(ord) FROM stretch) ORDER BY ord DESC",
        room_nid,
        sender_nid,
        ord,
        _STRETCH,
    )
    if not rows:
        return Stretch([], None)
    nids = [row["event_nid"] for row in rows if row["own"]]
    events = await events_by_nid(conn, nids)
    return Stretch([events[nid] for nid in nids], rows[-1]["ord"])


async def unindex_sent(conn: Connection, room_nid: int, sender_nid: int, ord: int) -> int | None:
    """Takes what a user has sent below a place, in the stretch that ends there, out of the search.

    :returns: where the next stretch begins; None: there is no more
    """
    row = await conn.fetchrow(
        "WITH stretch AS MATERIALIZED (SELECT event_nid, ord, sender_nid FROM events "
        "WHERE room_nid = $1 AND ord < $3 ORDER BY ord DESC LIMIT $4), "
        "gone AS (DELETE FROM event_search WHERE event_nid IN (SELECT event_nid FROM stretch WHERE sender_nid = $2)) "
        "SELECT min(ord) AS next_ord FROM stretch",
        room_nid,
        sender_nid,
        ord,
        _STRETCH,
    )
    next_ord: int | None = row["next_ord"] if row is not None else None
    return next_ord
