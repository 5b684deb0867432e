"""Which servers an event goes to: those with a user in the room when it happened, and whom a membership is about.

# spec: server-server-api/#pdus
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from homeserver.protocol.identifiers import domain_of
from homeserver.storage.destinations import (
    OutgoingEvent,
    PendingRoom,
    any_member_changed,
    is_joined_at,
    members_changed,
    servers_joined_at,
)
from homeserver.storage.names import BoundedCache
from homeserver.storage.stream import Connection

_ROOMS = 2_000


class RoomServers:
    """How many joined users each server has in a room, carried along as positions go up.

    What is remembered is exact for its position, because a room's state of the past never changes.
    """

    def __init__(self) -> None:
        self._known: BoundedCache[int, tuple[int, dict[str, int]]] = BoundedCache(_ROOMS)

    async def at(self, conn: Connection, room_nid: int, positions: Sequence[int]) -> dict[int, Sequence[str]]:
        """For each of these positions (ascending, at least one) the servers with a user joined just after it."""
        known_pos, counts = self._known.get(room_nid) or (None, {})
        if known_pos is None or known_pos > positions[0]:
            known_pos, counts = positions[0], dict(await servers_joined_at(conn, room_nid, positions[0]))
        last = positions[-1]
        if not await members_changed(conn, room_nid, known_pos, last):
            found = dict.fromkeys(positions, _present(counts))
        else:
            found = {}
            for pos in positions:
                counts = dict(counts)
                for server, change in await members_changed(conn, room_nid, known_pos, pos):
                    counts[server] = counts.get(server, 0) + change
                found[pos], known_pos = _present(counts), pos
        self._known.set(room_nid, (last, {server: count for server, count in counts.items() if count > 0}))
        return found


def _present(counts: dict[str, int]) -> Sequence[str]:
    return [server for server, count in counts.items() if count > 0]


def destinations_of(event: OutgoingEvent, servers: Iterable[str], own_server: str) -> set[str]:
    """Where an event goes, given the servers that are in the room after it."""
    sender = domain_of(event.stored.event.sender)
    if event.handed_over is not None and sender == own_server:
        return set()  # the server over which our user joined passes it on
    target = _target(event)
    found = {*servers, target} if target else set(servers)
    return found - {own_server, sender, event.handed_over}


def _target(event: OutgoingEvent) -> str | None:
    """The server of whom a member event is about. It has invitations already, from when it signed them."""
    one = event.stored.event
    if one.type != "m.room.member" or one.membership == "invite":
        return None
    return domain_of(one.state_key or "") or None


async def meant_for(
    conn: Connection, destination: str, pending: PendingRoom, events: Sequence[OutgoingEvent], own_server: str
) -> list[OutgoingEvent]:
    """Those of the events of a stretch that go to that destination.

    The first and the last of the stretch do. Between them its users may have left and come back.
    """
    plain = [event for event in events if _may_go(event, destination, own_server)]
    if pending.first_pos == pending.last_pos or not await any_member_changed(
        conn, pending.room_nid, destination, pending.first_pos, pending.last_pos
    ):
        return plain
    joined = await is_joined_at(conn, pending.room_nid, destination, [event.pos for event in plain])
    return [event for event in plain if event.pos in joined or _target(event) == destination]


def _may_go(event: OutgoingEvent, destination: str, own_server: str) -> bool:
    return destination in destinations_of(event, [destination], own_server)
