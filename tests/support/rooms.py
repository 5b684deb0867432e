"""Rooms without HTTP: what `main` builds of them, on a database of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from homeserver.changes import Changes
from homeserver.protocol.events import Event, JsonObject
from homeserver.protocol.room_versions import room_version
from homeserver.protocol.signing import SigningKey, generate_signing_key
from homeserver.remote import Remote
from homeserver.rooms.create import RoomRequest, create_room
from homeserver.rooms.membership import Membership
from homeserver.rooms.receive import Receiver
from homeserver.rooms.remote_join import RemoteJoins
from homeserver.rooms.timeline import NewEvent, Timeline
from homeserver.storage.events import StoredEvent, event_by_id, events_by_nid
from homeserver.storage.names import Names, Room
from homeserver.storage.pool import create_pool
from homeserver.storage.room_state import current_state
from homeserver.storage.state_snapshots import StateSnapshots
from homeserver.storage.stream import Pool, Stream, open_stream

ALICE, BOB, CAROL = "@alice:test", "@bob:test", "@carol:test"


class NoRemote:
    """Other servers, of which there are none; events pass as if their signatures had been checked."""

    async def check_event(self, event: Event) -> None:
        return None


@dataclass(frozen=True)
class Rooms:
    """The rooms of one server process."""

    pool: Pool
    stream: Stream
    changes: Changes
    timeline: Timeline
    receiver: Receiver
    membership: Membership

    async def create(self, creator: str = ALICE, version: str = "12", preset: str = "public_chat", **more: Any) -> Room:
        return await create_room(self.membership, RoomRequest(creator, room_version(version), preset, **more))

    async def message(self, room: Room, sender: str, body: str, **more: Any) -> str:
        return await self.timeline.send_event(
            room, NewEvent("m.room.message", sender, {"msgtype": "m.text", "body": body}, **more)
        )

    async def set_state(self, room: Room, sender: str, type: str, content: JsonObject, state_key: str = "") -> str:
        return await self.timeline.send_event(room, NewEvent(type, sender, content, state_key=state_key))

    async def event(self, event_id: str) -> StoredEvent:
        async with self.pool.acquire() as conn:
            stored = await event_by_id(conn, event_id)
        assert stored is not None
        return stored

    async def state(self, room: Room) -> dict[tuple[str, str], Event]:
        """The current state as the members are told it."""
        async with self.pool.acquire() as conn:
            nids = await current_state(conn, room.nid)
            events = await events_by_nid(conn, nids.values())
        return {stored.event.key: stored.event for stored in events.values()}

    async def membership_of(self, room: Room, user_id: str) -> str | None:
        member = (await self.state(room)).get(("m.room.member", user_id))
        return None if member is None else member.membership


@asynccontextmanager
async def rooms_on(
    database_url: str, *, server_name: str = "test", signing_key: SigningKey | None = None, remote: Remote | None = None
) -> AsyncIterator[Rooms]:
    """What one server process has of rooms, until the end of the block."""
    changes = Changes()
    pool, names_pool = await create_pool(database_url, 8), await create_pool(database_url, 2)
    try:
        stream = await open_stream(pool, lambda rooms, users: changes.publish(rooms=rooms, users=users))
        timeline = Timeline(
            stream=stream,
            names=Names(names_pool),
            snapshots=StateSnapshots(),
            server_name=server_name,
            signing_key=signing_key or generate_signing_key(),
        )
        receiver = Receiver(timeline, remote or cast(Remote, NoRemote()))
        yield Rooms(
            pool, stream, changes, timeline, receiver, Membership(timeline, receiver, RemoteJoins(timeline, receiver))
        )
        await timeline.close()
    finally:
        await pool.close()
        await names_pool.close()
