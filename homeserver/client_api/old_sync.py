"""The sync of old: /initialSync and /events, and how one peeks into rooms without joining them.

They are other forms of what /sync and the reading endpoints say, and are made of it. Tokens are those of /sync.

# spec: client-server-api/#get_matrixclientv3initialsync  client-server-api/#get_matrixclientv3events
"""

from __future__ import annotations

import asyncio

from homeserver.client_api.room_state_read import readable_state
from homeserver.client_api.rooms import room_of
from homeserver.client_api.sync import reader_of, sync_sources
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.protocol.canonical_json import decode_json
from homeserver.protocol.client_event import client_event
from homeserver.protocol.errors import Forbidden, InvalidParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.filters import MAX_LIMIT, EventFilter, Filter
from homeserver.protocol.identifiers import is_event_id, is_room_id
from homeserver.rooms.visibility import access
from homeserver.services import Services
from homeserver.storage.account_data import DELETED
from homeserver.storage.events import ORD_SHIFT, event_by_id, events_by_nid
from homeserver.storage.members import membership_in, memberships_of
from homeserver.storage.names import Room
from homeserver.storage.room_summaries import is_published
from homeserver.storage.stream import Connection
from homeserver.storage.sync_reads import account_data_since
from homeserver.sync.client_events import Reader, state_events
from homeserver.sync.history import FIRST_ORD, PageRequest, messages, one_event
from homeserver.sync.service import LONGEST_WAIT, SyncRequest, sync
from homeserver.sync.tokens import SyncToken, parse_place, parse_sync_token, place_token

_MAX_INTEGER = 2**63 - 1
_DEFAULT_LIMIT = 10
_PEEKED_AT_ONCE = 100
_NONE = EventFilter(types=())
# /events has events of rooms alone.
_ROOM_EVENTS = Filter(
    timeline=EventFilter(limit=MAX_LIMIT),
    presence=_NONE,
    account_data=_NONE,
    ephemeral=_NONE,
    room_account_data=_NONE,
)


