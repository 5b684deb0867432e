"""Transactions of other servers: each event of one on its own, in order within a room, rooms side by side.

A transaction that comes again, because the answer got lost, is answered as before and does nothing.
# spec: server-server-api/#transactions
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from typing import Any

from aiohttp import web

from federation.inbound_edus import take_in_edu
from federation.peers import Federation, PeerRequest
from federation.rescinded_invites import take_in_outside
from federation.server_acls import check_acl
from homeserver.http.bodies import array, checked_text
from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.errors import InvalidEvent, InvalidSignature, MatrixError
from homeserver.protocol.events import JsonObject, parse_event
from homeserver.rooms.keyed_locks import KeyedLocks
from homeserver.storage.members import is_any_joined
from homeserver.storage.names import Room
from homeserver.storage.received_transactions import answer_given, forget_answers, remember_answer

logger = logging.getLogger(__name__)

MOST_PDUS = 50
MOST_EDUS = 100
_ROOMS_AT_ONCE = 4  # in one transaction
_KEPT_MS = 24 * 3600 * 1000
_FORGET_AFTER = 1_000  # answers given


class Transactions:
    """What the transactions under way share."""

    def __init__(self) -> None:
        self.locks = KeyedLocks()
        self._answers = 0
        self._under_way: set[asyncio.Task[Any]] = set()

    async def through(self, work: Coroutine[Any, Any, bytes]) -> bytes:
        """Runs `work` to its end, even if whoever asked for it hangs up."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    def is_time_to_forget(self) -> bool:
        """Now and then."""
        self._answers = (self._answers + 1) % _FORGET_AFTER
        return self._answers == 1

    async def close(self) -> None:
        """Ends what is under way. The other servers will send it again."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)


async def put_send(federation: Federation, request: PeerRequest) -> web.Response:
    """# spec: server-server-api/#put_matrixfederationv1sendtxnid"""
    txn_id = checked_text("txnId", request.params["txnId"], 255)
    pdus = array(request.body, "pdus", max_items=MOST_PDUS) or []
    edus = array(request.body, "edus", max_items=MOST_EDUS) or []
    answer = await federation.transactions.through(_once(federation, request.origin, txn_id, pdus, edus))
    return web.Response(body=answer, content_type="application/json")


async def _once(
    federation: Federation, origin: str, txn_id: str, pdus: Sequence[object], edus: Sequence[object]
) -> bytes:
    pool = federation.services.pool
    # One transaction at a time, as servers send them: their events stay in order, and none takes more than its share.
    async with federation.transactions.locks.hold(origin):
        async with pool.acquire() as conn:
            answer = await answer_given(conn, origin, txn_id)
        if answer is not None:
            return answer
        results = await _take_in_pdus(federation, origin, pdus)
        for edu in edus:
            await take_in_edu(federation, origin, edu)
        answer = encode_json({"pdus": results})
        now_ms = int(time.time() * 1000)
        async with pool.acquire() as conn:
            await remember_answer(conn, origin, txn_id, answer, now_ms)
            if federation.transactions.is_time_to_forget():
                await forget_answers(conn, now_ms - _KEPT_MS)
        return answer


async def _take_in_pdus(federation: Federation, origin: str, pdus: Sequence[object]) -> JsonObject:
    by_room: defaultdict[str, list[JsonObject]] = defaultdict(list)
    for pdu in pdus:
        # The only events without room_id are create events, which come with a join and never in a transaction.
        if isinstance(pdu, dict) and isinstance(pdu.get("room_id"), str) and "\0" not in pdu["room_id"]:
            by_room[pdu["room_id"]].append(pdu)
        else:
            logger.info("%s sent something that is no event of a room", origin)
    results: JsonObject = {}
    at_once = asyncio.Semaphore(_ROOMS_AT_ONCE)
    async with asyncio.TaskGroup() as group:
        for room_id, of_room in by_room.items():
            group.create_task(_take_in_room(federation, origin, room_id, of_room, results, at_once))
    return results


async def _take_in_room(
    federation: Federation,
    origin: str,
    room_id: str,
    pdus: Sequence[JsonObject],
    results: JsonObject,
    at_once: asyncio.Semaphore,
) -> None:
    async with at_once:
        room = await federation.services.timeline.names.room(room_id)
        refusal = None if room is None else await _refusal(federation, origin, room)
        for pdu in pdus:
            event_id = _event_id(pdu, room)
            error = refusal
            if room is None:
                error = "This server is not in that room"
            elif event_id is None:
                error = "Not an event of this room's version"
            elif error is None:
                error = await _take_in(federation, origin, room, pdu)
            if event_id is not None:
                results[event_id] = {} if error is None else {"error": error}


def _event_id(pdu: JsonObject, room: Room | None) -> str | None:
    """The id to answer with: of a room that is not known here it can be known only where it stands in the event."""
    if room is None:
        event_id = pdu.get("event_id")
        return event_id if isinstance(event_id, str) else None
    try:
        return parse_event(pdu, room.version).event_id
    except InvalidEvent:
        return None


async def _refusal(federation: Federation, origin: str, room: Room) -> str | None:
    """Why nothing of that server is taken in in this room."""
    try:
        await check_acl(federation, room, origin)
    except MatrixError as error:
        return error.message
    return None


async def _take_in(federation: Federation, origin: str, room: Room, pdu: JsonObject) -> str | None:
    """Takes in one event; why it was not, for the answer."""
    services = federation.services
    try:
        async with services.pool.acquire() as conn:
            here = await is_any_joined(conn, room.nid, services.server_name)
        if here:
            await services.receiver.receive(origin, pdu, room)
        else:
            await take_in_outside(services, origin, room, pdu)
    except (InvalidEvent, InvalidSignature) as error:
        logger.info("Dropped an event of %s in %s: %s", origin, room.room_id, error)
        return str(error)
    except MatrixError as error:
        logger.info("Could not take in an event of %s in %s: %s", origin, room.room_id, error.message)
        return error.message
    except Exception:  # one bad event must not block those that come with it; this one is a bug to be found
        logger.exception("Failed at an event of %s in %s", origin, room.room_id)
        return "Internal error"
    return None
