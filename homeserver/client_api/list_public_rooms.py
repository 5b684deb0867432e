"""The directory of published rooms: this server's, other servers', and those of application services' networks.

# spec: client-server-api/#published-room-directory
"""

from __future__ import annotations

from typing import Any

from homeserver.client_api.rooms import known_room_of
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.http.bodies import string
from homeserver.http.directory_search import search_in_body, search_in_query
from homeserver.protocol.errors import Forbidden, InvalidParam, Unauthorized, Unavailable
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import is_room_alias, is_room_id, is_server_name
from homeserver.rooms.directory import MOST_ROOMS, DirectorySearch, published_rooms
from homeserver.services import Services
from homeserver.storage.members import membership_in
from homeserver.storage.names import Room
from homeserver.storage.room_directory import instance_id, set_network_room
from homeserver.storage.room_summaries import is_published, set_published

_DEFAULT_REMOTE_ROOMS = 100


async def get_public_rooms(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3publicrooms"""
    return await _listed(services, request, search_in_query(request.query))


async def post_public_rooms(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3publicrooms"""
    return await _listed(services, request, search_in_body(await request.json(allow_empty=True)))


async def _listed(services: Services, request: ApiRequest, search: DirectorySearch) -> JsonObject:
    server = request.query.string("server") or services.server_name
    if server == services.server_name:
        async with services.pool.acquire() as conn:
            return await published_rooms(conn, search)
    if not is_server_name(server):
        raise InvalidParam("server must be a server name")
    if request.optional_requester is None:
        # Anyone could make this server ask any other, as often as they like.
        raise Unauthorized("Log in to see the rooms of other servers", errcode="M_MISSING_TOKEN")
    return _checked_page(server, await services.remote.public_rooms(server, _as_body(search)))


def _as_body(search: DirectorySearch) -> JsonObject:
    filter = search.filter
    body: dict[str, Any] = {"limit": min(search.limit or _DEFAULT_REMOTE_ROOMS, MOST_ROOMS)}
    if search.since is not None:
        body["since"] = search.since
    if filter.term is not None or filter.room_types is not None:
        wanted = {"generic_search_term": filter.term, "room_types": filter.room_types}
        body["filter"] = {key: value for key, value in wanted.items() if value is not None}
    if filter.instance_id is not None:
        body["third_party_instance_id"] = filter.instance_id
    elif filter.all_networks:
        body["include_all_networks"] = True
    return body


_OPTIONAL = ("name", "topic", "avatar_url", "join_rule", "room_type")


def _checked_page(server: str, answer: JsonObject) -> JsonObject:
    """Another server's page without what clients can't be expected to check."""
    chunk = answer.get("chunk")
    if not isinstance(chunk, list):
        raise Unavailable(f"{server} gave a malformed answer")
    rooms = [_checked_entry(room) for room in chunk[:MOST_ROOMS] if isinstance(room, dict)]
    page: JsonObject = {"chunk": [room for room in rooms if room is not None]}
    page.update((key, answer[key]) for key in ("next_batch", "prev_batch") if isinstance(answer.get(key), str))
    if type(total := answer.get("total_room_count_estimate")) is int:
        page["total_room_count_estimate"] = total
    return page


def _checked_entry(room: JsonObject) -> JsonObject | None:
    members = room.get("num_joined_members")
    if not is_room_id(room.get("room_id")) or type(members) is not int:
        return None
    entry: JsonObject = {
        "room_id": room["room_id"],
        "num_joined_members": members,
        "world_readable": room.get("world_readable") is True,
        "guest_can_join": room.get("guest_can_join") is True,
    }
    entry.update((key, room[key]) for key in _OPTIONAL if isinstance(room.get(key), str))
    if is_room_alias(room.get("canonical_alias")):
        entry["canonical_alias"] = room["canonical_alias"]
    return entry


async def get_visibility(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3directorylistroomroomid"""
    room = await known_room_of(services, request)
    async with services.pool.acquire() as conn:
        return {"visibility": "public" if await is_published(conn, room.nid) else "private"}


async def put_visibility(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3directorylistroomroomid"""
    published = _published(await request.json(allow_empty=True), "public")
    room = await known_room_of(services, request)
    async with services.stream.write() as write:
        if not request.requester.admin:
            await _check_may_publish(services, write.conn, room, request)
        await set_published(write.conn, room.nid, published)
    return {}


async def _check_may_publish(services: Services, conn: Any, room: Room, request: ApiRequest) -> None:
    """Whoever may change what a room is called may also say whether it is listed."""
    requester = request.requester
    own = await membership_in(conn, room.nid, requester.user_nid)
    if own is None or own.membership != "join":
        raise Forbidden("You are not in that room")
    head = await services.timeline.head(conn, room)
    levels = await head.power_levels(conn, services.timeline.names)
    if levels.user(requester.user_id) < levels.required("m.room.canonical_alias", is_state=True):
        raise Forbidden("You don't have permission to change whether this room is published")


async def put_network_visibility(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3directorylistappservicenetworkidroomid"""
    appservice = request.http.authenticator.appservice(request)
    if appservice is None:
        if request.headers.get("Authorization") is None:
            raise Unauthorized("The token of an application service is needed", errcode="M_MISSING_TOKEN")
        raise Forbidden("Only application services have networks")
    body = await request.json()
    string(body, "visibility", required=True)
    listed = _published(body, "private")
    room = await known_room_of(services, request)
    async with services.stream.write() as write:
        instance = instance_id(appservice.id, request.params["networkId"])
        await set_network_room(write.conn, instance, room.nid, listed)
    return {}


def _published(body: JsonObject, default: str) -> bool:
    visibility = string(body, "visibility")
    if visibility is None:
        visibility = default
    if visibility not in ("public", "private"):
        raise InvalidParam("visibility must be public or private")
    return visibility == "public"


ROUTES: list[Route] = [
    *client_routes("GET", "/publicRooms", get_public_rooms, Auth.OPTIONAL),
    *client_routes("POST", "/publicRooms", post_public_rooms, Auth.GUEST),
    *client_routes("GET", "/directory/list/room/{roomId}", get_visibility, Auth.NONE),
    *client_routes("PUT", "/directory/list/room/{roomId}", put_visibility, Auth.USER),
    *client_routes("PUT", "/directory/list/appservice/{networkId}/{roomId}", put_network_visibility, Auth.NONE),
]