async def get_initial_sync(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3initialsync"""
    limit = min(request.query.integer("limit", default=_DEFAULT_LIMIT, minimum=0), MAX_LIMIT)
    archived = request.query.boolean("archived")
    reader = reader_of(request.requester)
    wanted = Filter(timeline=EventFilter(limit=limit), include_leave=archived)
    whole = await sync(sync_sources(services), SyncRequest(reader=reader, filter=wanted, state_after="state_after"))
    rooms = [
        await _room_info(services, room_id, "join", section, whole["next_batch"])
        for room_id, section in whole["rooms"]["join"].items()
    ]
    memberships = await _memberships(services, reader)
    rooms += [
        {"room_id": room_id, "membership": "invite", "invite": await _invite(services, reader, room_id)}
        for room_id in whole["rooms"]["invite"]
    ]
    for room_id, section in whole["rooms"]["leave"].items():
        membership = memberships.get(room_id, "leave")
        rooms.append(await _room_info(services, room_id, membership, section, whole["next_batch"]))
    return {
        "end": whole["next_batch"],
        "rooms": rooms,
        "presence": whole["presence"]["events"],
        "account_data": whole["account_data"]["events"],
    }


async def _room_info(services: Services, room_id: str, membership: str, section: JsonObject, end: str) -> JsonObject:
    timeline = section["timeline"]
    return {
        "room_id": room_id,
        "membership": membership,
        "messages": {
            "start": timeline["prev_batch"],
            "end": end,
            "chunk": [event | {"room_id": room_id} for event in timeline["events"]],
        },
        "state": [event | {"room_id": room_id} for event in section["state_after"]["events"]],
        "visibility": await _visibility(services, room_id),
        "account_data": section.get("account_data", {}).get("events", []),
    }


async def _visibility(services: Services, room_id: str) -> str:
    room = await services.timeline.room(room_id)
    async with services.pool.acquire() as conn:
        return "public" if await is_published(conn, room.nid) else "private"


async def _memberships(services: Services, reader: Reader) -> dict[str, str]:
    async with services.pool.acquire() as conn:
        rows = await memberships_of(conn, reader.user_nid)
    rooms = await services.timeline.names.rooms([row.room_nid for row in rows])
    return {rooms[row.room_nid].room_id: row.membership for row in rows}


async def _invite(services: Services, reader: Reader, room_id: str) -> JsonObject:
    """The invitation whole."""
    room = await services.timeline.room(room_id)
    async with services.pool.acquire() as conn:
        row = await membership_in(conn, room.nid, reader.user_nid)
        if row is None:
            raise NotFound("The invitation is gone")
        return client_event((await events_by_nid(conn, [row.event_nid]))[row.event_nid].event)


async def get_room_initial_sync(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3roomsroomidinitialsync"""
    limit = min(request.query.integer("limit", default=_DEFAULT_LIMIT, minimum=0), MAX_LIMIT)
    room, reader = await room_of(services, request), reader_of(request.requester)
    position, changes = services.stream.position, services.typing.position
    newest = ((position + 1) << ORD_SHIFT) - 1
    page = PageRequest(backwards=True, start=newest, stop=FIRST_ORD, limit=limit)
    found = await messages(services.pool, services.timeline.names, reader, room, page, None)
    async with services.pool.acquire() as conn:
        allowed = await access(conn, services.timeline.names, room, reader.user_id)
        state = await state_events(conn, await readable_state(conn, room, allowed))
        own = await membership_in(conn, room.nid, reader.user_nid)
        data = await _account_data(conn, reader, room, position)
    answer: JsonObject = {
        "room_id": room.room_id,
        "messages": {
            "start": found.get("end", place_token(FIRST_ORD)),
            "end": str(SyncToken(position, changes)),
            "chunk": found["chunk"][::-1],
        },
        "state": state,
        "visibility": await _visibility(services, room.room_id),
        "account_data": data,
    }
    if own is not None and own.membership in ("invite", "join", "leave", "ban"):
        answer["membership"] = own.membership
    return answer


async def _account_data(conn: Connection, reader: Reader, room: Room, position: int) -> list[JsonObject]:
    rows = await account_data_since(conn, reader.user_nid, _MAX_INTEGER, position, [room.nid])
    return [{"type": row.type, "content": decode_json(row.content)} for row in rows if row.content != DELETED]


async def get_events(services: Services, request: ApiRequest) -> JsonObject:
    """All rooms of the user, or with `room_id` that one, which the user need not be in.

    # spec: client-server-api/#get_matrixclientv3events
    """
    since = request.query.string("from")
    timeout_ms = request.query.integer("timeout", default=0, minimum=0, maximum=_MAX_INTEGER)
    timeout = min(timeout_ms / 1000, LONGEST_WAIT)
    room_id = request.query.string("room_id")
    if room_id is not None:
        return await _peek(services, request, room_id, since, timeout)
    requester = request.requester
    with services.presence.syncing(requester.user_nid, requester.user_id, requester.device_id, "online"):
        return await _all_events(services, reader_of(requester), since, timeout)


async def _all_events(services: Services, reader: Reader, since: str | None, timeout: float) -> JsonObject:
    token = parse_sync_token(since) if since else SyncToken(services.stream.position, services.typing.position)
    told = await sync(sync_sources(services), SyncRequest(reader, _ROOM_EVENTS, token, timeout))
    chunk: list[JsonObject] = []
    for kind in ("join", "leave"):
        for room_id, section in told["rooms"][kind].items():
            chunk += [event | {"room_id": room_id} for event in section["timeline"]["events"]]
    chunk += [await _invite(services, reader, room_id) for room_id in told["rooms"]["invite"]]
    chunk.sort(key=lambda event: event["origin_server_ts"])
    return {"start": str(token), "end": told["next_batch"], "chunk": chunk}


async def _peek(services: Services, request: ApiRequest, room_id: str, since: str | None, timeout: float) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3events"""
    if not is_room_id(room_id):
        raise InvalidParam("room_id is not a room id")
    room, reader = await services.timeline.names.room(room_id), reader_of(request.requester)
    if room is None:
        raise Forbidden("You are not in that room")
    start = parse_place(since) if since else services.stream.position << ORD_SHIFT
    deadline = asyncio.get_running_loop().time() + timeout
    with services.changes.subscribe(rooms=[room.nid], users=[reader.user_nid]) as subscription:
        while True:
            newest = services.stream.position << ORD_SHIFT
            page = PageRequest(backwards=False, start=start, stop=max(start, newest), limit=_PEEKED_AT_ONCE)
            found = await messages(services.pool, services.timeline.names, reader, room, page, None)
            remaining = deadline - asyncio.get_running_loop().time()
            if found["chunk"] or remaining <= 0:
                end = found.get("end") or place_token(max(start, newest))
                return {"start": place_token(start), "end": end, "chunk": found["chunk"]}
            await subscription.wait(remaining)


async def get_one_event(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3eventseventid"""
    event_id = request.params["eventId"]
    if not is_event_id(event_id):
        raise NotFound("There is no such event")
    async with services.pool.acquire() as conn:
        stored = await event_by_id(conn, event_id)
        if stored is None:
            raise NotFound("There is no such event")
        room = await services.timeline.room(stored.event.room_id)
        try:
            return await one_event(conn, services.timeline.names, reader_of(request.requester), room, event_id)
        except Forbidden:
            raise NotFound("There is no such event") from None


ROUTES: list[Route] = [
    *client_routes("GET", "/initialSync", get_initial_sync, Auth.GUEST),
    *client_routes("GET", "/rooms/{roomId}/initialSync", get_room_initial_sync, Auth.GUEST),
    *client_routes("GET", "/events", get_events, Auth.GUEST, long_poll=True),
    *client_routes("GET", "/events/{eventId}", get_one_event, Auth.GUEST),
]
