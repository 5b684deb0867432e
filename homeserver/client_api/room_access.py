"""What reading endpoints have in common: whether the one who asks is in the room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from homeserver.client_api.rooms import room_of
from homeserver.http import ApiRequest
from homeserver.protocol.errors import Forbidden
from homeserver.storage.members import membership_in
from homeserver.storage.names import Room

if TYPE_CHECKING:
    from homeserver.services import Services


async def joined_room_of(services: Services, request: ApiRequest) -> Room:
    """The room of the path, which the user must be in.

    :raises NotFound: if this server doesn't know it
    :raises Forbidden: if the user is not in it
    """
    room = await room_of(services, request)
    async with services.pool.acquire() as conn:
        membership = await membership_in(conn, room.nid, request.requester.user_nid)
    if membership is None or membership.membership != "join":
        raise Forbidden("You are not in that room")
    return room
