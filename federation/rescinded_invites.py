"""Events of rooms that this server is not in, of which one kind matters: the end of an invitation or a knock.

Without the room's state such an event can't be authorized. The end of an invitation is believed from the server that it
came from, which could withdraw it by any other means too; that of a knock from the servers of those who, by what the
room showed of itself, have had a say in it.
"""

from __future__ import annotations

from homeserver.protocol.errors import Forbidden
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of
from homeserver.rooms.checked_pdus import check_pdu
from homeserver.rooms.outside import servers_of_knock
from homeserver.services import Services
from homeserver.storage.events import StoredEvent, events_by_nid
from homeserver.storage.members import Membership, membership_in
from homeserver.storage.names import Room


async def take_in_outside(services: Services, origin: str, room: Room, pdu: JsonObject) -> None:
    """Takes in an event of a room that this server is not in, if it ends an invitation of a user here.

    :raises Forbidden: if it is anything else
    :raises InvalidEvent, InvalidSignature, Unavailable: as `check_pdu`
    """
    names = services.timeline.names
    checked = await check_pdu(services.remote, pdu, room.version, room.room_id)
    event = checked.event
    target = event.state_key or ""
    if (
        event.type == "m.room.member"
        and event.membership in ("leave", "ban")
        and domain_of(target) == services.server_name
        and domain_of(event.sender) == origin
    ):
        async with services.pool.acquire() as conn:
            own = await membership_in(conn, room.nid, await names.user_nid(target))
            known = (await events_by_nid(conn, [own.event_nid])).get(own.event_nid) if own is not None else None
        if own is not None and origin in _believed(room, own, known):
            await services.membership.remote_joins.enter_outside(room, target, "leave", event, [])
            return
    raise Forbidden("This server is not in that room")


def _believed(room: Room, own: Membership, known: StoredEvent | None) -> set[str]:
    """The servers that may end this invitation or knock."""
    if own.membership == "invite" and known is not None:
        return {domain_of(known.event.sender)}
    if own.membership != "knock":
        return set()
    return set(servers_of_knock(room, own.stripped_state))
