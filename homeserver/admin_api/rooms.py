"""Rooms: listing, looking at one, its members and state, and keeping one out."""

from __future__ import annotations

from homeserver.admin_api.requests import actor_of, admin_route, next_token, page_wanted, room_of_path
from homeserver.http import ApiRequest
from homeserver.http.bodies import boolean
from homeserver.protocol.errors import InvalidParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import is_room_id
from homeserver.services import Services
from homeserver.storage import audit_log
from homeserver.storage.blocked_rooms import block_room, blocker_of, unblock_room
from homeserver.storage.events import events_by_nid
from homeserver.storage.members import member_user_ids
from homeserver.storage.room_lists import (
    ORDERS,
    ListedRoom,
    RoomFilter,
    RoomRules,
    find_listed,
    is_forgotten,
    list_rooms,
    local_devices_in,
    rules_of,
)
from homeserver.storage.room_state import current_state
from homeserver.sync.client_events import state_events


async def get_rooms(services: Services, request: ApiRequest) -> JsonObject:
    """The rooms that this server knows, by page."""
    query, page = request.query, page_wanted(request)
    search = query.string("search_term", max_length=255)
    if search == "":
        raise InvalidParam("search_term must not be empty")
    wanted = RoomFilter(
        search=search,
        public=query.boolean("public_rooms") if "public_rooms" in query else None,
        empty=query.boolean("empty_rooms") if "empty_rooms" in query else None,
    )
    order_by = query.choice("order_by", tuple(ORDERS), default="name")
    async with services.pool.acquire() as conn:
        found, total = await list_rooms(
            conn,
            services.server_name,
            wanted,
            order_by=order_by,
            backwards=page.backwards,
            offset=page.offset,
            limit=page.limit,
        )
        rules = await rules_of(conn, services.timeline.names, [room.room_nid for room in found])
    answer: JsonObject = {
        "rooms": [_in_list(room, rules[room.room_nid]) for room in found],
        "offset": page.offset,
        "total_rooms": total,
    }
    if next_token(page, len(found), total):
        answer["next_batch"] = page.offset + len(found)
    if page.offset > 0:
        answer["prev_batch"] = max(0, page.offset - page.limit)
    return answer


def _in_list(room: ListedRoom, rules: RoomRules) -> JsonObject:
    return {
        "room_id": room.room_id,
        "name": room.name,
        "canonical_alias": room.canonical_alias,
        "joined_members": room.joined_members,
        "joined_local_members": room.joined_local_members,
        "version": room.room_version,
        "creator": rules.creator,
        "encryption": room.encryption,
        "federatable": rules.federatable,
        "public": room.published,
        "join_rules": room.join_rule,
        "guest_access": rules.guest_access,
        "history_visibility": rules.history_visibility,
        "state_events": room.state_events,
        "room_type": room.room_type,
    }


async def get_room(services: Services, request: ApiRequest) -> JsonObject:
    """One room."""
    room = await room_of_path(services, request)
    async with services.pool.acquire() as conn:
        listed = await find_listed(conn, services.server_name, room.nid)
        if listed is None:
            raise NotFound("Room not found")
        rules = (await rules_of(conn, services.timeline.names, [room.nid]))[room.nid]
        return {
            **_in_list(listed, rules),
            "avatar": listed.avatar_url,
            "topic": listed.topic,
            "joined_local_devices": await local_devices_in(conn, services.server_name, room.nid),
            "forgotten": await is_forgotten(conn, services.server_name, room.nid),
        }


async def get_members(services: Services, request: ApiRequest) -> JsonObject:
    """Who is in a room."""
    room = await room_of_path(services, request)
    async with services.pool.acquire() as conn:
        members = await member_user_ids(conn, room.nid)
    return {"members": members, "total": len(members)}


async def get_state(services: Services, request: ApiRequest) -> JsonObject:
    """The state of a room; of one type, if asked for."""
    room = await room_of_path(services, request)
    type = request.query.string("type", max_length=255)
    async with services.pool.acquire() as conn:
        found = await events_by_nid(conn, (await current_state(conn, room.nid)).values())
        wanted = [stored for stored in found.values() if type is None or stored.event.type == type]
        return {"state": await state_events(conn, wanted)}


async def get_block(services: Services, request: ApiRequest) -> JsonObject:
    """Whether a room is kept out, and who has seen to that."""
    room_id = _room_id(request)
    async with services.pool.acquire() as conn:
        blocked_by = await blocker_of(conn, room_id)
    return {"block": False} if blocked_by is None else {"block": True, "user_id": blocked_by}


async def put_block(services: Services, request: ApiRequest) -> JsonObject:
    """Keeps a room out, whether this server knows it or not, or lets it in again. Who is in it stays."""
    room_id = _room_id(request)
    block = boolean(await request.json(), "block", required=True)
    actor = actor_of(request)
    async with services.pool.acquire() as conn, conn.transaction():
        if block:
            changed = await block_room(conn, room_id, actor.name, services.timeline.clock())
        else:
            changed = await unblock_room(conn, room_id)
        if changed:
            await audit_log.append(conn, actor, "room.block" if block else "room.unblock", room_id, {})
    return {"block": block}


def _room_id(request: ApiRequest) -> str:
    room_id = request.params["roomId"]
    if not is_room_id(room_id):
        raise InvalidParam("This is not a room id")
    return room_id


ROUTES = [
    admin_route("GET", "/v1/rooms", get_rooms),
    admin_route("GET", "/v1/rooms/{roomId}", get_room),
    admin_route("GET", "/v1/rooms/{roomId}/members", get_members),
    admin_route("GET", "/v1/rooms/{roomId}/state", get_state),
    admin_route("GET", "/v1/rooms/{roomId}/block", get_block),
    admin_route("PUT", "/v1/rooms/{roomId}/block", put_block),
]
