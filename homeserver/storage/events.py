"""Events as rows: written once, read by number or by id."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import asyncpg
import orjson

from homeserver.protocol.canonical_json import encode_canonical_json
from homeserver.protocol.events import Event
from homeserver.protocol.identifiers import fits_identifier
from homeserver.protocol.room_versions import room_version
from homeserver.storage.event_search import index_events
from homeserver.storage.stream import Connection

# The place in the timeline of an event told at position p is p << ORD_SHIFT: between two of them is room for what is
# found later.
ORD_SHIFT = 20


class Status(IntEnum):
    """What the checks on receipt said.  # spec: server-server-api/#checks-performed-on-receipt-of-a-pdu"""

    ACCEPTED = 0
    SOFT_FAILED = 1
    REJECTED = 2
    OUTLIER = 3  # known by itself, its place in the DAG and the state before it are not
    REJECTED_OUTLIER = 4

    @property
    def rejected(self) -> bool:
        return self in (Status.REJECTED, Status.REJECTED_OUTLIER)

    @property
    def outlier(self) -> bool:
        return self in (Status.OUTLIER, Status.REJECTED_OUTLIER)


_STATUSES = tuple(Status)  # by their numbers; the class itself takes longer to ask


@dataclass(slots=True)
class StoredEvent:
    """An event with what this server knows about it."""

    nid: int
    room_nid: int
    event: Event
    status: Status
    ord: int | None
    live: bool
    state_key_nid: int | None
    snapshot_nid: int | None
    redacted_by: int | None

    @property
    def pos(self) -> int | None:
        """The position at which sync told of it."""
        return self.ord >> ORD_SHIFT if self.ord is not None and self.live else None


@dataclass(slots=True)
class NewEventRow:
    """An event about to be written. `json` is what is stored: the PDU, or its redacted form."""

    nid: int
    event: Event
    json: bytes
    status: Status
    ord: int | None
    live: bool
    sender_nid: int
    state_key_nid: int | None
    snapshot_nid: int | None
    auth_nids: Sequence[int]
    redacted_by: int | None = None


COLUMNS = (
    "e.event_nid, e.event_id, e.room_nid, e.ord, e.live, e.status, e.state_key_nid, e.snapshot_nid, e.redacted_by, "
    "e.json, r.room_version"
)
FROM = "events e JOIN rooms r USING (room_nid)"


def stored_event(row: asyncpg.Record) -> StoredEvent:
    """A row that begins with COLUMNS, in their order, as a value."""
    nid, event_id, room_nid, ord, live, status, state_key_nid, snapshot_nid, redacted_by, json, version = row[:11]
    event = Event(orjson.loads(json), room_version(version), event_id)
    return StoredEvent(nid, room_nid, event, _STATUSES[status], ord, live, state_key_nid, snapshot_nid, redacted_by)


async def events_by_nid(conn: Connection, nids: Collection[int]) -> dict[int, StoredEvent]:
    """The events of these numbers."""
    if not nids:
        return {}
    rows = await conn.fetch(f"SELECT {COLUMNS} FROM {FROM} WHERE e.event_nid = ANY($1)", list(nids))  # noqa: S608
    return {row["event_nid"]: stored_event(row) for row in rows}


async def events_by_id(
    conn: Connection, event_ids: Collection[str], room_nid: int | None = None
) -> dict[str, StoredEvent]:
    """The events of these ids that are known; only those of one room, if given."""
    if not event_ids:
        return {}
    rows = await conn.fetch(
        f"SELECT {COLUMNS} FROM {FROM} WHERE e.event_id = ANY($1) AND ($2::bigint IS NULL OR e.room_nid = $2)",  # noqa: S608
        list(event_ids),
        room_nid,
    )
    return {row["event_id"]: stored_event(row) for row in rows}


async def event_by_id(conn: Connection, event_id: str, room_nid: int | None = None) -> StoredEvent | None:
    """The event of that id, if it is known (and in that room, if given)."""
    return (await events_by_id(conn, [event_id], room_nid)).get(event_id)


async def ids_of(conn: Connection, nids: Collection[int]) -> dict[int, str]:
    """event_nid -> event_id."""
    rows = await conn.fetch("SELECT event_nid, event_id FROM events WHERE event_nid = ANY($1)", list(nids))
    return {row["event_nid"]: row["event_id"] for row in rows}


async def statuses_of(conn: Connection, event_ids: Collection[str]) -> dict[str, Status]:
    """event_id -> status of those that are known."""
    rows = await conn.fetch("SELECT event_id, status FROM events WHERE event_id = ANY($1)", list(event_ids))
    return {row["event_id"]: Status(row["status"]) for row in rows}


async def auth_chain_nids(conn: Connection, nids: Collection[int]) -> set[int]:
    """Every event reachable from these over auth_events, without these themselves unless they reach one another."""
    rows = await conn.fetch(
        """
        WITH RECURSIVE chain (nid) AS (
            SELECT DISTINCT unnest(auth_nids) FROM events WHERE event_nid = ANY($1)
            UNION
            SELECT unnest(e.auth_nids) FROM chain JOIN events e ON e.event_nid = chain.nid
        )
        SELECT nid FROM chain
        """,
        list(nids),
    )
    return {row["nid"] for row in rows}


def contains_url(event: Event) -> bool:
    """Whether `content.url` is a string, as the filter field of that name asks."""
    return isinstance(event.content.get("url"), str)


