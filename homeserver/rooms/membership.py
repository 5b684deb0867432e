"""Joining, inviting, leaving, kicking, banning and knocking, in rooms that are here and in rooms that are elsewhere.

# spec: client-server-api/#room-membership
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.client_event import stripped_state_event
from homeserver.protocol.errors import (
    BadRequest,
    Forbidden,
    InvalidEvent,
    InvalidSignature,
    NotFound,
    Unavailable,
    UnsupportedRoomVersion,
)
from homeserver.protocol.events import Event, JsonObject
from homeserver.protocol.identifiers import domain_of
from homeserver.protocol.redaction import redact
from homeserver.remote import RemoteError
from homeserver.rooms import guest_access
from homeserver.rooms.append import RoomAppend
from homeserver.rooms.blocked import check_not_blocked
from homeserver.rooms.checked_pdus import CheckedPdu, check_pdu, checked
from homeserver.rooms.invite_permissions import check_invite_wanted
from homeserver.rooms.outside import servers_of_knock
from homeserver.rooms.predecessor import take_over_from_predecessor
from homeserver.rooms.receive import Receiver
from homeserver.rooms.remote_join import RemoteJoins
from homeserver.rooms.restricted import CannotAuthorise, authorising_user
from homeserver.rooms.stripped_state import stripped_state, stripped_state_events
from homeserver.rooms.timeline import NewEvent, Timeline
from homeserver.storage.events import event_by_id, events_by_nid
from homeserver.storage.members import is_any_joined, membership_in, write_stripped_membership
from homeserver.storage.names import Room
from homeserver.storage.profiles import profile_of
from homeserver.storage.stream import Connection

AUTHORISED_BY = "join_authorised_via_users_server"


class Membership:
    """What users do about their own and others' places in rooms."""

    def __init__(self, timeline: Timeline, receiver: Receiver, remote_joins: RemoteJoins) -> None:
        self.timeline = timeline
        self.receiver = receiver
        self.remote = receiver.remote
        self.remote_joins = remote_joins

    async def member_content(
        self, conn: Connection, user_id: str, membership: str, extra: JsonObject | None = None
    ) -> JsonObject:
        """The content of a member event, with the user's profile where others should see it."""
        content: dict[str, Any] = dict(extra or {})
        if domain_of(user_id) == self.timeline.server_name:
            profile = await profile_of(conn, user_id)
            for key, value in profile.items():
                content.setdefault(key, value)
        content["membership"] = membership
        return content

    async def is_here(self, room: Room | None) -> bool:
        """Whether this server is in the room, so that it can act there by itself."""
        if room is None:
            return False
        async with self.timeline.stream.pool.acquire() as conn:
            return await is_any_joined(conn, room.nid, self.timeline.server_name)

    async def join(self, room_id: str, user_id: str, via: Sequence[str] = (), extra: JsonObject | None = None) -> Room:
        """Joins a user of ours to a room, over `via` and whoever invited the user if this server isn't in it.

        :raises Forbidden: if the rules refuse it
        :raises NotFound: if no server is known that could help
        :raises Unavailable: if none of those that are known did
        """
        guest = await guest_access.is_one(self.timeline, user_id)
        if guest:
            await self._check_guest(room_id, user_id, via)
        room = await self._join(room_id, user_id, via, extra)
        # Asked once more, because meanwhile the room may have closed.
        if guest and not await guest_access.lets_guests_in(self.timeline, room):
            await self.leave(room, user_id)
            raise guest_access.no_guests()
        await take_over_from_predecessor(self.timeline, room, user_id)
        return room

    async def _check_guest(self, room_id: str, user_id: str, via: Sequence[str]) -> None:
        """:raises Forbidden: M_GUEST_ACCESS_FORBIDDEN if guests can't join the room"""
        room = await self.timeline.names.room(room_id)
        if room is not None and await self.is_here(room):
            welcome = await guest_access.lets_guests_in(self.timeline, room)
        else:
            servers = await self._candidates(room, room_id, user_id, via)
            welcome = await guest_access.lets_guests_in_elsewhere(self.remote, room_id, servers)
        if not welcome:
            raise guest_access.no_guests()

    async def _join(self, room_id: str, user_id: str, via: Sequence[str], extra: JsonObject | None) -> Room:
        room = await self.timeline.names.room(room_id)
        async with self.timeline.stream.pool.acquire() as conn:
            await check_not_blocked(conn, room_id)
        async with self.receiver.locks.hold(("join", room_id)):
            if room is not None and await self.is_here(room):
                with suppress(CannotAuthorise):
                    authorised_by = await self._authorise(room, user_id)
                    added = {} if authorised_by is None else {AUTHORISED_BY: authorised_by}
                    await self._send_own(room, user_id, "join", (extra or {}) | added)
                    return room
            servers = await self._candidates(room, room_id, user_id, via)
            if not servers:
                raise NotFound("This server knows no server that is in that room")
            async with self.timeline.stream.pool.acquire() as conn:
                content = await self.member_content(conn, user_id, "join", extra)
            return await self.remote_joins.join(room_id, user_id, servers, content)

    async def _authorise(self, room: Room, user_id: str) -> str | None:
        """See `authorising_user`."""
        async with self.timeline.stream.pool.acquire() as conn:
            head = await self.timeline.head(conn, room)
            return await authorising_user(conn, self.timeline, head, user_id)

    async def _candidates(self, room: Room | None, room_id: str, user_id: str, via: Sequence[str]) -> list[str]:
        candidates = list(via)
        if room is not None:
            async with self.timeline.stream.pool.acquire() as conn:
                own = await membership_in(conn, room.nid, await self.timeline.names.user_nid(user_id))
                if own is not None and own.membership in ("invite", "knock"):
                    event = (await events_by_nid(conn, [own.event_nid])).get(own.event_nid)
                    if event is not None:
                        candidates.append(domain_of(event.event.sender))
        if ":" in room_id:
            candidates.append(domain_of(room_id))
        return [server for server in dict.fromkeys(candidates) if server != self.timeline.server_name]

    async def _send_own(self, room: Room, user_id: str, membership: str, extra: JsonObject | None) -> str:
        async with self.timeline.stream.pool.acquire() as conn:
            content = await self.member_content(conn, user_id, membership, extra)
        return await self.timeline.send_event(room, NewEvent("m.room.member", user_id, content, state_key=user_id))

    async def leave(self, room: Room, user_id: str, extra: JsonObject | None = None) -> None:
        """Takes a user of ours out of a room, or declines an invite, or takes back a knock.

        :raises Forbidden: if the user isn't in it
        """
        if await self.is_here(room):
            await self._send_plain(room, user_id, user_id, "leave", extra)
            return
        async with self.timeline.stream.pool.acquire() as conn:
            own = await membership_in(conn, room.nid, await self.timeline.names.user_nid(user_id))
            if own is None or own.membership not in ("invite", "knock"):
                raise Forbidden("You are not in that room")
            event = (await events_by_nid(conn, [own.event_nid]))[own.event_nid].event
        servers = (
            [domain_of(event.sender)] if own.membership == "invite" else servers_of_knock(room, own.stripped_state)
        )
        others = [server for server in servers if server != self.timeline.server_name]
        await self.remote_joins.leave(room, user_id, others, extra or {})

    async def _send_plain(
        self, room: Room, sender: str, target: str, membership: str, extra: JsonObject | None
    ) -> None:
        content = {**(extra or {}), "membership": membership}
        await self.timeline.send_event(room, NewEvent("m.room.member", sender, content, state_key=target))

    async def kick(self, room: Room, sender: str, target: str, extra: JsonObject | None = None) -> None:
        """# spec: client-server-api/#post_matrixclientv3roomsroomidkick

        :raises Forbidden: if the sender may not, or the target is not in the room
        """
        if await self._membership(room, target) not in ("join", "invite", "knock"):
            await self._require_joined(room, sender)
            raise Forbidden(f"{target} is not in the room")
        await self._send_plain(room, sender, target, "leave", extra)

    async def ban(self, room: Room, sender: str, target: str, extra: JsonObject | None = None) -> None:
        """# spec: client-server-api/#post_matrixclientv3roomsroomidban"""
        await self._send_plain(room, sender, target, "ban", extra)

    async def unban(self, room: Room, sender: str, target: str, extra: JsonObject | None = None) -> None:
        """# spec: client-server-api/#post_matrixclientv3roomsroomidunban

        :raises Forbidden: if the sender may not, or the target is not banned
        """
        if await self._membership(room, target) != "ban":
            await self._require_joined(room, sender)
            raise Forbidden(f"{target} is not banned")
        await self._send_plain(room, sender, target, "leave", extra)

    async def _membership(self, room: Room, user_id: str) -> str | None:
        async with self.timeline.stream.pool.acquire() as conn:
            found = await membership_in(conn, room.nid, await self.timeline.names.user_nid(user_id))
        return None if found is None else found.membership

    async def _require_joined(self, room: Room, user_id: str) -> None:
        if await self._membership(room, user_id) != "join":
            raise Forbidden("You are not in that room")

    async def invite(self, room: Room, sender: str, target: str, extra: JsonObject | None = None) -> None:
        """Invites a user, asking the user's server to sign if it is another one.

        :raises Forbidden: if the rules or the other server refuse it
        :raises Unavailable: if the other server can't be reached
        # spec: client-server-api/#post_matrixclientv3roomsroomidinvite
        """
        if "third_party_invite" not in (extra or {}):  # which counts even if who sent it has left since
            await self._require_joined(room, sender)
        if domain_of(target) == self.timeline.server_name:
            async with self.timeline.stream.pool.acquire() as conn:
                await check_not_blocked(conn, room.room_id)
            if await self.receiver.policy_servers.of(room) is not None:
                await self._invite_signed(room, sender, target, extra)
                return
            async with self.timeline.locked(room, 1) as append:
                await self.append_invite(append, sender, target, extra)
        else:
            await self._invite_elsewhere(room, sender, target, extra)

    async def _invite_signed(self, room: Room, sender: str, target: str, extra: JsonObject | None) -> None:
        """Invites a user of ours where a policy server must sign. What sync shows of the room is its own state then."""
        async with self.timeline.stream.pool.acquire() as conn:
            await check_invite_wanted(conn, sender, target)
            content = await self.member_content(conn, target, "invite", extra)
        await self.timeline.send_event(room, NewEvent("m.room.member", sender, content, state_key=target))

    async def append_invite(
        self, append: RoomAppend, sender: str, target: str, extra: JsonObject | None = None
    ) -> None:
        """Invites a user of ours, under a lock that is held.

        :raises Forbidden: if the rules refuse it, or with M_INVITE_BLOCKED if the user does
        """
        conn, timeline = append.write.conn, self.timeline
        await check_invite_wanted(conn, sender, target)
        if "third_party_invite" in (extra or {}):
            # The rules would let such an invitation undo a join that has come in between.
            member = await append.head.state_event(conn, timeline.names, "m.room.member", target)
            if member is not None and member.membership == "join":
                return
        content = await self.member_content(conn, target, "invite", extra)
        event_id = await timeline.append_new(append, NewEvent("m.room.member", sender, content, state_key=target))
        await append.flush()
        stored = await event_by_id(conn, event_id)
        assert stored is not None
        if stored.pos is not None:
            stripped = await stripped_state(conn, timeline.names, append.head, stored.event)
            target_nid = await timeline.names.user_nid(target)
            await write_stripped_membership(
                conn, append.head.room.nid, target_nid, "invite", stored.nid, stored.pos, encode_json(stripped)
            )

    async def _invite_elsewhere(self, room: Room, sender: str, target: str, extra: JsonObject | None) -> None:
        timeline, destination = self.timeline, domain_of(target)
        async with timeline.stream.pool.acquire() as conn:
            head = await timeline.head(conn, room)
            content = await self.member_content(conn, target, "invite", extra)
            event = await timeline.build(conn, head, NewEvent("m.room.member", sender, content, state_key=target))
            shown = await stripped_state_events(conn, timeline.names, head, sender)
        event = await self.receiver.policy_servers.signed(room, event)
        # spec: server-server-api/#put_matrixfederationv2inviteroomideventid: the create event comes whole
        state = [each.json if each.type == "m.room.create" else stripped_state_event(each) for each in shown]
        try:
            answer = await self.remote.invite(
                destination, room.room_id, event.event_id, room.version.identifier, event.json, state
            )
        except RemoteError as error:
            if error.peer_errcode == "M_INCOMPATIBLE_ROOM_VERSION":
                # spec: client-server-api/#post_matrixclientv3roomsroomidinvite
                raise UnsupportedRoomVersion(f"{destination} does not support the version of that room") from None
            raise
        signed = await self._countersigned(event, answer, destination)
        await self.receiver.receive_checked(timeline.server_name, room, signed)

    async def _countersigned(self, event: Event, answer: JsonObject, destination: str) -> CheckedPdu:
        try:
            signed = await check_pdu(self.remote, answer, event.room_version, event.room_id)
            if signed.event_id != event.event_id:
                raise InvalidEvent("it is another event")
            await self.remote.check_json(_redacted(signed.event), destination, event.origin_server_ts)
        except (InvalidEvent, InvalidSignature) as error:
            raise Unavailable(f"{destination} did not sign the invite: {error}") from None
        # Of what came back only the signature is wanted; everything else is as it was made here.
        json = event.json | {"signatures": signed.event.json["signatures"]}
        return checked(Event(json, event.room_version, event.event_id))

    async def knock(self, room_id: str, user_id: str, via: Sequence[str] = (), extra: JsonObject | None = None) -> Room:
        """Knocks at a room for a user of ours.

        :raises Forbidden: if the room does not take knocks from this user
        # spec: client-server-api/#post_matrixclientv3knockroomidoralias
        """
        room = await self.timeline.names.room(room_id)
        async with self.timeline.stream.pool.acquire() as conn:
            await check_not_blocked(conn, room_id)
        if room is not None and await self.is_here(room):
            await self._knock_here(room, user_id, extra)
            return room
        servers = await self._candidates(room, room_id, user_id, via)
        if not servers:
            raise NotFound("This server knows no server that is in that room")
        async with self.timeline.stream.pool.acquire() as conn:
            content = await self.member_content(conn, user_id, "knock", extra)
        return await self.remote_joins.knock(room_id, user_id, servers, content)

    async def _knock_here(self, room: Room, user_id: str, extra: JsonObject | None) -> None:
        timeline = self.timeline
        if await self.receiver.policy_servers.of(room) is not None:
            await self._send_own(room, user_id, "knock", extra)
            return
        async with timeline.locked(room, 1) as append:
            conn = append.write.conn
            content = await self.member_content(conn, user_id, "knock", extra)
            event_id = await timeline.append_new(append, NewEvent("m.room.member", user_id, content, state_key=user_id))
            await append.flush()
            stored = await event_by_id(conn, event_id)
            assert stored is not None
            if stored.pos is not None:
                stripped = await stripped_state(conn, timeline.names, append.head, stored.event)
                user_nid = await timeline.names.user_nid(user_id)
                await write_stripped_membership(
                    conn, room.nid, user_nid, "knock", stored.nid, stored.pos, encode_json(stripped)
                )

    async def set_membership(self, room: Room, sender: str, target: str, content: JsonObject) -> None:
        """What PUT …/state/m.room.member/… asks for, whichever of the above that is."""
        membership = content.get("membership")
        # Who authorises a join is found out anew: clients send along what they found in the state.
        extra = {key: value for key, value in content.items() if key not in ("membership", AUTHORISED_BY)}
        if membership == "invite":
            await self.invite(room, sender, target, extra)
        elif membership == "join" and sender == target:
            await self.join(room.room_id, sender, (), extra)
        elif membership == "leave" and sender == target:
            await self.leave(room, sender, extra)
        elif membership == "knock" and sender == target:
            await self.knock(room.room_id, sender, (), extra)
        elif isinstance(membership, str):
            await self._send_plain(room, sender, target, membership, extra)
        else:
            raise BadRequest("membership must be a string", errcode="M_BAD_JSON")


def _redacted(event: Event) -> JsonObject:
    # Signatures of events cover their redacted form.  # spec: server-server-api/#signing-events
    return redact(event.json, event.room_version)
