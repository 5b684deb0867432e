"""Invitations by e-mail address: over an identity server, and made real once somebody has proven the address theirs.

What an invitation by address leaves in the room is an m.room.third_party_invite with the keys of the identity server.
Whoever brings what one of those keys has signed for a user gets that user invited in the name of the one who sent it.

# spec: client-server-api/#third-party-invites  server-server-api/#third-party-invites
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from homeserver.protocol.auth_rules.third_party_invites import signing_keys
from homeserver.protocol.errors import Forbidden, MatrixError
from homeserver.protocol.events import Event, JsonObject
from homeserver.protocol.identifiers import domain_of
from homeserver.rooms.head import RoomHead
from homeserver.rooms.identity_servers import AlreadyBound, IdentityAccess, IdentityServers, Threepid
from homeserver.rooms.membership import Membership
from homeserver.rooms.timeline import NewEvent
from homeserver.storage.names import Room
from homeserver.storage.profiles import profile_of
from homeserver.storage.stream import Connection

logger = logging.getLogger(__name__)

_TYPE = "m.room.third_party_invite"
# What the mail may say of the room: name of the parameter -> (state, field of its content).
_SHOWN = {
    "room_alias": ("m.room.canonical_alias", "alias"),
    "room_avatar_url": ("m.room.avatar", "url"),
    "room_join_rules": ("m.room.join_rules", "join_rule"),
    "room_name": ("m.room.name", "name"),
    "room_type": ("m.room.create", "type"),
}


class ThirdPartyInvites:
    """Invites over identity servers, and redeems such invitations."""

    def __init__(self, membership: Membership, identity_servers: IdentityServers) -> None:
        self.membership = membership
        self.identity_servers = identity_servers

    async def invite(
        self, room: Room, sender: str, access: IdentityAccess, threepid: Threepid, extra: JsonObject | None = None
    ) -> None:
        """Invites whoever has that address, as a user if they are known to be one.

        :param extra: what else the member event is to say
        :raises BadRequest: M_SERVER_NOT_TRUSTED if the operator does not trust that identity server
        :raises Forbidden: if the rules refuse it; nothing is asked or mailed then
        :raises MatrixError: what the identity server refuses with, Unavailable if it does not answer
        # spec: client-server-api/#post_matrixclientv3roomsroomidinvite
        """
        self.identity_servers.check_trusted(access.server)
        details = await self._details(room, sender)
        user_id = await self.identity_servers.look_up(access, threepid)
        if user_id is None:
            try:
                stored = await self.identity_servers.store_invite(access, threepid, details)
            except AlreadyBound as bound:
                user_id = bound.user_id
            else:
                event = NewEvent(_TYPE, sender, stored.content, state_key=stored.token)
                await self.membership.timeline.send_event(room, event)
                return
        await self.membership.invite(room, sender, user_id, extra)

    async def invite_all(
        self,
        room: Room,
        sender: str,
        invited: Sequence[tuple[IdentityAccess, Threepid]],
        extra: JsonObject | None = None,
    ) -> None:
        """Invites each, one after another. Those who can't be invited are logged."""
        for access, threepid in invited:
            try:
                await self.invite(room, sender, access, threepid, extra)
            except MatrixError as error:
                logger.info("Somebody could not be invited to %s over %s: %s", room.room_id, access.server, error)

    async def _details(self, room: Room, sender: str) -> dict[str, str]:
        """What the identity server is told, for someone who may invite.

        :raises Forbidden: if the sender may not
        """
        timeline = self.membership.timeline
        async with timeline.stream.pool.acquire() as conn:
            head = await timeline.head(conn, room)
            await timeline.build(conn, head, NewEvent(_TYPE, sender, {}, state_key="-"))
            found = await head.state(conn, timeline.names, [(type, "") for type, _ in _SHOWN.values()])
            profile = await profile_of(conn, sender)
        details = {
            name: entry.event.content.get(field)
            for name, (type, field) in _SHOWN.items()
            if (entry := found.get((type, ""))) is not None
        }
        details["sender_display_name"] = profile.get("displayname")
        details["sender_avatar_url"] = profile.get("avatar_url")
        given = {name: value for name, value in details.items() if isinstance(value, str) and value}
        return {"room_id": room.room_id, "sender": sender, **given}

    async def redeem(self, room_id: str, sender: str, target: str, signed: JsonObject) -> None:
        """Invites the user for whom an identity server has signed, in the name of `sender`; over their server if that
        is another one. Who is in the room or invited already stays what they are.

        :param signed: has mxid, token and signatures
        :raises Forbidden: if there is no such invitation, or its keys are not those that have signed
        :raises Unavailable: if whether the key is valid can't be found out
        # spec: client-server-api/#third-party-invites
        """
        membership = self.membership
        if domain_of(sender) != membership.timeline.server_name:
            # Only the inviter's server knows the name that stands in the room. The address is nobody's business.
            content = {"membership": "invite", "third_party_invite": {"display_name": target, "signed": signed}}
            event = {
                "type": "m.room.member",
                "room_id": room_id,
                "sender": sender,
                "state_key": target,
                "content": content,
            }
            await membership.remote.exchange_third_party_invite(domain_of(sender), room_id, event)
            return
        room = await membership.timeline.room(room_id)
        async with membership.timeline.stream.pool.acquire() as conn:
            head = await membership.timeline.head(conn, room)
            original = await self._original(conn, head, sender, target, signed)
            member = await head.state_event(conn, membership.timeline.names, "m.room.member", target)
        if member is not None and member.membership in ("join", "invite"):
            return
        await self._check_keys(original, signed)
        name = original.content.get("display_name")
        shown = {"display_name": name if isinstance(name, str) else "", "signed": signed}
        await membership.invite(room, sender, target, {"third_party_invite": shown})

    async def _original(self, conn: Connection, head: RoomHead, sender: str, target: str, signed: JsonObject) -> Event:
        token = signed.get("token")
        original = None
        if isinstance(token, str):
            original = await head.state_event(conn, self.membership.timeline.names, _TYPE, token)
        if original is None or original.sender != sender or signed.get("mxid") != target:
            raise Forbidden("There is no such invitation")
        return original

    async def _check_keys(self, original: Event, signed: JsonObject) -> None:
        keys = signing_keys(original.room_version, signed, original.content)
        if not keys:
            raise Forbidden("None of the keys of the invitation has signed this")
        for public_key, urls in keys.items():
            # spec: client-server-api/#mroomthird_party_invite: without a URL a key is valid for good
            if all([await self.identity_servers.is_valid(url, public_key) for url in urls]):
                return
        raise Forbidden("The key that has signed this is no longer valid")
