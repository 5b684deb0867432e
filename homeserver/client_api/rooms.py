"""What the room endpoints have in common: finding the room that a path names, and reading what bodies name."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.http import ApiRequest
from homeserver.http.bodies import string
from homeserver.protocol.errors import BadRequest, Forbidden, InvalidParam, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, is_room_alias, is_room_id, is_user_id
from homeserver.rooms.identity_servers import IdentityAccess, Threepid
from homeserver.services import Services
from homeserver.storage.members import joined_servers
from homeserver.storage.names import Room
from homeserver.storage.room_aliases import room_of_alias

_MAX_ADDRESS = 500
_MAX_TOKEN = 4096


async def room_of(services: Services, request: ApiRequest) -> Room:
    """The room of the path's `roomId`, for what only those in it may do.

    :raises Forbidden: if this server doesn't know it: nobody is told whether it exists
    """
    room = await services.timeline.names.room(request.params["roomId"])
    if room is None:
        raise Forbidden("You are not in that room")
    return room


async def known_room_of(services: Services, request: ApiRequest) -> Room:
    """The same, for what the specification has an answer to if there is no such room.

    :raises NotFound: if this server doesn't know it
    """
    return await services.timeline.room(request.params["roomId"])


async def resolve_alias(services: Services, alias: str) -> tuple[str, list[str]]:
    """The room id that an alias points to, and servers that may be in it.

    :raises InvalidParam: if it is no alias
    :raises NotFound: if it points nowhere
    # spec: client-server-api/#get_matrixclientv3directoryroomroomalias
    """
    if not is_room_alias(alias):
        raise InvalidParam(f"{alias!r} is not a room alias")
    if domain_of(alias) != services.server_name:
        return await services.remote.query_directory(domain_of(alias), alias)
    async with services.pool.acquire() as conn:
        room_id = await room_of_alias(conn, alias)
        if room_id is None:
            raise NotFound(f"There is no room {alias}")
        room = await services.timeline.room(room_id)
        return room_id, await joined_servers(conn, room.nid)


async def room_id_or_alias(services: Services, value: str) -> tuple[str, list[str]]:
    """A room id as it is, an alias resolved; with servers that may help.

    :raises InvalidParam: if it is neither
    """
    if is_room_id(value):
        return value, []
    return await resolve_alias(services, value)


def check_alias_free(request: ApiRequest, alias: str) -> None:
    """:raises BadRequest: M_EXCLUSIVE if an application service claims this alias for itself alone

    # spec: application-service-api/#registration
    """
    appservice_id = request.requester.appservice_id
    if request.http.appservices.excluding_alias(alias, other_than=appservice_id):
        raise BadRequest("This alias belongs to an application service", errcode="M_EXCLUSIVE")


def via_servers(request: ApiRequest) -> Sequence[str]:
    """The servers that the client names, by the parameter's new and old names, at most 20."""
    return [*request.query.all("via"), *request.query.all("server_name")][:20]


def user_id_in(value: str) -> str:
    """:raises InvalidParam: if it is no user id"""
    if not is_user_id(value):
        raise InvalidParam(f"{value!r} is not a user id")
    return value


def invited_address(body: JsonObject) -> tuple[IdentityAccess, Threepid]:
    """An invitation by address: the identity server to ask, with the user's token there, and the address.

    :raises MissingParam, BadJson: if something is missing or malformed
    # spec: client-server-api/#post_matrixclientv3roomsroomidinvite
    """
    medium = string(body, "medium", required=True, max_length=_MAX_ADDRESS)
    address = string(body, "address", required=True, max_length=_MAX_ADDRESS)
    access = IdentityAccess(
        string(body, "id_server", required=True, max_length=_MAX_ADDRESS),
        string(body, "id_access_token", required=True, max_length=_MAX_TOKEN),
    )
    if not access.token.isprintable() or not access.token.isascii():
        raise InvalidParam("id_access_token must be printable ASCII")
    # spec: appendices/#3pid-types
    return access, Threepid(medium, address.strip().casefold() if medium == "email" else address.strip())
