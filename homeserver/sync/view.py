"""Who asks for what, up to where, and how the user stands to each room at that point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from homeserver.changes import Changes
from homeserver.protocol.filters import Filter
from homeserver.rooms.presence import Presence
from homeserver.rooms.typing_users import TypingUsers
from homeserver.rooms.visibility import Sight, sights
from homeserver.storage.members import Membership
from homeserver.storage.names import Names, Room
from homeserver.storage.stream import Connection, Pool, Stream
from homeserver.storage.sync_reads import Standing, known_user_nids, standing_of
from homeserver.sync.client_events import Reader
from homeserver.sync.sent_members import SentMembers


@dataclass(frozen=True, slots=True)
class Sources:
    """The long-lived objects that a sync reads from."""

    pool: Pool
    stream: Stream
    changes: Changes
    names: Names
    typing: TypingUsers
    sent_members: SentMembers
    presence: Presence | None = None


@dataclass(slots=True)
class View:
    """One reading: the database as one user's client may know it at position `until`.

    `joined` and the like say how the user stands to rooms at `until`. A room is in at most one of them; `left` has
    rooms that the user is out of now. `state_after` is the key under which a section has the state after its timeline,
    None if it is to have the one before it. `sights` has those rooms whose histories had to be read to know this.
    `standing` says where something may have happened since; None: it may have anywhere.
    """

    conn: Connection
    sources: Sources
    reader: Reader
    filter: Filter
    until: int
    typing_until: int
    full_state: bool
    state_after: str | None
    ignored: list[int]
    ignored_ids: frozenset[str]
    rooms: Mapping[int, Room]
    joined: set[int] = field(default_factory=set)
    invited: dict[int, Membership] = field(default_factory=dict)
    knocked: dict[int, Membership] = field(default_factory=dict)
    left: dict[int, Membership] = field(default_factory=dict)
    sights: dict[int, Sight] = field(default_factory=dict)
    standing: Standing | None = None

    @property
    def names(self) -> Names:
        return self.sources.names


async def open_view(
    conn: Connection,
    sources: Sources,
    reader: Reader,
    filter: Filter,
    *,
    since: int | None,
    until: int,
    typing_until: int,
    full_state: bool,
    state_after: str | None,
) -> View:
    """Finds out how the user stands to each room at position `until`, as far as a sync since `since` needs it."""
    standing = await standing_of(conn, reader.user_nid, reader.device_id, -1 if since is None else since)
    memberships = standing.memberships
    ignored_ids = ignored_users(standing.account.ignored)
    rooms = await sources.names.rooms([membership.room_nid for membership in memberships])
    view = View(
        conn=conn,
        sources=sources,
        reader=reader,
        filter=filter,
        until=until,
        typing_until=typing_until,
        full_state=full_state,
        state_after=state_after,
        ignored=await known_user_nids(conn, ignored_ids) if ignored_ids else [],
        ignored_ids=ignored_ids,
        rooms=rooms,
        standing=standing,
    )
    wanted = [each for each in memberships if filter.includes_room(rooms[each.room_nid].room_id)]
    if since is None and not filter.include_leave:
        wanted = [each for each in wanted if each.membership not in ("leave", "ban") or each.pos > until]
    changed = [each.room_nid for each in wanted if since is None or each.pos > since]
    view.sights = await sights(conn, sources.names, reader.user_id, changed)
    for each in wanted:
        _sort_in(view, each, since)
    return view


def _sort_in(view: View, row: Membership, since: int | None) -> None:
    if row.pos > view.until:
        # What the row says is from after this reading; what it was until then stands in the room's state.
        held = [span for span in view.sights[row.room_nid].membership if span.from_pos <= view.until < span.to_pos]
        if not held:
            return
        row = Membership(row.room_nid, held[0].value, held[0].event_nid, held[0].from_pos, None, row.forgotten)
    match row.membership:
        case "join":
            view.joined.add(row.room_nid)
        case "invite":
            view.invited[row.room_nid] = row
        case "knock":
            view.knocked[row.room_nid] = row
        case _ if since is None or row.pos > since:
            view.left[row.room_nid] = row


def ignored_users(content: bytes | None) -> frozenset[str]:
    """The ids in the content of an m.ignored_user_list.  # spec: client-server-api/#mignored_user_list"""
    value: Any = None if content is None else orjson.loads(content)
    users = value.get("ignored_users") if isinstance(value, dict) else None
    return frozenset(users) if isinstance(users, dict) else frozenset()
