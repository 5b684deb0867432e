"""Entering and leaving rooms that this server is not in, with the help of servers that are.

What such a server proposes is never signed as it comes: the event is rebuilt from what was asked for, and of the
template only its place in the room (prev_events, auth_events, depth) is taken.

# spec: server-server-api/#joining-rooms  server-server-api/#leaving-rooms-rejecting-invites
# spec: server-server-api/#knocking-rooms
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from homeserver.protocol.auth_rules import check_auth
from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.client_event import stripped_state_event
from homeserver.protocol.errors import (
    AuthRuleError,
    Forbidden,
    InvalidEvent,
    MatrixError,
    Unavailable,
    UnsupportedRoomVersion,
)
from homeserver.protocol.event_builder import complete_template
from homeserver.protocol.events import Event, JsonObject
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion, room_version
from homeserver.remote import RemoteError, SendJoin, Template
from homeserver.rooms.checked_pdus import CheckedPdu, check_pdu, check_pdus, checked
from homeserver.rooms.outside import stripped_state_shown
from homeserver.rooms.receive import Receiver
from homeserver.rooms.timeline import Timeline
from homeserver.storage.destinations import mark_handed_over
from homeserver.storage.events import Status, event_by_id, events_by_id, insert_events, outlier_row
from homeserver.storage.gaps import record_missing
from homeserver.storage.members import is_any_joined, write_stripped_membership
from homeserver.storage.names import Room
from homeserver.storage.room_state import current_state
from homeserver.storage.state_snapshots import State, difference
from homeserver.storage.stream import Connection

logger = logging.getLogger(__name__)


class RemoteJoins:
    """The dance of make_join and send_join, and its kin for leaving and knocking."""

    def __init__(self, timeline: Timeline, receiver: Receiver) -> None:
        self.timeline = timeline
        self.receiver = receiver
        self.remote = receiver.remote

    async def join(self, room_id: str, user_id: str, servers: Sequence[str], content: JsonObject) -> Room:
        """Joins over the first of `servers` that helps.

        :raises Forbidden: if one that is in the room says that the user may not
        :raises Unavailable: if none helps
        """
        failure: MatrixError | None = None
        for server in sorted(servers, key=self.remote.recently_failed):
            try:
                return await self._join_over(server, room_id, user_id, content)
            except (Unavailable, UnsupportedRoomVersion, AuthRuleError, InvalidEvent) as error:
                logger.info("Could not join %s over %s: %s", room_id, server, error)
                if failure is None or isinstance(error, RemoteError):
                    failure = error if isinstance(error, MatrixError) else Unavailable(f"{server}: {error}")
        assert failure is not None
        raise failure

    async def _join_over(self, server: str, room_id: str, user_id: str, content: JsonObject) -> Room:
        template = await self.remote.make_join(server, room_id, user_id, list(ROOM_VERSIONS))
        version = _version_of(template)
        authorised_by = template.event.get("content", {}).get("join_authorised_via_users_server")
        if version.restricted_joins and isinstance(authorised_by, str):
            content = content | {"join_authorised_via_users_server": authorised_by}
        event = self._complete(template, version, room_id, user_id, content)
        answer = await self.remote.send_join(server, room_id, event.event_id, event.json)
        if answer.event is not None and version.restricted_joins:
            # The authorising server has added its signature.
            signed = await check_pdu(self.remote, answer.event, version, room_id)
            if signed.event_id != event.event_id:
                raise InvalidEvent("the answer to send_join is about another event")
            event = Event(event.json | {"signatures": signed.event.json["signatures"]}, version, event.event_id)
        room = await self.timeline.names.ensure_room(room_id, version.identifier, self.timeline.clock())
        if room.version is not version:
            raise InvalidEvent(f"{server} says that the room is of version {version.identifier}")
        if await self._is_here(room):
            # Only the authorisation came from there: the join is one more event of a room whose head is known.
            await self.receiver.receive_checked(server, room, checked(event))
        else:
            await self._enter(server, room, event, answer)
        return room

    async def _is_here(self, room: Room) -> bool:
        async with self.timeline.stream.pool.acquire() as conn:
            return await is_any_joined(conn, room.nid, self.timeline.server_name)

    def _complete(
        self, template: Template, version: RoomVersion, room_id: str, user_id: str, content: JsonObject
    ) -> Event:
        offered = template.event
        own: JsonObject = {
            "type": "m.room.member",
            "room_id": room_id,
            "sender": user_id,
            "state_key": user_id,
            "content": content,
            "origin_server_ts": self.timeline.clock(),
            "prev_events": offered.get("prev_events"),
            "auth_events": offered.get("auth_events"),
            "depth": offered.get("depth"),
        }
        return complete_template(own, version, self.timeline.server_name, self.timeline.signing_key)

    async def _enter(self, server: str, room: Room, join: Event, answer: SendJoin) -> None:
        """Takes the room over as the answer to send_join gives it.

        # spec: server-server-api/#joining-rooms: the state is checked like any other event
        """
        auth_chain = await check_pdus(self.remote, answer.auth_chain, room.version, room.room_id)
        state = await check_pdus(self.remote, answer.state, room.version, room.room_id)
        if not any(pdu.event.type == "m.room.create" for pdu in state.values()):
            raise InvalidEvent("the answer to send_join has no create event")
        async with self.timeline.stream.write() as write:
            await self.receiver.write_outliers(write, room, auth_chain | state)
            async with self.timeline.appending(write, room, 1) as append:
                conn = write.conn
                before: State = {
                    stored.state_key_nid: stored.nid
                    for stored in (await events_by_id(conn, state, room.nid)).values()
                    if stored.state_key_nid is not None and not stored.status.rejected
                }
                _check_join(join, state)
                snapshot = await append.new_snapshot(None, before)
                known = await events_by_id(conn, [join.event_id])
                stored = await append.add_received(
                    join,
                    before=snapshot,
                    status=Status.ACCEPTED,
                    stored_json=checked(join).json,
                    known_nid=known[join.event_id].nid if known else None,
                )
                await append.flush()
                assert stored.state_key_nid is not None
                after = {**before, stored.state_key_nid: stored.nid}
                told = await current_state(conn, room.nid)
                await append.move_head(
                    stored,
                    {stored.nid: join.event_id},
                    await append.new_snapshot(snapshot, {stored.state_key_nid: stored.nid}),
                    difference(told, after),
                )
                here = await events_by_id(conn, join.prev_events, room.nid)
                in_dag = {event_id for event_id, event in here.items() if not event.status.outlier}
                await record_missing(conn, room.nid, stored.nid, [id for id in join.prev_events if id not in in_dag])
                await mark_handed_over(conn, stored.nid, server)

    async def leave(self, room: Room, user_id: str, servers: Sequence[str], extra: JsonObject) -> None:
        """Declines an invite or takes back a knock, over the first of `servers` that helps; here alone if none does."""
        event: Event | None = None
        for server in sorted(servers, key=self.remote.recently_failed):
            try:
                template = await self.remote.make_leave(server, room.room_id, user_id)
                content = {**extra, "membership": "leave"}
                made = self._complete(template, room.version, room.room_id, user_id, content)
                await self.remote.send_leave(server, room.room_id, made.event_id, made.json)
            except (Unavailable, InvalidEvent, Forbidden) as error:
                logger.info("%s left %s without telling %s: %s", user_id, room.room_id, server, error)
            else:
                event = made
                break
        await self.enter_outside(room, user_id, "leave", event, [])

    async def knock(self, room_id: str, user_id: str, servers: Sequence[str], content: JsonObject) -> Room:
        """Knocks over the first of `servers` that helps.

        :raises Forbidden: if one that is in the room says that the user may not
        :raises Unavailable: if none helps
        """
        failure: MatrixError | None = None
        for server in sorted(servers, key=self.remote.recently_failed):
            try:
                template = await self.remote.make_knock(server, room_id, user_id, list(ROOM_VERSIONS))
                version = _version_of(template)
                event = self._complete(template, version, room_id, user_id, content)
                shown = await self.remote.send_knock(server, room_id, event.event_id, event.json)
                room = await self.timeline.names.ensure_room(room_id, version.identifier, self.timeline.clock())
                stripped = [*stripped_state_shown(shown), stripped_state_event(event)]
                await self.enter_outside(room, user_id, "knock", event, stripped)
            except (Unavailable, UnsupportedRoomVersion, InvalidEvent) as error:
                logger.info("Could not knock on %s over %s: %s", room_id, server, error)
                failure = error if isinstance(error, MatrixError) else Unavailable(f"{server}: {error}")
            else:
                return room
        assert failure is not None
        raise failure

    async def enter_outside(
        self, room: Room, user_id: str, membership: str, event: Event | None, stripped: list[JsonObject]
    ) -> None:
        """Notes a membership in a room that this server is not in. `event` is None where none could be made."""
        user_nid = await self.timeline.names.user_nid(user_id)
        async with self.timeline.stream.write() as write:
            nid = 0
            if event is not None:
                nid = await self._insert_outlier(write.conn, room, event)
            pos = await write.next_position()
            await write_stripped_membership(write.conn, room.nid, user_nid, membership, nid, pos, encode_json(stripped))
            write.changed(users=[user_nid])
            if membership == "invite" and event is not None:
                await self.timeline.notifications.notify_invited(write, room, event, nid, pos)

    async def _insert_outlier(self, conn: Connection, room: Room, event: Event) -> int:
        names = self.timeline.names
        known = await event_by_id(conn, event.event_id)
        if known is not None:
            if known.room_nid != room.nid:
                raise InvalidEvent(f"{event.event_id} is an event of another room")
            return known.nid
        [nid] = await self.timeline.stream.new_nids(conn, 1)
        row = outlier_row(
            nid,
            event,
            sender_nid=await names.user_nid(event.sender),
            state_key_nid=(await names.state_key_nids([event.key]))[event.key],
        )
        await insert_events(conn, room.nid, [row])
        return nid


def _version_of(template: Template) -> RoomVersion:
    # spec: server-server-api/#get_matrixfederationv1make_joinroomiduserid: absent means version 1
    return room_version(template.room_version or "1")


def _check_join(join: Event, state: dict[str, CheckedPdu]) -> None:
    events = {pdu.event.key: pdu.event for pdu in state.values() if pdu.event.is_state}
    check_auth(join, events, create=events["m.room.create", ""])
