"""Creating rooms.  # spec: client-server-api/#creation"""

from __future__ import annotations

from homeserver.client_api.rooms import check_alias_free, invited_address, user_id_in
from homeserver.http import ApiRequest, Auth, Route, client_routes
from homeserver.http.bodies import array_of_objects, array_of_strings, boolean, json_object, string
from homeserver.protocol.errors import BadJson, InvalidParam, TooLarge
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import fits_identifier
from homeserver.protocol.room_versions import room_version
from homeserver.rooms.create import PRESETS, RoomRequest, create_room
from homeserver.rooms.timeline import NewEvent
from homeserver.services import Services

_MOST_ADDRESSES = 50


async def post_create_room(services: Services, request: ApiRequest) -> JsonObject:
    """# spec: client-server-api/#post_matrixclientv3createroom"""
    body, creator = await request.json(), request.requester.user_id
    wanted = _room_request(services, creator, body)
    if wanted.alias is not None:
        check_alias_free(request, wanted.alias)
    addresses = [invited_address(each) for each in array_of_objects(body, "invite_3pid", max_items=_MOST_ADDRESSES)]
    for access, _ in addresses:
        services.third_party_invites.identity_servers.check_trusted(access.server)
    if request.requester.shadow_banned:
        wanted.invite, wanted.public, addresses = [], False, []
    if request.requester.rate_limited and (invited := len(wanted.invite) + len(addresses)):
        request.limit("invite", creator, times=invited)
    room = await create_room(services.membership, wanted)
    await services.third_party_invites.invite_all(room, creator, addresses, wanted.invite_extra)
    return {"room_id": room.room_id}


def _room_request(services: Services, creator: str, body: JsonObject) -> RoomRequest:
    visibility = string(body, "visibility")
    if visibility not in (None, "public", "private"):
        raise InvalidParam("visibility must be public or private")
    preset = string(body, "preset")
    if preset is None:
        preset = "public_chat" if visibility == "public" else "private_chat"
    if preset not in PRESETS:
        raise InvalidParam(f"preset must be one of {', '.join(PRESETS)}")
    wanted = string(body, "room_version")
    version = room_version(services.config.rooms.default_version if wanted is None else wanted)
    overrides = json_object(body, "power_level_content_override") or {}
    levels = json_object(overrides, "users") or {}
    if version.privileged_creators and creator in levels:
        if wanted is not None:
            raise InvalidParam("The creator of the room can't be given a power level")
        # Who leaves the version to the server may not know of creators who stand above all levels, as many bots don't.
        overrides = {**overrides, "users": {id: level for id, level in levels.items() if id != creator}}
    return RoomRequest(
        creator=creator,
        version=version,
        preset=preset,
        public=visibility == "public",
        alias=_alias(services, string(body, "room_alias_name")),
        name=string(body, "name"),
        topic=string(body, "topic"),
        creation_content=json_object(body, "creation_content") or {},
        initial_state=[_initial_event(creator, event) for event in array_of_objects(body, "initial_state")],
        power_level_override=overrides,
        invite=list(
            dict.fromkeys(user_id_in(user_id) for user_id in array_of_strings(body, "invite", max_items=500) or [])
        ),
        is_direct=boolean(body, "is_direct"),
    )


def _alias(services: Services, name: str | None) -> str | None:
    if name is None:
        return None
    alias = f"#{name}:{services.server_name}"
    if ":" in name or "#" in name or any(char.isspace() for char in name) or not name:
        raise InvalidParam("room_alias_name must be the local part of an alias, without # and :")
    if not fits_identifier(alias):
        raise InvalidParam("room_alias_name is too long")
    return alias


def _initial_event(creator: str, event: JsonObject) -> NewEvent:
    type, content = string(event, "type", required=True), json_object(event, "content", required=True)
    state_key = string(event, "state_key") or ""
    if type in ("m.room.create", "m.room.member"):
        raise InvalidParam(f"{type} can't be part of initial_state")
    if len(type.encode()) > 255 or len(state_key.encode()) > 255:
        raise TooLarge("type and state_key of an event have at most 255 bytes")
    if not type:
        raise BadJson("type must not be empty")
    return NewEvent(type, creator, content, state_key=state_key)


ROUTES: list[Route] = [
    *client_routes("POST", "/createRoom", post_create_room, Auth.USER, limit="create_room"),
]
