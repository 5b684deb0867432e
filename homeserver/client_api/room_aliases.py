"""Room aliases.  # spec: client-server-api/#room-aliases"""

from __future__ import annotations

from contextlib import suppress

import asyncpg

from homeserver.client_api.rooms import check_alias_free, resolve_alias, room_of
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.http.bodies import string
from homeserver.protocol.errors import Forbidden, InvalidParam, MatrixError, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, is_room_alias, is_room_id
from homeserver.rooms.timeline import NewEvent
from homeserver.services import Services
from homeserver.storage.members import membership_in
from homeserver.storage.names import Room
from homeserver.storage.room_aliases import (
    alias_creator,
    aliases_of_room,
    delete_alias,
    insert_alias,
    room_of_alias,
)


async def get_alias(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3directoryroomroomalias"""
    room_id, servers = await resolve_alias(services, request.params["roomAlias"])
    return {"room_id": room_id, "servers": servers}


async def put_alias(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#put_matrixclientv3directoryroomroomalias"""
    alias = _own_alias(services, request)
    check_alias_free(request, alias)
    room_id = string(await request.json(), "room_id", required=True)
    if not is_room_id(room_id):
        raise InvalidParam("room_id must be a room id")
    room = await services.timeline.room(room_id)
    async with services.stream.write() as write:
        own = await membership_in(write.conn, room.nid, request.requester.user_nid)
        if own is None or own.membership != "join":
            raise Forbidden("You are not in that room")
        try:
            await insert_alias(write.conn, alias, room.nid, request.requester.user_nid, services.timeline.clock())
        except asyncpg.UniqueViolationError:
            raise MatrixError(f"{alias} is taken", status=409) from None
    return {}


async def remove_alias(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#delete_matrixclientv3directoryroomroomalias"""
    alias, requester = _own_alias(services, request), request.requester
    async with services.stream.write() as write:
        room_id = await room_of_alias(write.conn, alias)
        if room_id is None:
            raise NotFound(f"There is no room {alias}")
        if not requester.admin and await alias_creator(write.conn, alias) != requester.user_nid:
            room = await services.timeline.room(room_id)
            head = await services.timeline.head(write.conn, room)
            levels = await head.power_levels(write.conn, services.timeline.names)
            if levels.user(requester.user_id) < levels.required("m.room.canonical_alias", is_state=True):
                raise Forbidden("Only who made an alias, or who may change the room's, can remove it")
        await delete_alias(write.conn, alias)
    await _withdraw(services, request, await services.timeline.room(room_id), alias)
    return {}


async def _withdraw(services: Services, request: ApiRequest, room: Room, alias: str) -> None:
    """Takes a removed alias out of those that the room goes by, if the user may change these.

    # spec: client-server-api/#delete_matrixclientv3directoryroomroomalias
    """
    timeline = services.timeline
    async with services.pool.acquire() as conn:
        head = await timeline.head(conn, room)
        current = await head.state_event(conn, timeline.names, "m.room.canonical_alias")
    if current is None:
        return
    content = dict(current.content)
    if content.get("alias") == alias:
        del content["alias"]
    if isinstance(others := content.get("alt_aliases"), list):
        content["alt_aliases"] = [other for other in others if other != alias]
    if content != current.content:
        with suppress(MatrixError):  # the alias is gone all the same
            await timeline.send_event(
                room, NewEvent("m.room.canonical_alias", request.requester.user_id, content, state_key="")
            )


async def get_aliases(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv3roomsroomidaliases"""
    room = await room_of(services, request)
    async with services.pool.acquire() as conn:
        own = await membership_in(conn, room.nid, request.requester.user_nid)
        # Administrators can see every alias of this server anyway.
        if (own is None or own.membership != "join") and not request.requester.admin:
            head = await services.timeline.head(conn, room)
            visibility = await head.state_event(conn, services.timeline.names, "m.room.history_visibility")
            if visibility is None or visibility.content.get("history_visibility") != "world_readable":
                raise Forbidden("You are not in that room")
        return {"aliases": await aliases_of_room(conn, room.nid)}


def _own_alias(services: Services, request: ApiRequest) -> str:
    alias = request.params["roomAlias"]
    if not is_room_alias(alias):
        raise InvalidParam(f"{alias!r} is not a room alias")
    if domain_of(alias) != services.server_name:
        raise InvalidParam("Only aliases of this server can be changed here")
    return alias


ROUTES: list[Route] = [
    *client_routes("GET", "/directory/room/{roomAlias}", get_alias, Auth.NONE),
    *client_routes("PUT", "/directory/room/{roomAlias}", put_alias, Auth.USER),
    *client_routes("DELETE", "/directory/room/{roomAlias}", remove_alias, Auth.USER),
    *client_routes("GET", "/rooms/{roomId}/aliases", get_aliases, Auth.USER),
]
