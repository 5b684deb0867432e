"""The state of a room before an event, and what authorizes it.

A large room's state is spliced together from the stored bytes, and never taken apart.
# spec: server-server-api/#retrieving-events
"""

from __future__ import annotations

from collections.abc import Collection

from federation.events import event_for, room_for
from federation.peers import Federation, PeerRequest
from homeserver.protocol.errors import NotFound
from homeserver.protocol.events import JsonObject
from homeserver.storage.events import auth_chain_nids, ids_of
from homeserver.storage.federation_reads import pdus_of
from homeserver.storage.names import Room
from homeserver.storage.stream import Connection


async def get_state(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1stateroomid"""
    room = await room_for(federation, request)
    async with federation.services.pool.acquire() as conn:
        state, auth_chain = await _state_before(federation, conn, room, request)
        return {"pdus": await pdus_of(conn, state), "auth_chain": await pdus_of(conn, auth_chain)}


async def get_state_ids(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1state_idsroomid"""
    room = await room_for(federation, request)
    async with federation.services.pool.acquire() as conn:
        state, auth_chain = await _state_before(federation, conn, room, request)
        ids = await ids_of(conn, {*state, *auth_chain})
    return {"pdu_ids": [ids[nid] for nid in state], "auth_chain_ids": [ids[nid] for nid in auth_chain]}


async def get_event_auth(federation: Federation, request: PeerRequest) -> JsonObject:
    """# spec: server-server-api/#get_matrixfederationv1event_authroomideventid"""
    room = await room_for(federation, request)
    async with federation.services.pool.acquire() as conn:
        stored = await event_for(federation, conn, room, request, request.params["eventId"])
        return {"auth_chain": await pdus_of(conn, await auth_chain_nids(conn, [stored.nid]))}


async def _state_before(
    federation: Federation, conn: Connection, room: Room, request: PeerRequest
) -> tuple[Collection[int], Collection[int]]:
    """The numbers of the events of the state before the event that is asked about, and of their auth chain."""
    event_id = request.query.string("event_id", required=True)
    stored = await event_for(federation, conn, room, request, event_id)
    if stored.status.outlier:
        raise NotFound("The state before that event is not known here")
    state = (await federation.services.timeline.snapshots.load(conn, stored.snapshot_nid)).values()
    return state, await auth_chain_nids(conn, list(state))
