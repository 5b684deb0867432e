"""Joining, inviting, leaving, kicking, banning, knocking, forgetting.  # spec: client-server-api/#room-membership"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.client_api.rooms import (
    invited_address,
    known_room_of,
    room_id_or_alias,
    room_of,
    user_id_in,
    via_servers,
)
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.http.bodies import json_object, string
from homeserver.protocol.errors import BadRequest, Forbidden, InvalidParam, MissingParam
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, is_room_id
from homeserver.services import Services
from homeserver.storage.members import membership_in, set_forgotten


async def post_join(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3joinroomidoralias"""
    room_id, servers = await room_id_or_alias(services, request.params["roomIdOrAlias"])
    return await _join(services, request, room_id, servers)


async def post_rooms_join(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3roomsroomidjoin"""
    room_id = request.params["roomId"]
    if not is_room_id(room_id):
        raise InvalidParam(f"{room_id!r} is not a room id")
    return await _join(services, request, room_id, [])


async def _join(services: Services, request: ApiRequest, room_id: str, servers: Sequence[str]) -> JsonObject:
    body = await request.json(allow_empty=True)
    extra, signed = _extra(body), json_object(body, "third_party_signed")
    user_id, via = request.requester.user_id, [*via_servers(request), *servers]
    known = await services.timeline.names.room(room_id)
    if request.requester.rate_limited and not await services.membership.is_here(known):
        request.limit("remote_join", user_id)
    if signed is not None:
        via.append(await _redeem(services, request, room_id, signed))
    room = await services.membership.join(room_id, user_id, via, extra)
    return {"room_id": room.room_id}


async def _redeem(services: Services, request: ApiRequest, room_id: str, signed: JsonObject) -> str:
    """Gets the user the invitation that an identity server has signed for; the server of who sent it.

    :raises Forbidden: if it is not for this user, or there is no such invitation
    """
    sender = user_id_in(string(signed, "sender", required=True))
    for key in ("mxid", "token"):
        string(signed, key, required=True)
    json_object(signed, "signatures", required=True)
    if signed["mxid"] != request.requester.user_id:
        raise Forbidden("third_party_signed is for another user")
    room = await services.timeline.names.room(room_id)
    async with services.pool.acquire() as conn:
        own = await membership_in(conn, room.nid, request.requester.user_nid) if room is not None else None
    if own is None or own.membership != "join":
        await services.third_party_invites.redeem(room_id, sender, signed["mxid"], signed)
    return domain_of(sender)


async def post_knock(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3knockroomidoralias"""
    room_id, servers = await room_id_or_alias(services, request.params["roomIdOrAlias"])
    extra = await _reason(request)
    room = await services.membership.knock(room_id, request.requester.user_id, [*via_servers(request), *servers], extra)
    return {"room_id": room.room_id}


async def post_invite(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3roomsroomidinvite"""
    body = await request.json()
    room = await room_of(services, request)
    if "user_id" not in body and not body.keys().isdisjoint(("id_server", "medium", "address")):
        access, threepid = invited_address(body)
        await services.third_party_invites.invite(room, request.requester.user_id, access, threepid, _extra(body))
        return {}
    await services.membership.invite(room, request.requester.user_id, _target(body), _extra(body))
    return {}


async def post_leave(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3roomsroomidleave"""
    await services.membership.leave(
        await known_room_of(services, request), request.requester.user_id, await _reason(request)
    )
    return {}


async def post_kick(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3roomsroomidkick"""
    body = await request.json()
    room = await room_of(services, request)
    await services.membership.kick(room, request.requester.user_id, _target(body), _extra(body))
    return {}


async def post_ban(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3roomsroomidban"""
    body = await request.json()
    room = await room_of(services, request)
    await services.membership.ban(room, request.requester.user_id, _target(body), _extra(body))
    return {}


async def post_unban(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3roomsroomidunban"""
    body = await request.json()
    room = await room_of(services, request)
    await services.membership.unban(room, request.requester.user_id, _target(body), _extra(body))
    return {}


async def post_forget(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3roomsroomidforget"""
    room = await known_room_of(services, request)
    async with services.stream.write() as write:
        own = await membership_in(write.conn, room.nid, request.requester.user_nid)
        if own is not None and own.membership not in ("leave", "ban"):
            raise BadRequest("You must leave the room before it can be forgotten")
        await set_forgotten(write.conn, room.nid, request.requester.user_nid)
    return {}


def _target(body: JsonObject) -> str:
    user_id = string(body, "user_id")
    if user_id is None:
        raise MissingParam("user_id is missing")
    return user_id_in(user_id)


def _extra(body: JsonObject) -> JsonObject:
    reason = string(body, "reason")
    return {} if reason is None else {"reason": reason}


async def _reason(request: ApiRequest) -> JsonObject:
    extra = _extra(await request.json(allow_empty=True))
    # Others would read it.
    return {} if request.requester.shadow_banned else extra


ROUTES: list[Route] = [
    *client_routes("POST", "/join/{roomIdOrAlias}", post_join, Auth.GUEST, limit="join"),
    *client_routes("POST", "/rooms/{roomId}/join", post_rooms_join, Auth.GUEST, limit="join"),
    *client_routes("POST", "/knock/{roomIdOrAlias}", post_knock, Auth.USER, limit="join"),
    *client_routes("POST", "/rooms/{roomId}/invite", post_invite, Auth.USER, limit="invite"),
    *client_routes("POST", "/rooms/{roomId}/leave", post_leave, Auth.GUEST),
    *client_routes("POST", "/rooms/{roomId}/kick", post_kick, Auth.USER),
    *client_routes("POST", "/rooms/{roomId}/ban", post_ban, Auth.USER),
    *client_routes("POST", "/rooms/{roomId}/unban", post_unban, Auth.USER),
    *client_routes("POST", "/rooms/{roomId}/forget", post_forget, Auth.GUEST),
]