async def insert_events(conn: Connection, room_nid: int, rows: Sequence[NewEventRow]) -> None:
    """Writes events with their relations, the redactions they ask for and the words that they are found by.

    What was an outlier gets its place.
    """
    events = [row.event for row in rows]
    await conn.execute(
        """
        INSERT INTO events (event_nid, event_id, room_nid, ord, live, status, sender_nid, type, state_key_nid, depth,
                            origin_server_ts, contains_url, snapshot_nid, redacted_by, json, auth_nids)
        SELECT n.nid, n.id, $1, n.ord, n.live, n.status, n.sender, n.type, n.state_key, n.depth, n.ts, n.url,
               n.snapshot, n.redacted, n.json, n.auth::bigint[]
          FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::bool[], $6::smallint[], $7::bigint[], $8::text[],
                      $9::bigint[], $10::bigint[], $11::bigint[], $12::bool[], $13::bigint[], $14::bigint[],
                      $15::bytea[], $16::text[])
            AS n (nid, id, ord, live, status, sender, type, state_key, depth, ts, url, snapshot, redacted, json, auth)
        ON CONFLICT (event_id) DO UPDATE
           SET ord = excluded.ord, live = excluded.live, status = excluded.status, snapshot_nid = excluded.snapshot_nid,
               auth_nids = excluded.auth_nids
         WHERE events.status IN (3, 4)
        """,
        room_nid,
        [row.nid for row in rows],
        [event.event_id for event in events],
        [row.ord for row in rows],
        [row.live for row in rows],
        [int(row.status) for row in rows],
        [row.sender_nid for row in rows],
        [event.type for event in events],
        [row.state_key_nid for row in rows],
        [min(event.depth, 2**63 - 1) for event in events],
        [max(min(event.origin_server_ts, 2**63 - 1), -(2**63)) for event in events],
        [contains_url(event) for event in events],
        [row.snapshot_nid for row in rows],
        [row.redacted_by for row in rows],
        [row.json for row in rows],
        # unnest flattens arrays of arrays, so these travel as array literals.
        ["{" + ",".join(map(str, row.auth_nids)) + "}" for row in rows],
    )
    await _insert_relations(conn, room_nid, rows)
    await index_events(conn, room_nid, rows)
    redactions = [
        (row.nid, redacts)
        for row in rows
        if (redacts := row.event.redacts) and fits_identifier(redacts) and not row.status.rejected
    ]
    if redactions:
        await conn.executemany(
            "INSERT INTO redactions (event_nid, room_nid, redacts) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            [(nid, room_nid, _storable(redacts)) for nid, redacts in redactions],
        )


async def _insert_relations(conn: Connection, room_nid: int, rows: Iterable[NewEventRow]) -> None:
    relations = [
        (row.nid, room_nid, *relation, row.sender_nid, row.ord, can_replace(row.event))
        for row in rows
        if row.status <= Status.SOFT_FAILED and (relation := relation_of(row.event.content)) is not None
    ]
    if relations:
        await conn.executemany(
            "INSERT INTO event_relations (event_nid, room_nid, relates_to, rel_type, key, sender_nid, ord, replaces) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
            relations,
        )


def relation_of(content: dict[str, Any]) -> tuple[str, str, str | None] | None:
    """(event_id, rel_type, key) of an event's `m.relates_to`.

    # spec: client-server-api/#forming-relationships-between-events
    """
    relation = content.get("m.relates_to")
    if not isinstance(relation, dict):
        return None
    target, rel_type, key = relation.get("event_id"), relation.get("rel_type"), relation.get("key")
    if not isinstance(target, str) or not isinstance(rel_type, str):
        return None
    if not fits_identifier(target) or not fits_identifier(rel_type):
        return None  # an index can't hold it, and no event has such an id
    return _storable(target), _storable(rel_type), _storable(key) if isinstance(key, str) else None


def can_replace(event: Event) -> bool:
    """Whether an event has what a replacement must have in itself.

    # spec: client-server-api/#validity-of-replacement-events
    """
    relation = relation_of(event.content)
    if relation is None or relation[1] != "m.replace" or event.is_state:
        return False
    # What is encrypted has its new content inside.
    return event.type == "m.room.encrypted" or isinstance(event.content.get("m.new_content"), dict)


def _storable(text: str) -> str:
    # PostgreSQL's text has no NUL; nothing that means anything contains one.
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


async def auth_edges(conn: Connection, nids: Collection[int]) -> dict[str, list[str]]:
    """event_nid -> the numbers of its auth_events, both as decimal strings: names for the pure graph functions."""
    rows = await conn.fetch("SELECT event_nid, auth_nids FROM events WHERE event_nid = ANY($1)", list(nids))
    return {str(row["event_nid"]): [str(nid) for nid in row["auth_nids"]] for row in rows}


def outlier_row(nid: int, event: Event, *, sender_nid: int, state_key_nid: int | None) -> NewEventRow:
    """An event by itself, as it is kept of invites, knocks and their ends in rooms that this server is not in."""
    return NewEventRow(
        nid=nid,
        event=event,
        json=encode_canonical_json(event.json, strict=event.room_version.strict_canonical_json),
        status=Status.OUTLIER,
        ord=None,
        live=False,
        sender_nid=sender_nid,
        state_key_nid=state_key_nid,
        snapshot_nid=None,
        auth_nids=[],
    )
