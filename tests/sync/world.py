"""A server without HTTP for tests of what clients read: users act on rooms, and their clients sync.

Time stands still unless a test moves it, so that the same acts make the same events.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from homeserver.changes import Changes
from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.events import JsonObject
from homeserver.protocol.filters import parse_filter
from homeserver.protocol.room_versions import room_version
from homeserver.protocol.signing import SigningKey
from homeserver.rooms.timeline import NewEvent, Timeline
from homeserver.rooms.typing_users import TypingUsers
from homeserver.storage.names import Names, Room
from homeserver.storage.pool import create_pool
from homeserver.storage.state_snapshots import StateSnapshots
from homeserver.storage.stream import Stream, open_stream
from homeserver.storage.transactions import ClientTransaction
from homeserver.sync.client_events import Reader
from homeserver.sync.sent_members import SentMembers
from homeserver.sync.service import SyncRequest, sync
from homeserver.sync.tokens import parse_sync_token
from homeserver.sync.view import Sources

SERVER = "here.example"


def user_id(name: str) -> str:
    return f"@{name}:{SERVER}"


class World:
    """One server's rooms and users. Users are known by their localparts."""

    def __init__(self, sources: Sources, timeline: Timeline) -> None:
        self.sources = sources
        self.timeline = timeline
        self._numbers = itertools.count(1)

    @property
    def stream(self) -> Stream:
        return self.sources.stream

    async def settle(self) -> None:
        """Waits until no transaction is open: one that was refused ends after its sender has heard so."""
        while self.stream.open:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def reader(self, name: str, device_id: str = "DEVICE") -> Reader:
        return Reader(user_id(name), await self.timeline.names.user_nid(user_id(name)), device_id)

    async def create_room(
        self, creator: str, *, visibility: str | None = None, version: str = "11", join_rule: str = "public"
    ) -> Room:
        """A room that anyone may join, and in which anyone may change anything but power levels."""
        kind = room_version(version)
        create = NewEvent("m.room.create", user_id(creator), {"room_version": version}, state_key="")
        room_id = None if kind.room_id_is_create_hash else f"!room{next(self._numbers)}:{SERVER}"
        levels = {"users": {user_id(creator): 100}, "state_default": 0, "events": {"m.room.power_levels": 100}}
        first: list[tuple[str, str, JsonObject]] = [
            ("m.room.member", user_id(creator), {"membership": "join"}),
            ("m.room.power_levels", "", levels),
            ("m.room.join_rules", "", {"join_rule": join_rule}),
        ]
        if visibility is not None:
            first.append(("m.room.history_visibility", "", {"history_visibility": visibility}))
        async with self.stream.write() as write:
            room = await self.timeline.create_room(kind, create, room_id, published=False, write=write)
            async with self.timeline.appending(write, room, len(first)) as append:
                for type, state_key, content in first:
                    await self.timeline.append_new(append, NewEvent(type, user_id(creator), content, state_key))
        return room

    async def set_state(self, room: Room, name: str, type: str, content: JsonObject, state_key: str = "") -> str:
        return await self.timeline.send_event(room, NewEvent(type, user_id(name), content, state_key))

    async def set_membership(self, room: Room, name: str, membership: str, by: str | None = None, **more: Any) -> str:
        return await self.set_state(
            room, by or name, "m.room.member", {"membership": membership, **more}, state_key=user_id(name)
        )

    async def join(self, room: Room, name: str, **more: Any) -> str:
        return await self.set_membership(room, name, "join", **more)

    async def leave(self, room: Room, name: str) -> str:
        return await self.set_membership(room, name, "leave")

    async def say(self, room: Room, name: str, text: str, *, txn_id: str | None = None, device: str = "DEVICE") -> str:
        transaction = None
        if txn_id is not None:
            transaction = ClientTransaction(await self.timeline.names.user_nid(user_id(name)), device, txn_id)
        content = {"msgtype": "m.text", "body": text}
        return await self.timeline.send_event(
            room, NewEvent("m.room.message", user_id(name), content, transaction=transaction)
        )

    async def redact(self, room: Room, name: str, event_id: str) -> str:
        return await self.timeline.send_event(
            room, NewEvent("m.room.redaction", user_id(name), {"redacts": event_id}, redacts=event_id)
        )

    async def set_account_data(self, name: str, type: str, content: JsonObject, room: Room | None = None) -> None:
        user_nid = await self.timeline.names.user_nid(user_id(name))
        async with self.stream.write() as write:
            pos = await write.next_position()
            await write.conn.execute(
                "INSERT INTO account_data (user_nid, room_nid, type, content, pos) VALUES ($1, $2, $3, $4, $5) "
                "ON CONFLICT (user_nid, room_nid, type) DO UPDATE SET content = excluded.content, pos = excluded.pos",
                user_nid,
                room.nid if room else 0,
                type,
                encode_json(content),
                pos,
            )
            write.changed(users=[user_nid])

    async def sync(
        self,
        name: str,
        since: str | None = None,
        *,
        filter: JsonObject | None = None,
        timeout: float = 0.0,
        full_state: bool = False,
        state_after: bool = False,
        device: str = "DEVICE",
    ) -> Any:
        """The response as the client reads it."""
        request = SyncRequest(
            reader=await self.reader(name, device),
            filter=parse_filter(filter or {}),
            since=None if since is None else parse_sync_token(since),
            timeout=timeout,
            full_state=full_state,
            state_after="state_after" if state_after else None,
        )
        async with asyncio.timeout(20):
            return orjson.loads(encode_json(await sync(self.sources, request)))


@asynccontextmanager
async def open_world(dsn: str) -> AsyncIterator[World]:
    """A world in an empty database."""
    async with await create_pool(dsn, 8) as pool, await create_pool(dsn, 2) as names_pool:
        changes = Changes()
        stream = await open_stream(pool, lambda rooms, users: changes.publish(rooms=rooms, users=users))
        names = Names(names_pool)
        ticks = itertools.count(1_700_000_000_000)
        timeline = Timeline(
            stream=stream,
            names=names,
            snapshots=StateSnapshots(),
            server_name=SERVER,
            signing_key=SigningKey("1", bytes(32)),
            clock=lambda: next(ticks),
        )
        typing = TypingUsers(changes)
        try:
            yield World(Sources(pool, stream, changes, names, typing, SentMembers()), timeline)
        finally:
            typing.close()
            await timeline.close()


def bodies(events: list[Any]) -> list[str]:
    """What was said: the text of messages, the type of other events."""
    return [event["content"].get("body", event["type"]) for event in events]
