"""Walking through a space: its rooms, and those of the spaces in it, depth first, a page at a time.

Rooms that this server is in are read from their summaries; others are asked of the servers that the space names for
them, a few at once and not more than so many for a page, and what they answered (or that they did not) is remembered
for a while. Where the walk stopped is kept in the database under a random token, bound to the user and to the request.

# spec: client-server-api/#discovering-rooms-within-spaces
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.client_event import stripped_state_event
from homeserver.protocol.errors import Forbidden, InvalidParam, MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, is_room_alias, is_room_id, is_server_name, is_user_id
from homeserver.remote import Remote
from homeserver.rooms.summary import SPACE, allowed_room_ids, shown_to, summary_json
from homeserver.rooms.timeline import Timeline
from homeserver.storage.hierarchy_pages import find_page, insert_page
from homeserver.storage.names import BoundedCache
from homeserver.storage.room_summaries import memberships_in, space_children, summaries_here
from homeserver.storage.stream import Connection

logger = logging.getLogger(__name__)

MOST_ROOMS = 100  # of a page
DEEPEST = 30
_MOST_VISITED = 5_000  # rooms of a whole walk
_MOST_ASKED = 30  # rooms that other servers are asked about for one page
_AT_ONCE = 10
_SERVERS_ASKED = 3  # about one room
_SECONDS = 10.0  # for one room
_REMEMBERED_MS = 5 * 60_000
_FAILURE_REMEMBERED_MS = 60_000
_MOST_CHILDREN = 1_000
_ORDER = re.compile(r"[\x20-\x7e]{1,50}")


@dataclass(frozen=True, slots=True)
class Child:
    """A room that a space says is in it, and the servers that it says are in that room."""

    room_id: str
    via: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemoteSpace:
    """What another server says of a room: its summary with `children_state`, its children's, and which of those it
    knows to be closed to us."""

    room: JsonObject
    children: dict[str, JsonObject]
    inaccessible: frozenset[str]


@dataclass(slots=True)
class _Walk:
    """Where a walk is: rooms still to come (the next one last) with their depths, and rooms that have been."""

    queue: list[tuple[Child, int]]
    seen: set[str] = field(default_factory=set)

    def to_json(self) -> bytes:
        queue = [[child.room_id, list(child.via), depth] for child, depth in self.queue]
        return encode_json({"queue": queue, "seen": list(self.seen)})

    @classmethod
    def of_json(cls, raw: bytes) -> _Walk:
        saved = orjson.loads(raw)
        queue = [(Child(room_id, tuple(via)), depth) for room_id, via, depth in saved["queue"]]
        return cls(queue, set(saved["seen"]))


@dataclass(frozen=True, slots=True)
class HierarchyRequest:
    """What a client asks for."""

    room_id: str
    suggested_only: bool
    max_depth: int
    limit: int
    token: str | None

    @property
    def bound(self) -> str:
        """What must not change from page to page."""
        return f"{self.room_id} {self.max_depth} {self.suggested_only}"


class SpaceHierarchy:
    """Spaces as users see them, and rooms that are elsewhere as other servers describe them."""

    def __init__(self, timeline: Timeline, remote: Remote) -> None:
        self._timeline = timeline
        self._remote = remote
        self._answers: BoundedCache[tuple[str, bool], tuple[int, RemoteSpace | None]] = BoundedCache(2_000)
        self._told: BoundedCache[str, tuple[int, JsonObject]] = BoundedCache(10_000)

    async def page(self, user_nid: int, request: HierarchyRequest) -> JsonObject:
        """One page of the rooms in a space, as one user may see them.

        :raises Forbidden: if the user may not see the space itself
        :raises InvalidParam: if the token is none of this user's for the same request
        # spec: client-server-api/#get_matrixclientv1roomsroomidhierarchy
        """
        first = request.token is None
        walk = await self._begin(user_nid, request)
        rooms: list[JsonObject] = []
        asked = 0
        known: dict[str, JsonObject | None] = {}
        while walk.queue and len(rooms) < request.limit and len(walk.seen) < _MOST_VISITED:
            child, depth = walk.queue[-1]
            if child.room_id in walk.seen:
                walk.queue.pop()
                continue
            if child.room_id not in known:
                if asked >= _MOST_ASKED:
                    break
                asked += await self._look_up(user_nid, walk, request, known)
            walk.queue.pop()
            walk.seen.add(child.room_id)
            room = known[child.room_id]
            if room is None:
                if first and not rooms:
                    raise Forbidden("You are not allowed to view this room")
                continue
            rooms.append(room)
            if depth < request.max_depth and room.get("room_type") == SPACE:
                walk.queue.extend(
                    (one, depth + 1) for one in reversed(children_of(room)) if one.room_id not in walk.seen
                )
        answer: JsonObject = {"rooms": rooms}
        if any(child.room_id not in walk.seen for child, _ in walk.queue) and len(walk.seen) < _MOST_VISITED:
            answer["next_batch"] = await self._keep(user_nid, request, walk)
        return answer

    async def _begin(self, user_nid: int, request: HierarchyRequest) -> _Walk:
        if request.token is None:
            return _Walk([(Child(request.room_id, _servers([domain_of(request.room_id)])), 0)])
        async with self._timeline.stream.pool.acquire() as conn:
            saved = await find_page(conn, request.token, user_nid, request.bound)
        if saved is None:
            raise InvalidParam("from is not known, or suggested_only, max_depth or the room are not as they were")
        return _Walk.of_json(saved)

    async def _keep(self, user_nid: int, request: HierarchyRequest, walk: _Walk) -> str:
        token = secrets.token_urlsafe(18)
        async with self._timeline.stream.pool.acquire() as conn, conn.transaction():
            await insert_page(conn, token, user_nid, request.bound, walk.to_json(), self._timeline.clock())
        return token

    async def _look_up(
        self, user_nid: int, walk: _Walk, request: HierarchyRequest, known: dict[str, JsonObject | None]
    ) -> int:
        """Finds the next rooms of the walk, several together; how many of them others were asked about."""
        ahead = [child for child, _ in reversed(walk.queue[-request.limit :])]
        wanted = {child.room_id: child for child in ahead if child.room_id not in known}
        found: dict[str, JsonObject] = {}
        async with self._timeline.stream.pool.acquire() as conn:
            here = await self.rooms_here(conn, wanted, suggested_only=request.suggested_only)
        found |= here
        elsewhere = [child for room_id, child in wanted.items() if room_id not in here][:_AT_ONCE]
        described = await asyncio.gather(*(self._describe(child, request.suggested_only) for child in elsewhere))
        for child, room in zip(elsewhere, described, strict=True):
            if room is not None:
                found[child.room_id] = room
        async with self._timeline.stream.pool.acquire() as conn:
            visible = await visible_to_user(conn, user_nid, found)
        for room_id in (*here, *(child.room_id for child in elsewhere)):
            known[room_id] = found[room_id] if room_id in visible else None
        return len(elsewhere)

    async def rooms_here(
        self, conn: Connection, room_ids: Collection[str], *, suggested_only: bool = False
    ) -> dict[str, JsonObject]:
        """Those of the rooms that this server is in, with `children_state`."""
        summaries = await summaries_here(conn, room_ids, self._timeline.server_name)
        rooms: dict[str, JsonObject] = {}
        for room_id, summary in summaries.items():
            state: list[JsonObject] = []
            if summary.shown.room_type == SPACE:
                events = [stored.event for stored in await space_children(conn, summary.room_nid)]
                state = [stripped_state_event(event) | {"origin_server_ts": event.origin_server_ts} for event in events]
            rooms[room_id] = summary_json(summary) | {"children_state": in_order(state, suggested_only=suggested_only)}
        return rooms

    async def _describe(self, child: Child, suggested_only: bool) -> JsonObject | None:
        told = self._told.get(child.room_id)
        if told is not None and told[0] > self._timeline.clock() and told[1].get("room_type") != SPACE:
            return told[1]
        space = await self.elsewhere(child.room_id, child.via, suggested_only=suggested_only)
        return space.room if space is not None else None

    async def elsewhere(self, room_id: str, via: Iterable[str], *, suggested_only: bool = False) -> RemoteSpace | None:
        """What the first of these servers that answers says of a room; None if none does.

        # spec: server-server-api/#get_matrixfederationv1hierarchyroomid
        """
        known = self._answers.get((room_id, suggested_only))
        if known is not None and known[0] > self._timeline.clock():
            return known[1]
        space: RemoteSpace | None = None
        try:
            async with asyncio.timeout(_SECONDS):
                space = await self._ask(room_id, via, suggested_only)
        except TimeoutError:
            logger.info("Nobody described %s in time", room_id)
        self._remember(room_id, suggested_only, space)
        return space

    async def _ask(self, room_id: str, via: Iterable[str], suggested_only: bool) -> RemoteSpace | None:
        servers = [server for server in via if server != self._timeline.server_name][:_SERVERS_ASKED]
        for server in sorted(servers, key=self._remote.recently_failed):
            try:
                answer = await self._remote.hierarchy(server, room_id, suggested_only=suggested_only)
            except MatrixError as error:
                logger.info("%s did not describe %s: %s", server, room_id, error)
                continue
            space = _checked_answer(room_id, answer)
            if space is not None:
                return space
        return None

    def _remember(self, room_id: str, suggested_only: bool, space: RemoteSpace | None) -> None:
        now = self._timeline.clock()
        holds = _REMEMBERED_MS if space is not None else _FAILURE_REMEMBERED_MS
        self._answers.set((room_id, suggested_only), (now + holds, space))
        if space is None:
            return
        for child_id, child in space.children.items():
            self._told.set(child_id, (now + holds, child))
        for child_id in space.inaccessible:
            # spec: server-server-api/#get_matrixfederationv1hierarchyroomid: not to be asked for again
            self._answers.set((child_id, suggested_only), (now + holds, None))


async def visible_to_user(conn: Connection, user_nid: int, rooms: dict[str, JsonObject]) -> set[str]:
    """Those of the rooms that are shown to this user."""
    asked = {*rooms, *(allowed for room in rooms.values() for allowed in allowed_room_ids(room))}
    memberships = await memberships_in(conn, user_nid, asked)
    joined = {room_id for room_id, membership in memberships.items() if membership == "join"}
    return {room_id for room_id, room in rooms.items() if shown_to(room, memberships.get(room_id), joined)}


def _servers(via: object) -> tuple[str, ...]:
    names = via if isinstance(via, list) else []
    return tuple(name for name in names[:10] if is_server_name(name))


def in_order(state: Iterable[JsonObject], *, suggested_only: bool = False) -> list[JsonObject]:
    """The m.space.child events that count, in the order in which a space shows its children.

    # spec: client-server-api/#ordering-of-children-within-a-space
    """
    valid = [event for event in state if _is_child(event) and (not suggested_only or _is_suggested(event))]
    return sorted(valid, key=_sort_key)[:_MOST_CHILDREN]


def _is_child(event: JsonObject) -> bool:
    via = event["content"].get("via")
    return is_room_id(event["state_key"]) and isinstance(via, list) and any(isinstance(one, str) for one in via)


def _is_suggested(event: JsonObject) -> bool:
    return event["content"].get("suggested") is True


def _sort_key(event: JsonObject) -> tuple[bool, str, int, str]:
    order = event["content"].get("order")
    if not isinstance(order, str) or not _ORDER.fullmatch(order):
        order = None
    return order is None, order or "", event["origin_server_ts"], event["state_key"]


def children_of(room: JsonObject) -> list[Child]:
    """The children that `children_state` names, in its order."""
    return [Child(event["state_key"], _servers(event["content"]["via"])) for event in room["children_state"]]


_TEXTS = ("name", "topic", "avatar_url", "join_rule", "room_type", "encryption", "room_version")


def _checked_answer(room_id: str, answer: JsonObject) -> RemoteSpace | None:
    """Another server's answer without what clients can't be expected to check."""
    room = _checked_room(answer.get("room"))
    if room is None or room["room_id"] != room_id:
        return None
    named = {event["state_key"] for event in room["children_state"]}
    children = [_checked_room(child) for child in _list(answer.get("children"))[:_MOST_CHILDREN]]
    closed = _list(answer.get("inaccessible_children"))
    return RemoteSpace(
        room,
        # Of rooms that are not its children a space has nothing to say.
        {child["room_id"]: child for child in children if child is not None and child["room_id"] in named},
        frozenset(child for child in closed if isinstance(child, str)) & named,
    )


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _checked_room(room: object) -> JsonObject | None:
    if not isinstance(room, dict) or not is_room_id(room.get("room_id")):
        return None
    members = room.get("num_joined_members")
    if type(members) is not int:
        return None
    entry: JsonObject = {
        "room_id": room["room_id"],
        "num_joined_members": members,
        "world_readable": room.get("world_readable") is True,
        "guest_can_join": room.get("guest_can_join") is True,
    }
    entry.update((key, room[key]) for key in _TEXTS if isinstance(room.get(key), str))
    if is_room_alias(room.get("canonical_alias")):
        entry["canonical_alias"] = room["canonical_alias"]
    if allowed := allowed_room_ids(room)[:100]:
        entry["allowed_room_ids"] = allowed
    state = [_checked_child(event) for event in _list(room.get("children_state"))[: 2 * _MOST_CHILDREN]]
    entry["children_state"] = in_order(event for event in state if event is not None)
    return entry


def _checked_child(event: object) -> JsonObject | None:
    if not isinstance(event, dict):
        return None
    state_key, sender, content, ts = (event.get(key) for key in ("state_key", "sender", "content", "origin_server_ts"))
    if (
        event.get("type") != "m.space.child"
        or not is_room_id(state_key)
        or not is_user_id(sender)
        or not isinstance(content, dict)
        or type(ts) is not int
    ):
        return None
    return {
        "type": "m.space.child",
        "state_key": state_key,
        "sender": sender,
        "content": content,
        "origin_server_ts": ts,
    }
