"""The one way into a room: a batch of events, appended under the room's lock in one transaction.

What an append writes is all that anyone will need later: the event, the state it makes, memberships, redactions, where
the history has gaps. After the commit there is only waking left to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from homeserver.protocol.canonical_json import encode_canonical_json
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.identifiers import domain_of
from homeserver.protocol.redaction import redact
from homeserver.protocol.room_versions import EventIdFormat
from homeserver.rooms.activity import activity_of
from homeserver.rooms.head import RoomHead, StateEntry
from homeserver.rooms.notifications import Notifications
from homeserver.rooms.summary import GUEST_ACCESS, SHOWN_KEYS, shown
from homeserver.storage import members as member_rows
from homeserver.storage.device_updates import introduce_devices
from homeserver.storage.events import (
    ORD_SHIFT,
    NewEventRow,
    Status,
    StoredEvent,
    event_by_id,
    events_by_nid,
    insert_events,
)
from homeserver.storage.names import Names, Room
from homeserver.storage.notifications import withdraw_notification
from homeserver.storage.redactions import mark_redacted, redactions_of
from homeserver.storage.room_heads import lock_room, write_head
from homeserver.storage.room_state import StateChange, write_state_changes
from homeserver.storage.room_summaries import add_joined, write_shown
from homeserver.storage.state_snapshots import StateSnapshots
from homeserver.storage.stream import Stream, Write
from homeserver.storage.transactions import ClientTransaction, insert_transactions


@dataclass(slots=True)
class Rows:
    """What a batch has yet to write."""

    events: list[NewEventRow] = field(default_factory=list)
    state: list[StateChange] = field(default_factory=list)
    members: list[member_rows.MemberRow] = field(default_factory=list)
    newcomers: list[int] = field(default_factory=list)  # our users who join
    redactions: list[tuple[int, Event]] = field(default_factory=list)
    transactions: list[tuple[ClientTransaction, int]] = field(default_factory=list)


@dataclass(slots=True)
class RoomAppend:
    """A batch under way. Whoever holds one holds the room's lock: it is made by `locked` alone."""

    write: Write
    head: RoomHead
    names: Names
    snapshots: StateSnapshots
    stream: Stream
    notifications: Notifications
    positions: list[int]
    stored_head: tuple[list[int], int, int | None]
    rows: Rows = field(default_factory=Rows)
    shows_other: bool = False  # something that the room shows of itself has changed since the last flush
    guest_access: bool = False  # whether guests may join has changed

    @classmethod
    async def locked(
        cls,
        write: Write,
        room: Room,
        count: int,
        known: RoomHead | None,
        names: Names,
        snapshots: StateSnapshots,
        notifications: Notifications,
    ) -> RoomAppend:
        """Locks the room and draws `count` positions. `known` is used if it is still the room's head."""
        write.will_draw()
        row = await lock_room(write.conn, room.nid, count, None if known is None else known.version)
        write.has_drawn(row.positions[-1])
        if known is not None and known.version == row.version:
            head = known.copy()
        else:
            head = RoomHead(room, row.version, row.extremities, row.depth, row.snapshot_nid)
        return cls(write, head, names, snapshots, write.stream, notifications, row.positions, _stored_form(head))

    async def append_to_head(self, event: Event, transaction: ClientTransaction | None = None) -> StoredEvent:
        """Appends an event that follows the head: one of our own, made of exactly this head, and already authorized."""
        nid = pos = self.positions.pop(0)
        head = self.head
        before = head.snapshot_nid
        stored = await self._add(event, nid, pos, Status.ACCEPTED, before)
        if event.is_state:
            await self._change_state({event.key: StateEntry(nid, event)}, pos, before)
        head.extremities = {nid: event.event_id}
        head.depth = event.depth
        if transaction is not None:
            self.rows.transactions.append((transaction, nid))
        if event.room_version.event_id_format is EventIdFormat.CHOSEN:
            await self.flush()  # the next event cites this one with its hash, which is read from its row
        return stored

    async def add_received(
        self,
        event: Event,
        *,
        before: int | None,
        status: Status,
        stored_json: bytes | None = None,
        known_nid: int | None = None,
    ) -> StoredEvent:
        """Enters an event of another server at its place in the DAG. Whether it moves the head is said by `move_head`.

        :param before: the snapshot of the state before it
        :param stored_json: what to keep of it, if that is not the event as it is
        :param known_nid: its number, if it was an outlier until now
        """
        pos = self.positions.pop(0)
        return await self._add(event, known_nid or pos, pos, status, before, stored_json)

    async def add_history(
        self,
        event: Event,
        *,
        nid: int,
        before: int | None,
        status: Status,
        ord: int,
        stored_json: bytes,
    ) -> StoredEvent:
        """Enters an event of the past at a free place in the timeline. Nobody is told, and the head stays.

        :param nid: its number, a new one or that of the outlier that it was
        :param ord: the place; it gets none if it is rejected
        """
        visible = status is Status.ACCEPTED
        state_key_nid = None
        if event.is_state:
            state_key_nid = (await self.names.state_key_nids([event.key]))[event.key]
        row = NewEventRow(
            nid=nid,
            event=event,
            json=stored_json,
            status=status,
            ord=ord if visible else None,
            live=False,
            sender_nid=await self.names.user_nid(event.sender),
            state_key_nid=state_key_nid,
            snapshot_nid=before,
            auth_nids=await self._auth_nids(event),
        )
        self.rows.events.append(row)
        if visible and event.redacts is not None:
            self.rows.redactions.append((nid, event))
        return StoredEvent(nid, self.head.room.nid, event, status, row.ord, False, state_key_nid, before, None)

    async def move_head(
        self, stored: StoredEvent, extremities: dict[int, str], snapshot: int | None, delta: Mapping[int, int]
    ) -> None:
        """Makes these the room's newest events, with the resolved state after them.

        :param stored: the event that brought this about
        :param delta: what that changes of the state: state_key_nid -> event_nid, 0 where the key goes
        """
        self.head.extremities = extremities
        self.head.depth = max(self.head.depth, stored.event.depth)
        self.head.snapshot_nid = snapshot
        if delta:
            keys = await self.names.state_keys(delta)
            events = await events_by_nid(self.write.conn, [nid for nid in delta.values() if nid])
            entries = {keys[key]: StateEntry(nid, events[nid].event) if nid else None for key, nid in delta.items()}
            pos = stored.pos
            if pos is None:  # it moved the state without being told of itself: the change needs a position all the same
                pos = await self.write.next_position()
            await self._enter_state(entries, pos)

    async def new_snapshot(self, previous: int | None, delta: Mapping[int, int]) -> int | None:
        """A snapshot of `previous` with this change; `previous` itself if there is none."""
        if not delta:
            return previous
        [nid] = await self.stream.new_nids(self.write.conn, 1)
        await self.snapshots.write(self.write.conn, nid=nid, previous=previous, delta=delta)
        return nid

    async def _add(
        self, event: Event, nid: int, pos: int, status: Status, before: int | None, stored_json: bytes | None = None
    ) -> StoredEvent:
        visible = status is Status.ACCEPTED
        json = stored_json
        if json is None:
            json = encode_canonical_json(event.json, strict=event.room_version.strict_canonical_json)
        state_key_nid = None
        if event.is_state:
            state_key_nid = (await self.names.state_key_nids([event.key]))[event.key]
        row = NewEventRow(
            nid=nid,
            event=event,
            json=json,
            status=status,
            ord=pos << ORD_SHIFT if visible else None,
            live=visible,
            sender_nid=await self.names.user_nid(event.sender),
            state_key_nid=state_key_nid,
            snapshot_nid=before,
            auth_nids=await self._auth_nids(event),
        )
        self.rows.events.append(row)
        if visible and event.redacts is not None:
            self.rows.redactions.append((nid, event))
        self.write.changed(rooms=[self.head.room.nid])
        return StoredEvent(nid, self.head.room.nid, event, status, row.ord, row.live, state_key_nid, before, None)

    async def _auth_nids(self, event: Event) -> list[int]:
        known = {entry.event.event_id: entry.nid for entry in self.head.known_state.values() if entry is not None}
        known.update((row.event.event_id, row.nid) for row in self.rows.events)
        missing = [event_id for event_id in event.auth_events if event_id not in known]
        if missing:
            rows = await self.write.conn.fetch(
                "SELECT event_id, event_nid FROM events WHERE event_id = ANY($1)", missing
            )
            known.update((row["event_id"], row["event_nid"]) for row in rows)
        return [known[event_id] for event_id in event.auth_events if event_id in known]

    async def _change_state(self, entries: dict[StateKey, StateEntry | None], pos: int, previous: int | None) -> None:
        """The state after an event that follows the head: a new snapshot and the same change for the members."""
        key_nids = await self.names.state_key_nids(entries)
        delta = {key_nids[key]: entry.nid if entry else 0 for key, entry in entries.items()}
        self.head.snapshot_nid = await self.new_snapshot(previous, delta)
        await self._enter_state(entries, pos)

    async def _enter_state(self, entries: Mapping[StateKey, StateEntry | None], pos: int) -> None:
        key_nids = await self.names.state_key_nids(entries.keys())
        known = self.head.known_state
        joined_before = {key for key in entries if (was := known.get(key)) and was.event.membership == "join"}
        for key, entry in entries.items():
            self.rows.state.append(StateChange(key_nids[key], entry.nid if entry else 0, pos))
            self.head.set_state(key, entry)
        self.shows_other |= not SHOWN_KEYS.isdisjoint(entries)
        self.guest_access |= GUEST_ACCESS in entries
        member_ids = [key[1] for key in entries if key[0] == "m.room.member"]
        user_nids = await self.names.user_nids(member_ids) if member_ids else {}
        for user_id, user_nid in user_nids.items():
            member = entries["m.room.member", user_id]
            membership = (member.event.membership if member else None) or "leave"
            put_out = member is not None and membership in ("leave", "ban") and member.event.sender != user_id
            self.rows.members.append(
                member_rows.MemberRow(
                    user_nid, membership, member.nid if member else 0, pos, domain_of(user_id), put_out=put_out
                )
            )
            is_new = membership == "join" and ("m.room.member", user_id) not in joined_before
            if is_new and self.notifications.is_local(user_id):
                self.rows.newcomers.append(user_nid)
            self.write.changed(users=[user_nid])

    async def flush(self) -> None:
        """Writes what has been appended so far. The batch may go on afterwards."""
        conn, head, rows = self.write.conn, self.head, self.rows
        if rows == Rows() and self.stored_head == _stored_form(head):
            return  # everything was refused
        self.rows = Rows()
        if rows.events:
            await insert_events(conn, head.room.nid, rows.events)
        await self.notifications.notify_members(self.write, head, self.names, rows.events, rows.members)
        if rows.state:
            await write_state_changes(conn, head.room.nid, rows.state)
        if rows.members and (joined := await member_rows.write_members(conn, head.room.nid, rows.members)):
            await add_joined(conn, head.room.nid, joined)
        for user_nid in rows.newcomers:
            await introduce_devices(self.write, user_nid, head.room.nid)
        if rows.transactions:
            await insert_transactions(conn, head.room.nid, rows.transactions)
        for nid, redaction in rows.redactions:
            await self._redact(nid, redaction)
        if self.shows_other:
            self.shows_other = False
            state = await head.state(conn, self.names, SHOWN_KEYS)
            contents = {type: entry.event.content for (type, _), entry in state.items()}
            await write_shown(conn, head.room.nid, shown(contents))
        head.version += 1
        activity = activity_of(rows.events, rows.state)
        await write_head(
            conn, head.room.nid, head.version, list(head.extremities), head.depth, head.snapshot_nid, activity
        )
        self.stored_head = _stored_form(head)

    async def _redact(self, redaction_nid: int, redaction: Event) -> None:
        """Carries out a redaction, if its target is here and it may.  # spec: rooms/v11#handling-redactions"""
        assert redaction.redacts is not None
        target = await event_by_id(self.write.conn, redaction.redacts, self.head.room.nid)
        if target is None or target.redacted_by is not None or not await self._may_redact(redaction, target.event):
            return
        await self._store_redacted(target, redaction_nid)

    async def _may_redact(self, redaction: Event, target: Event) -> bool:
        if target.type == "m.room.create":
            return False
        if domain_of(redaction.sender) == domain_of(target.sender):
            return True
        levels = await self.head.power_levels(self.write.conn, self.names)
        return levels.user(redaction.sender) >= levels.redact

    async def _store_redacted(self, target: StoredEvent, redaction_nid: int) -> None:
        event = target.event
        pruned = redact(event.json, event.room_version)
        await mark_redacted(
            self.write.conn,
            target.nid,
            redaction_nid,
            encode_canonical_json(pruned, strict=event.room_version.strict_canonical_json),
        )
        if target.ord is not None:
            await withdraw_notification(self.write.conn, target.room_nid, target.ord)
        if event.is_state:
            self.head.forget_state([event.key])
            self.shows_other |= event.key in SHOWN_KEYS
            self.guest_access |= event.key == GUEST_ACCESS

    async def redact_if_asked(self, stored: StoredEvent) -> None:
        """Redacts an event that arrived after its redaction. Must be flushed before."""
        asked = await redactions_of(self.write.conn, stored.event.event_id, self.head.room.nid)
        for redaction in (await events_by_nid(self.write.conn, asked)).values():
            if redaction.status is Status.ACCEPTED and await self._may_redact(redaction.event, stored.event):
                await self._store_redacted(stored, redaction.nid)
                return


def _stored_form(head: RoomHead) -> tuple[list[int], int, int | None]:
    """What the room's row says of its head, but for the version."""
    return list(head.extremities), head.depth, head.snapshot_nid
