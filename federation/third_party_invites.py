"""Invitations by e-mail address and the like, redeemed once an identity server knows whose the address is.

The invited user's server hears of it from the identity server and asks the inviter's server to make a real invitation
of it. That the identity server has signed for this user is what the authorization rules check, with the keys in the
room's m.room.third_party_invite.

# spec: server-server-api/#third-party-invites
"""

from __future__ import annotations

import logging

from federation.peers import Federation, PeerRequest, room_here
from federation.server_acls import check_acl
from homeserver.http import ApiRequest
from homeserver.http.bodies import array_of_objects, json_object, string
from homeserver.http.routes import Handler
from homeserver.protocol.errors import BadJson, Forbidden, InvalidParam, MatrixError, NotFound
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, is_room_id, is_user_id
from homeserver.services import Services
from homeserver.storage.accounts import find_account

logger = logging.getLogger(__name__)

_MOST_INVITES = 20


async def put_exchange_third_party_invite(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#put_matrixfederationv1exchange_third_party_inviteroomid"""
    body, room_id = request.body, request.params["roomId"]
    if string(body, "type") != "m.room.member" or string(body, "room_id") != room_id:
        raise InvalidParam("The event must be an m.room.member of the room in the path")
    sender, target = _user(body, "sender"), _user(body, "state_key")
    content = json_object(body, "content", required=True)
    if content.get("membership") != "invite":
        raise InvalidParam("The event must be an invite")
    if domain_of(sender) != federation.server_name:
        raise Forbidden("The inviter is not a user of this server")
    if domain_of(target) != request.origin:
        raise Forbidden("The invited user is not of the server that asks")
    room = await room_here(federation, room_id)
    await check_acl(federation, room, request.origin)
    # Nothing else of the content is taken over: what the event says beyond this is this server's to say.
    signed = json_object(json_object(content, "third_party_invite", required=True), "signed", required=True)
    await federation.services.third_party_invites.redeem(room_id, sender, target, signed)
    return {}


def on_bind(federation: Federation) -> Handler:
    """The handler of what identity servers call; their requests are not signed."""

    async def put_on_bind(services: Services, request: ApiRequest) -> JsonObject:
        """# spec: server-server-api/#put_matrixfederationv13pidonbind"""
        body = await request.json()
        for key in ("medium", "address"):
            string(body, key, required=True)
        mxid = _user(body, "mxid")
        invites = [_pending(mxid, invite) for invite in array_of_objects(body, "invites", max_items=_MOST_INVITES)]
        request.limit("federation", request.client_address)
        async with services.pool.acquire() as conn:
            account = await find_account(conn, mxid) if domain_of(mxid) == services.server_name else None
        if account is None or account.deactivated:
            raise NotFound("There is no such user here")
        for room_id, sender, signed in invites:
            try:
                await services.third_party_invites.redeem(room_id, sender, mxid, signed)
            except MatrixError as error:  # each on its own
                logger.info("The invitation of %s by %s could not be redeemed: %s", mxid, sender, error)
        return {}

    return put_on_bind


def _pending(mxid: str, invite: JsonObject) -> tuple[str, str, JsonObject]:
    """An invitation as the identity server tells of it: the room, who invites, and what is signed."""
    room_id, sender = string(invite, "room_id", required=True), _user(invite, "sender")
    signed = json_object(invite, "signed", required=True)
    if not is_room_id(room_id):
        raise InvalidParam("room_id must be a room id")
    if signed.get("mxid") != mxid or not isinstance(signed.get("token"), str):
        raise BadJson("signed must have a token, and be for the user that was bound")
    return room_id, sender, signed


def _user(body: JsonObject, key: str) -> str:
    user_id = string(body, key, required=True)
    if not is_user_id(user_id):
        raise InvalidParam(f"{key} must be a user id")
    return user_id
