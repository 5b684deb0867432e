"""What a room is, for those who may not be in it.

# spec: client-server-api/#get_matrixclientv1room_summaryroomidoralias
"""

from __future__ import annotations

import orjson

from homeserver.client_api.rooms import room_id_or_alias, via_servers
from homeserver.http import ApiRequest, Auth, Requester, Route, client_routes
from homeserver.protocol.errors import NotFound, Unavailable
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, is_server_name
from homeserver.rooms.space_hierarchy import visible_to_user
from homeserver.rooms.summary import shown as shown_by
from homeserver.rooms.summary import shown_to, summary_json
from homeserver.services import Services
from homeserver.storage.members import Membership, membership_in
from homeserver.storage.room_summaries import summaries_here


async def get_summary(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#get_matrixclientv1room_summaryroomidoralias"""
    requester = request.optional_requester
    try:
        room_id, servers = await room_id_or_alias(services, request.params["roomIdOrAlias"])
    except Unavailable:
        raise _not_found() from None
    async with services.pool.acquire() as conn:
        here = (await summaries_here(conn, [room_id], services.server_name)).get(room_id)
    room = summary_json(here) if here is not None else None
    if room is None and requester is not None:
        # Anyone could make this server ask any other, so without a token nobody is asked.
        room = await _elsewhere(services, requester, room_id, [*via_servers(request), *servers])
    if room is None:
        raise _not_found()
    if requester is None:
        if not shown_to(room, None, ()):
            raise _not_found()
        return _with_old_names(room)
    membership = await _membership(services, requester, room_id)
    async with services.pool.acquire() as conn:
        visible = await visible_to_user(conn, requester.user_nid, {room_id: room})
    if not visible and (membership is None or membership.membership != "knock"):
        raise _not_found()
    return _with_old_names(room) | {"membership": membership.membership if membership is not None else "leave"}


def _not_found() -> NotFound:
    # The same for a room that is not there and one that is not for this user.
    return NotFound("Room not found")


async def _membership(services: Services, requester: Requester, room_id: str) -> Membership | None:
    room = await services.timeline.names.room(room_id)
    if room is None:
        return None
    async with services.pool.acquire() as conn:
        return await membership_in(conn, room.nid, requester.user_nid)


async def _elsewhere(services: Services, requester: Requester, room_id: str, servers: list[str]) -> JsonObject | None:
    """What other servers say of the room, or else what an invitation to it or a knock at it showed of it."""
    own = await _membership(services, requester, room_id)
    stripped = orjson.loads(own.stripped_state) if own is not None and own.stripped_state is not None else []
    senders = [domain_of(event["sender"]) for event in stripped[-1:]]
    via = dict.fromkeys(server for server in [*servers, *senders, domain_of(room_id)] if is_server_name(server))
    space = await services.spaces.elsewhere(room_id, via)
    if space is not None:
        return {key: value for key, value in space.room.items() if key != "children_state"}
    if not stripped:
        return None
    return _of_stripped_state(room_id, stripped)


def _of_stripped_state(room_id: str, stripped: list[JsonObject]) -> JsonObject:
    contents = {event["type"]: event["content"] for event in stripped if event["state_key"] == ""}
    shown = shown_by(contents)
    version = contents.get("m.room.create", {}).get("room_version")
    optional = {
        "name": shown.name,
        "topic": shown.topic,
        "canonical_alias": shown.canonical_alias,
        "avatar_url": shown.avatar_url,
        "room_type": shown.room_type,
        "encryption": shown.encryption,
        "room_version": version if isinstance(version, str) else None,
    }
    return {
        "room_id": room_id,
        # At least whoever invited; how many more is not known here.
        "num_joined_members": 1,
        "world_readable": shown.world_readable,
        "guest_can_join": shown.guest_can_join,
        "join_rule": shown.join_rule,
        **{key: value for key, value in optional.items() if value is not None},
    }


def _with_old_names(room: JsonObject) -> JsonObject:
    """The keys that were renamed when the proposal became part of the specification, under both names."""
    old = {"room_version": "im.nheko.summary.room_version", "encryption": "im.nheko.summary.encryption"}
    return room | {old[key]: room[key] for key in old if key in room}


ROUTES: list[Route] = [
    *client_routes(
        "GET",
        "/room_summary/{roomIdOrAlias}",
        get_summary,
        Auth.OPTIONAL,
        versions=("v1",),
        unstable=("im.nheko.summary",),
    ),
    *client_routes(
        "GET", "/summary/{roomIdOrAlias}", get_summary, Auth.OPTIONAL, versions=(), unstable=("im.nheko.summary",)
    ),
    *client_routes(
        "GET", "/rooms/{roomIdOrAlias}/summary", get_summary, Auth.OPTIONAL, versions=(), unstable=("im.nheko.summary",)
    ),
]
