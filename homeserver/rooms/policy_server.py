"""Rooms in which a policy server checks events: ours are signed by it before anyone sees them, others' are soft-failed
if it does not vouch for them.

Whoever is asked is another server, so nothing here happens under a room's lock: an event is made of the head, signed,
and then takes its place in the room like a received one, wherever the head has moved meanwhile.

# spec: server-server-api/#policy-servers
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from homeserver.protocol.errors import InvalidSignature, MatrixError, Unavailable
from homeserver.protocol.events import Event, JsonObject
from homeserver.protocol.identifiers import is_server_name
from homeserver.protocol.signing import check_event_signature, parse_verify_key
from homeserver.remote import Remote, RemoteError
from homeserver.rooms.checked_pdus import CheckedPdu, checked
from homeserver.rooms.head import RoomHead
from homeserver.rooms.keyed_locks import KeyedLocks
from homeserver.rooms.relations import check_relation
from homeserver.rooms.timeline import NewEvent, Timeline
from homeserver.storage.members import is_any_joined
from homeserver.storage.names import Names, Room
from homeserver.storage.stream import Connection
from homeserver.storage.transactions import ClientTransaction, event_of_transaction

logger = logging.getLogger(__name__)

_KEY_ID = "ed25519:policy_server"  # spec: server-server-api/#validating-policy-server-signatures

Append = Callable[[Room, CheckedPdu, ClientTransaction | None], Awaitable[None]]
"""Gives an event of ours its place in the room. Raises Forbidden if the rules refuse it there."""


@dataclass(frozen=True, slots=True)
class PolicyServer:
    """The server that a room has chosen, and the public key that its signatures are held against."""

    name: str
    public_key: str


async def policy_server_of(conn: Connection, names: Names, head: RoomHead) -> PolicyServer | None:
    """The policy server that the room uses now, if it does.

    # spec: server-server-api/#determining-if-a-policy-server-is-enabled-in-a-room
    """
    event = await head.state_event(conn, names, "m.room.policy")
    if event is None:
        return None
    name, keys = event.content.get("via"), event.content.get("public_keys")
    key = keys.get("ed25519") if isinstance(keys, dict) else None
    if not is_server_name(name) or not isinstance(key, str) or not await is_any_joined(conn, head.room.nid, name):
        return None
    return PolicyServer(name, key)


def is_exempt(type: str, state_key: str | None) -> bool:
    """Whether such an event needs no signature: the one that says which policy server the room has, so that a room is
    not lost with its policy server."""
    return type == "m.room.policy" and state_key == ""


def is_recommended(event: Event, server: PolicyServer) -> bool:
    """Whether the event bears a good signature of the policy server.

    # spec: server-server-api/#validating-policy-server-signatures
    """
    try:
        check_event_signature(event, server.name, _KEY_ID, parse_verify_key(server.public_key))
    except InvalidSignature:
        return False
    return True


class PolicyServers:
    """Asks policy servers, for events of ours and of others."""

    def __init__(self, timeline: Timeline, remote: Remote, append: Append) -> None:
        self._timeline = timeline
        self._remote = remote
        self._append = append
        self._locks = KeyedLocks()
        timeline.use_policy_servers(self._uses_one, self._send)

    async def of(self, room: Room) -> PolicyServer | None:
        """The policy server of the room, if it uses one."""
        async with self._timeline.stream.pool.acquire() as conn:
            return await policy_server_of(conn, self._timeline.names, await self._timeline.head(conn, room))

    async def signed(self, room: Room, event: Event) -> Event:
        """The event with the signature that it needs in that room.

        :raises MatrixError: what the policy server says if it refuses
        :raises Unavailable: if it does not answer, or not with a good signature
        # spec: server-server-api/#asking-for-a-policy-server-signature-on-an-event
        """
        server = await self.of(room)
        if server is None or is_exempt(event.type, event.state_key) or is_recommended(event, server):
            return event
        return await self._ask(server, event)

    async def check(self, room: Room, pdu: CheckedPdu) -> tuple[CheckedPdu, bool]:
        """An event of another server, with the policy server's signature if that was missing and could be had, and
        whether it is recommended for the room.

        # spec: server-server-api/#checks-performed-on-receipt-of-a-pdu 7
        """
        try:
            event = await self.signed(room, pdu.event)
        except MatrixError as error:
            logger.info("The policy server of %s does not vouch for %s: %s", room.room_id, pdu.event_id, error)
            return pdu, False
        return (pdu if event is pdu.event else checked(event)), True

    async def _ask(self, server: PolicyServer, event: Event) -> Event:
        if self._remote.recently_failed(server.name):
            # It would hold up every event of the room for as long as a request takes.
            raise Unavailable(f"The policy server {server.name} can't be reached")
        try:
            answer = await self._remote.ask_policy_server(server.name, event.json)
        except RemoteError as error:
            if error.peer_errcode is not None and error.errcode == error.peer_errcode:
                # What it says is for whoever wants to send the event.
                said = error.peer_body.get("error")
                message = said if isinstance(said, str) else error.message
                raise MatrixError(message[:1000], errcode=error.peer_errcode, status=error.peer_status) from None
            raise
        by_server = answer.get(server.name)
        signature = by_server.get(_KEY_ID) if isinstance(by_server, dict) else None
        signatures: JsonObject = event.json.get("signatures", {})
        # It may be the event's own server too, whose other signatures stay.
        own = {**signatures.get(server.name, {}), _KEY_ID: signature}
        signed = Event(
            event.json | {"signatures": {**signatures, server.name: own}}, event.room_version, event.event_id
        )
        if not is_recommended(signed, server):
            raise Unavailable(f"The policy server {server.name} gave no good signature")
        return signed

    async def _uses_one(self, conn: Connection, head: RoomHead, new: NewEvent) -> bool:
        if is_exempt(new.type, new.state_key):
            return False
        return await policy_server_of(conn, self._timeline.names, head) is not None

    async def _send(self, room: Room, new: NewEvent) -> str:
        """Sends an event of ours; its id. As `Timeline.send_event`."""
        timeline = self._timeline
        # One after the other: made side by side, they would all follow the same event and fork the room.
        async with self._locks.hold(room.nid):
            async with timeline.stream.pool.acquire() as conn:
                if new.transaction is not None:
                    known = await event_of_transaction(conn, room.nid, new.transaction)
                    if known is not None:
                        return known
                head = await timeline.head(conn, room)
                current = await timeline.unchanged_state(conn, head, new)
                if current is not None:
                    return current
                event = await timeline.build(conn, head, new)
                # Not under the room's lock, but all that our users send here comes one after the other.
                await check_relation(conn, timeline.names, room, new, [])
            event = await self.signed(room, event)
            await self._append(room, checked(event), new.transaction)
            return event.event_id
