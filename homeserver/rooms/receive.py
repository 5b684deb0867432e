"""Events of other servers: checked, given the state before them, and put in their place.

# spec: server-server-api/#checks-performed-on-receipt-of-a-pdu
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from homeserver.protocol.auth_rules import auth_event_keys, check_auth, check_auth_events
from homeserver.protocol.errors import AuthRuleError, BadRequest, Forbidden, InvalidEvent, MatrixError, Unavailable
from homeserver.protocol.events import Event, JsonObject, StateKey
from homeserver.remote import Remote
from homeserver.rooms.append import RoomAppend
from homeserver.rooms.checked_pdus import CheckedPdu, by_dependency, check_pdu, check_pdus
from homeserver.rooms.keyed_locks import KeyedLocks
from homeserver.rooms.policy_server import PolicyServers
from homeserver.rooms.resolution import resolve_states, state_after
from homeserver.rooms.timeline import Timeline
from homeserver.storage.destinations import mark_handed_over
from homeserver.storage.events import (
    NewEventRow,
    Status,
    StoredEvent,
    events_by_id,
    events_by_nid,
    insert_events,
    statuses_of,
)
from homeserver.storage.gaps import citing_events, record_missing
from homeserver.storage.names import Room
from homeserver.storage.state_snapshots import State, difference
from homeserver.storage.stream import Connection, Write
from homeserver.storage.transactions import ClientTransaction

logger = logging.getLogger(__name__)

_ROUNDS_OF_MISSING = 60  # requests for what is missing before a gap is left; peers give about 20 events each
_MOST_MISSING = 1_000


class Receiver:
    """Takes in what other servers say about rooms that this one is in."""

    def __init__(self, timeline: Timeline, remote: Remote) -> None:
        self.timeline = timeline
        self.remote = remote
        self.locks = KeyedLocks()
        self.policy_servers = PolicyServers(timeline, remote, self._append_own)

    async def receive(self, origin: str, pdu: object, room: Room) -> None:
        """Takes in one event that `origin` sent.

        :raises InvalidEvent, InvalidSignature: if it must be dropped
        :raises Unavailable: if something that it needs can't be had now
        """
        checked = await check_pdu(self.remote, pdu, room.version, room.room_id)
        await self.receive_checked(origin, room, checked)

    async def receive_checked(self, origin: str, room: Room, checked: CheckedPdu) -> None:
        """The same for one whose format, signatures and hash are known to be good."""
        # A server that is slow to give what its event needs keeps the room's other servers from nothing.
        async with self.locks.hold((room.nid, origin)):
            await self._receive(origin, room, checked)

    async def take_in_handed_over(self, origin: str, room: Room, checked: CheckedPdu) -> StoredEvent:
        """Takes in an event that `origin`, which need not be in the room, asks this server to add to it: a join, leave
        or knock made of a template from here.

        :raises Forbidden: if the rules refuse it, now or at its place in the room; nothing is kept of it then
        :raises BadRequest: if it follows events that are not here
        """
        event = checked.event
        checked, recommended = await self.policy_servers.check(room, checked)
        async with self.locks.hold(room.nid), self.timeline.locked(room, 1) as append:
            conn = append.write.conn
            known = (await events_by_id(conn, [event.event_id], room.nid)).get(event.event_id)
            if known is not None and known.status is Status.ACCEPTED:
                return known
            statuses = await statuses_of(conn, event.auth_events)
            if await self._missing_prev_events(conn, event) or len(statuses) < len(set(event.auth_events)):
                raise BadRequest("The event follows events that are not here; ask for a new template")
            stored = await self._append(append, checked, None, recommended=recommended)
            if stored.status is not Status.ACCEPTED:
                raise Forbidden("The rules of the room do not allow this")
            await mark_handed_over(conn, stored.nid, origin)
        return stored

    async def _append_own(self, room: Room, checked: CheckedPdu, transaction: ClientTransaction | None) -> None:
        """Appends an event of ours that was made of a head which may have moved on meanwhile."""
        async with self.locks.hold(room.nid), self.timeline.locked(room, 1) as append:
            stored = await self._append(append, checked, None)
            if stored.status is not Status.ACCEPTED:
                raise Forbidden("The rules of the room do not allow this")
            if transaction is not None:
                append.rows.transactions.append((transaction, stored.nid))

    async def _receive(self, origin: str, room: Room, checked: CheckedPdu) -> None:
        pool = self.timeline.stream.pool
        async with pool.acquire() as conn:
            if await self.in_dag(conn, [checked.event_id]):
                return
            missing = await self._missing_prev_events(conn, checked.event)
        waiting = {checked.event_id: checked}
        if missing:
            waiting |= await self._fetch_missing(origin, room, checked)
        for pdu in by_dependency(waiting, auth=False):
            try:
                await self._take_in(origin, room, pdu)
            except MatrixError:
                # Each event on its own: one that can't be had complete now must not block those after it.
                if pdu is checked:
                    raise
                logger.info("Could not take in %s, found missing before %s", pdu.event_id, checked.event_id)

    async def in_dag(self, conn: Connection, event_ids: Collection[str]) -> set[str]:
        """Those of these events whose place in the DAG is known."""
        statuses = await statuses_of(conn, event_ids)
        return {event_id for event_id, status in statuses.items() if not status.outlier}

    async def _missing_prev_events(self, conn: Connection, event: Event) -> list[str]:
        known = await self.in_dag(conn, event.prev_events)
        return [event_id for event_id in event.prev_events if event_id not in known]

    async def _fetch_missing(self, origin: str, room: Room, latest: CheckedPdu) -> dict[str, CheckedPdu]:
        """Events between what is known and `latest`, as far as `origin` gives them.

        # spec: server-server-api/#post_matrixfederationv1get_missing_eventsroomid
        """
        found: dict[str, CheckedPdu] = {}
        edge = [latest.event_id]
        async with self.timeline.stream.pool.acquire() as conn:
            earliest = list((await self.timeline.head(conn, room)).extremities.values())
        for _ in range(_ROUNDS_OF_MISSING):
            try:
                pdus = await self.remote.get_missing_events(
                    origin, room.room_id, earliest_events=earliest, latest_events=edge, limit=100, min_depth=0
                )
            except Unavailable as error:
                logger.info("%s gave no missing events of %s: %s", origin, room.room_id, error)
                break
            checked = await check_pdus(self.remote, pdus, room.version, room.room_id)
            new = {event_id: pdu for event_id, pdu in checked.items() if event_id not in found}
            async with self.timeline.stream.pool.acquire() as conn:
                for event_id in await self.in_dag(conn, new):
                    del new[event_id]
                found |= new
                cited = {prev for pdu in new.values() for prev in pdu.event.prev_events} - found.keys()
                unknown = cited - await self.in_dag(conn, cited)
            edge = [pdu.event_id for pdu in new.values() if unknown.intersection(pdu.event.prev_events)][:20]
            if not edge or len(found) > _MOST_MISSING:
                break
        return found

    async def _take_in(self, origin: str, room: Room, checked: CheckedPdu) -> None:
        """Appends an event whose prev_events are known as far as they can be."""
        event = checked.event
        await self.ensure_auth_events(origin, room, event)
        remote_state: State | None = None
        async with self.timeline.stream.pool.acquire() as conn:
            missing = await self._missing_prev_events(conn, event)
        if missing:
            remote_state = await self.fetch_state_before(origin, room, event.event_id)
        checked, recommended = await self.policy_servers.check(room, checked)
        # In this process one at a time waits for the room's row, so that few database connections are spent on it.
        async with self.locks.hold(room.nid), self.timeline.locked(room, 1) as append:
            if not await self.in_dag(append.write.conn, [event.event_id]):
                await self._append(append, checked, remote_state, recommended=recommended)

    async def ensure_auth_events(self, origin: str, room: Room, event: Event) -> None:
        """Fetches the auth events of an event from `origin`, unless they are here.

        :raises Unavailable: if `origin` doesn't give them
        """
        async with self.timeline.stream.pool.acquire() as conn:
            known = await statuses_of(conn, event.auth_events)
        if len(known) == len(set(event.auth_events)):
            return
        pdus = await self.remote.get_event_auth(origin, room.room_id, event.event_id)
        await self.store_outliers(room, await check_pdus(self.remote, pdus, room.version, room.room_id))

    async def store_outliers(self, room: Room, pdus: dict[str, CheckedPdu]) -> None:
        """Stores events whose place in the DAG isn't known, checked against their own auth events."""
        async with self.timeline.stream.write() as write:
            await self.write_outliers(write, room, pdus)

    async def write_outliers(self, write: Write, room: Room, pdus: dict[str, CheckedPdu]) -> None:
        """The same within a transaction."""
        conn, names = write.conn, self.timeline.names
        known = await statuses_of(conn, pdus)
        new = by_dependency({id: pdu for id, pdu in pdus.items() if id not in known}, auth=True)
        cited = {event_id for pdu in new for event_id in pdu.event.auth_events}
        if room.version.room_id_is_create_hash:
            cited.add("$" + room.room_id[1:])
        at_hand = {id: (s.nid, s.event, s.status) for id, s in (await events_by_id(conn, cited, room.nid)).items()}
        senders = await names.user_nids({pdu.event.sender for pdu in new})
        keys = await names.state_key_nids({pdu.event.key for pdu in new if pdu.event.is_state})
        nids = await self.timeline.stream.new_nids(conn, len(new))
        rows: list[NewEventRow] = []
        for pdu, nid in zip(new, nids, strict=True):
            event = pdu.event
            status = Status.OUTLIER if _passes_own_auth(event, at_hand) else Status.REJECTED_OUTLIER
            at_hand[event.event_id] = (nid, event, status)
            rows.append(
                NewEventRow(
                    nid=nid,
                    event=event,
                    json=pdu.json,
                    status=status,
                    ord=None,
                    live=False,
                    sender_nid=senders[event.sender],
                    state_key_nid=keys[event.key] if event.is_state else None,
                    snapshot_nid=None,
                    auth_nids=[at_hand[cited][0] for cited in event.auth_events if cited in at_hand],
                )
            )
        if rows:
            await insert_events(conn, room.nid, rows)

    async def fetch_state_before(self, origin: str, room: Room, event_id: str) -> State:
        """The state before an event as `origin` has it; the events are stored as outliers.

        :raises Unavailable: if `origin` doesn't give it
        # spec: server-server-api/#get_matrixfederationv1state_idsroomid
        """
        answer = await self.remote.get_state_ids(origin, room.room_id, event_id)
        wanted = list(dict.fromkeys([*answer.pdu_ids, *answer.auth_chain_ids]))
        async with self.timeline.stream.pool.acquire() as conn:
            known = await statuses_of(conn, wanted)
        if len(known) < len(wanted):
            pdus: list[JsonObject] = []
            if len(wanted) - len(known) <= 10:
                pdus = [await self.remote.get_event(origin, id) for id in wanted if id not in known]
            else:
                state = await self.remote.get_state(origin, room.room_id, event_id)
                pdus = [*state.auth_chain, *state.pdus]
            await self.store_outliers(room, await check_pdus(self.remote, pdus, room.version, room.room_id))
        async with self.timeline.stream.pool.acquire() as conn:
            stored = await events_by_id(conn, answer.pdu_ids, room.nid)
        return {
            event.state_key_nid: event.nid
            for event in stored.values()
            if event.state_key_nid is not None and not event.status.rejected
        }

    async def _append(
        self, append: RoomAppend, checked: CheckedPdu, remote_state: State | None, *, recommended: bool = True
    ) -> StoredEvent:
        """Checks 4 to 7, and the event's place. `recommended`: the room's policy server has nothing against it."""
        event, conn, head = checked.event, append.write.conn, append.head
        existing = (await events_by_id(conn, [event.event_id])).get(event.event_id)
        if existing is not None and existing.room_nid != head.room.nid:
            raise InvalidEvent(f"{event.event_id} is an event of another room")
        prev = await events_by_id(conn, event.prev_events, head.room.nid)
        prev_known = [stored for stored in prev.values() if not stored.status.outlier]
        follows_head = remote_state is None and {s.nid for s in prev_known} == head.extremities.keys()
        before = head.snapshot_nid if follows_head else await self._snapshot_before(append, prev_known, remote_state)
        status = await self._judge(append, event, before, follows_head)
        if status is Status.ACCEPTED and not recommended:
            status = Status.SOFT_FAILED
        stored = await append.add_received(
            event,
            before=before,
            status=status,
            stored_json=checked.json,
            known_nid=existing.nid if existing is not None else None,
        )
        await append.flush()
        await record_missing(conn, head.room.nid, stored.nid, [id for id in event.prev_events if id not in prev])
        if status is Status.ACCEPTED:
            cited = await citing_events(conn, head.room.nid, event.event_id)
            if not cited:
                await self._advance(append, stored, prev_known, follows_head)
            await append.redact_if_asked(stored)
        return stored

    async def append_history(
        self, append: RoomAppend, checked: CheckedPdu, remote_state: State | None, ord: int
    ) -> tuple[StoredEvent, list[str]]:
        """Enters an event of the past, checked like any other but for the current state, which it can't break.

        :param remote_state: the state before it, where what it follows is not here
        :returns: the event, and those of its prev_events that are not here
        """
        event, conn, room = checked.event, append.write.conn, append.head.room
        existing = (await events_by_id(conn, [event.event_id])).get(event.event_id)
        if existing is not None and existing.room_nid != room.nid:
            raise InvalidEvent(f"{event.event_id} is an event of another room")
        prev = await events_by_id(conn, event.prev_events, room.nid)
        prev_known = [stored for stored in prev.values() if not stored.status.outlier]
        before = await self._snapshot_before(append, prev_known, remote_state)
        status = await self._judge(append, event, before, True)
        if existing is not None:
            nid = existing.nid
        else:
            [nid] = await self.timeline.stream.new_nids(conn, 1)
        stored = await append.add_history(
            event, nid=nid, before=before, status=status, ord=ord, stored_json=checked.json
        )
        await append.flush()
        if status is Status.ACCEPTED:
            await append.redact_if_asked(stored)
        known = {stored.event.event_id for stored in prev_known}
        return stored, [event_id for event_id in event.prev_events if event_id not in known]

    async def _snapshot_before(
        self, append: RoomAppend, prev: Sequence[StoredEvent], remote_state: State | None
    ) -> int | None:
        conn, snapshots = append.write.conn, self.timeline.snapshots
        states = [await state_after(conn, snapshots, stored) for stored in prev]
        if remote_state is not None:
            states.append(remote_state)
        if not states:
            return None
        state = await resolve_states(conn, self.timeline.names, append.head.room, states)
        base = prev[0].snapshot_nid if prev else append.head.snapshot_nid
        return await append.new_snapshot(base, difference(await snapshots.load(conn, base), state))

    async def _judge(self, append: RoomAppend, event: Event, before: int | None, follows_head: bool) -> Status:
        conn, head, names = append.write.conn, append.head, self.timeline.names
        auth = await events_by_id(conn, event.auth_events, head.room.nid)
        create = await head.state_event(conn, names, "m.room.create")
        create = event if event.type == "m.room.create" else create
        if create is None:
            raise InvalidEvent(f"{event.event_id} is of a room without a create event")
        try:
            check_auth_events(
                event,
                [stored.event for stored in auth.values()],
                create=create,
                rejected={id for id, stored in auth.items() if stored.status.rejected},
            )
            check_auth(event, {s.event.key: s.event for s in auth.values() if s.event.is_state}, create=create)
            check_auth(event, await self._state_events(conn, event, before), create=create)
        except AuthRuleError as error:
            logger.info("Rejected %s: rule %s: %s", event.event_id, error.rule, error.message)
            return Status.REJECTED
        if not follows_head:
            try:
                await self.timeline.check(conn, head, event)
            except AuthRuleError as error:
                logger.info("Soft-failed %s: rule %s: %s", event.event_id, error.rule, error.message)
                return Status.SOFT_FAILED
        return Status.ACCEPTED

    async def _state_events(self, conn: Connection, event: Event, snapshot: int | None) -> dict[StateKey, Event]:
        keys = auth_event_keys(
            event.room_version,
            type=event.type,
            sender=event.sender,
            state_key=event.state_key,
            content=event.content,
        )
        state = await self.timeline.snapshots.load(conn, snapshot)
        key_nids = await self.timeline.names.state_key_nids(keys)
        wanted = {key: state[nid] for key, nid in key_nids.items() if nid in state}
        events = await events_by_nid(conn, wanted.values())
        return {key: events[nid].event for key, nid in wanted.items()}

    async def _advance(
        self, append: RoomAppend, stored: StoredEvent, prev: Sequence[StoredEvent], follows_head: bool
    ) -> None:
        """Makes the event one of the newest, and the room's state what they resolve to."""
        conn, head, snapshots = append.write.conn, append.head, self.timeline.snapshots
        old_snapshot = head.snapshot_nid
        extremities = {nid: id for nid, id in head.extremities.items() if nid not in {s.nid for s in prev}}
        if follows_head:
            delta = {} if stored.state_key_nid is None else {stored.state_key_nid: stored.nid}
            snapshot = await append.new_snapshot(old_snapshot, delta)
        else:
            others = await events_by_id(conn, list(extremities.values()), head.room.nid)
            states = [await state_after(conn, snapshots, other) for other in others.values()]
            states.append(await state_after(conn, snapshots, stored))
            state = await resolve_states(conn, self.timeline.names, head.room, states)
            delta = difference(await snapshots.load(conn, old_snapshot), state)
            snapshot = await append.new_snapshot(old_snapshot, delta)
        await append.move_head(stored, extremities | {stored.nid: stored.event.event_id}, snapshot, delta)


def _passes_own_auth(event: Event, at_hand: dict[str, tuple[int, Event, Status]]) -> bool:
    auth = [at_hand[event_id] for event_id in event.auth_events if event_id in at_hand]
    if event.type == "m.room.create":
        create: Event | None = event
    elif event.room_version.room_id_is_create_hash:
        entry = at_hand.get("$" + event.room_id[1:])
        create = entry[1] if entry is not None else None
    else:
        create = next((cited for _, cited, _ in auth if cited.type == "m.room.create"), None)
    if create is None:
        return False
    try:
        check_auth_events(
            event,
            [cited for _, cited, _ in auth],
            create=create,
            rejected={cited.event_id for _, cited, status in at_hand.values() if status.rejected},
        )
        check_auth(event, {cited.key: cited for _, cited, _ in auth if cited.is_state}, create=create)
    except AuthRuleError as error:
        logger.info("Rejected %s: rule %s: %s", event.event_id, error.rule, error.message)
        return False
    return True
