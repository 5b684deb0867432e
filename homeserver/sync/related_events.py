"""Events that relate to one, and the threads of a room, page by page, as one user may see them.

# spec: client-server-api/#relationships-api
# spec: client-server-api/#querying-threads-in-a-room
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from homeserver.protocol.errors import Forbidden, NotFound
from homeserver.protocol.events import Event, JsonObject
from homeserver.protocol.redaction import redact
from homeserver.rooms.visibility import access
from homeserver.storage.events import Status, StoredEvent, event_by_id
from homeserver.storage.ignored_users import ignored_user_nids
from homeserver.storage.names import Names, Room
from homeserver.storage.relations import DEEPEST, RelatedPage, related_events, thread_roots
from homeserver.storage.stream import Connection
from homeserver.sync.client_events import Reader, timeline_events
from homeserver.sync.tokens import place_token


@dataclass(frozen=True, slots=True)
class RelationsRequest:
    """Which events: related to `event_id`, from place `start` (None: an end of the timeline) to place `stop`."""

    event_id: str
    backwards: bool
    start: int | None
    stop: int | None
    limit: int
    rel_type: str | None = None
    event_type: str | None = None
    recurse: bool = False


_FIRST_ORD, _LAST_ORD = -(2**63), 2**63 - 1


async def relations(
    conn: Connection, names: Names, reader: Reader, room: Room, request: RelationsRequest
) -> JsonObject:
    """The answer to /relations, without what only the endpoint knows.

    :raises NotFound: if there is no such event in the room that the user may see
    # spec: client-server-api/#get_matrixclientv1roomsroomidrelationseventid
    """
    try:
        allowed = await access(conn, names, room, reader.user_id)
    except Forbidden:
        # The specification knows no other answer: not even that there is such an event.
        raise NotFound("There is no such event in that room") from None
    parent = await event_by_id(conn, request.event_id, room.nid)
    if parent is None or parent.ord is None or parent.status is not Status.ACCEPTED:
        raise NotFound("There is no such event in that room")
    if not allowed.sight.sees(parent.ord):
        raise NotFound("There is no such event in that room")
    start = (_LAST_ORD if request.backwards else _FIRST_ORD) if request.start is None else request.start
    stop = (_FIRST_ORD if request.backwards else _LAST_ORD) if request.stop is None else request.stop
    page = RelatedPage(
        room_nid=room.nid,
        event_id=request.event_id,
        after=stop if request.backwards else start,
        until=start if request.backwards else stop,
        backwards=request.backwards,
        count=request.limit + 1,
        rel_type=request.rel_type,
        event_type=request.event_type,
        depth=DEEPEST if request.recurse else 1,
    )
    found = await related_events(conn, page, allowed.sight.ranges, await ignored_user_nids(conn, reader.user_nid))
    events = found[: request.limit]
    shown = await timeline_events(conn, reader, events, {room.nid: allowed.sight})
    answer: JsonObject = {"chunk": [shown[event.nid] for event in events]}
    if len(found) > request.limit:
        last = events[-1].ord
        assert last is not None
        answer["next_batch"] = place_token(last - 1 if request.backwards else last)
    if request.start is not None:
        answer["prev_batch"] = place_token(request.start)
    if request.recurse:
        answer["recursion_depth"] = DEEPEST
    return answer


async def threads(
    conn: Connection,
    names: Names,
    reader: Reader,
    room: Room,
    *,
    participated: bool,
    until: int | None,
    limit: int,
) -> JsonObject:
    """The answer to /threads.

    :param until: the place from which to go on
    :raises Forbidden: if the user may not read the room
    # spec: client-server-api/#get_matrixclientv1roomsroomidthreads
    """
    allowed = await access(conn, names, room, reader.user_id)
    ignored = await ignored_user_nids(conn, reader.user_nid)
    found = await thread_roots(
        conn,
        room.nid,
        allowed.sight.ranges,
        reader_nid=reader.user_nid,
        ignored=ignored,
        participated=participated,
        until=_LAST_ORD if until is None else until,
        count=limit + 1,
    )
    ignored_ids = set((await names.user_ids(ignored)).values())
    roots = [_without_content(root) if root.event.sender in ignored_ids else root for root, _ in found[:limit]]
    shown = await timeline_events(conn, reader, roots, {room.nid: allowed.sight})
    answer: JsonObject = {"chunk": [shown[root.nid] for root in roots]}
    if len(found) > limit:
        answer["next_batch"] = place_token(found[limit - 1][1] - 1)
    return answer


def _without_content(root: StoredEvent) -> StoredEvent:
    """The root of a thread by someone who is ignored: its thread is shown, and nothing of what it says."""
    event = root.event
    # `redacted_by` names no event, so that nothing is said of who redacted it.
    pruned = Event(redact(event.json, event.room_version), event.room_version, event.event_id)
    return replace(root, event=pruned, redacted_by=root.redacted_by or 0)
