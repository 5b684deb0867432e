"""What our own users may not say of other events: the same twice, or a thread off what belongs elsewhere.

Events of other servers may; there such relations are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from homeserver.protocol.errors import BadRequest
from homeserver.storage.events import NewEventRow, relation_of
from homeserver.storage.names import Names, Room
from homeserver.storage.relations import has_annotated, target_relation
from homeserver.storage.stream import Connection
from homeserver.storage.transactions import event_of_transaction

if TYPE_CHECKING:
    from homeserver.rooms.timeline import NewEvent


async def check_relation(
    conn: Connection, names: Names, room: Room, new: NewEvent, unwritten: Sequence[NewEventRow]
) -> None:
    """Checks what an event says it relates to. Must run under the room's lock.

    :param unwritten: events that are appended before it and not yet written
    :raises BadRequest: if it annotates what its sender has annotated so, or begins a thread where none can begin
    """
    relation = relation_of(new.content)
    if relation is None:
        return
    relates_to, rel_type, _ = relation
    if rel_type == "m.annotation":
        if await _is_repeated(conn, names, room, new, unwritten):
            raise BadRequest("You have already annotated that event so", errcode="M_DUPLICATE_ANNOTATION")
    elif rel_type == "m.thread":
        # spec: client-server-api/#validation-of-mthread-relationships
        target = await target_relation(conn, room.nid, relates_to)
        for row in unwritten:
            if row.event.event_id == relates_to:
                own = relation_of(row.event.content)
                target = None if own is None else own[1]
        if target is not None:
            raise BadRequest("A thread can't begin at an event that itself relates to another")


async def _is_repeated(
    conn: Connection, names: Names, room: Room, new: NewEvent, unwritten: Sequence[NewEventRow]
) -> bool:
    """# spec: client-server-api/#avoiding-duplicate-annotations"""
    relation = relation_of(new.content)
    assert relation is not None
    for row in unwritten:
        event = row.event
        if (event.type, event.sender, relation_of(event.content)) == (new.type, new.sender, relation):
            return True
    relates_to, _, key = relation
    sender_nid = await names.user_nid(new.sender)
    if not await has_annotated(conn, room.nid, sender_nid, relates_to, key, new.type):
        return False
    # A request that is repeated is not a second annotation: it is answered with the event that it made.
    return new.transaction is None or await event_of_transaction(conn, room.nid, new.transaction) is None
