"""EDUs that must not get lost: what is kept for each destination until it has had it.

A row says what the EDU is about. Those of m.device_list_update and m.signing_key_update are completed with the keys of
the moment when they are sent.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.events import JsonObject
from homeserver.storage.stream import Connection

MOST_BYTES = 1_000_000


class OutgoingEdu(NamedTuple):
    """`content` is JSON. Positions are unique for a destination."""

    pos: int
    edu_type: str
    content: bytes


async def queue_edu(
    conn: Connection, destinations: Collection[str], pos: int, edu_type: str, content: JsonObject
) -> None:
    """Keeps an EDU for each of these servers. `pos` must have been drawn in this transaction, for this EDU alone."""
    await conn.execute(
        "INSERT INTO outgoing_edus (destination, pos, edu_type, content) "
        "SELECT destination, $2, $3, $4 FROM unnest($1::text[]) AS d (destination)",
        sorted(destinations),
        pos,
        edu_type,
        encode_json(content),
    )


async def next_edus(conn: Connection, destination: str, until: int, limit: int) -> list[OutgoingEdu]:
    """The oldest EDUs that a destination has not had, up to position `until`: at most `limit`, and not much more than
    `MOST_BYTES` together."""
    rows = await conn.fetch(
        "SELECT pos, edu_type, content FROM outgoing_edus WHERE destination = $1 AND pos <= $2 ORDER BY pos LIMIT $3",
        destination,
        until,
        limit,
    )
    found: list[OutgoingEdu] = []
    size = 0
    for row in rows:
        found.append(OutgoingEdu(*row))
        size += len(row["content"])
        if size > MOST_BYTES:
            break
    return found


async def delete_edus(conn: Connection, destination: str, positions: Sequence[int]) -> None:
    """Takes note that a destination has had these."""
    await conn.execute(
        "DELETE FROM outgoing_edus WHERE destination = $1 AND pos = ANY($2)", destination, list(positions)
    )


async def trim_edus(conn: Connection, destination: str, most: int) -> None:
    """Deletes the oldest of what is kept for a destination, if it is more than `most`."""
    await conn.execute(
        "DELETE FROM outgoing_edus WHERE destination = $1 AND pos <= ("
        "SELECT pos FROM outgoing_edus WHERE destination = $1 ORDER BY pos DESC OFFSET $2 LIMIT 1)",
        destination,
        most,
    )


async def destinations_since(conn: Connection, after: int, until: int) -> list[str]:
    """The servers for which anything was kept above position `after`, up to `until`."""
    rows = await conn.fetch("SELECT DISTINCT destination FROM outgoing_edus WHERE pos > $1 AND pos <= $2", after, until)
    return [row["destination"] for row in rows]
