"""Strings to numbers and back: users, rooms and state keys, looked up once and remembered.

A name that is new gets its row at once, in a transaction of its own on a connection of its own. So a number that was
handed out exists whatever becomes of the transaction it was wanted for, and what is remembered here never goes stale:
these rows are never changed or deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from homeserver.protocol.events import StateKey
from homeserver.protocol.identifiers import domain_of
from homeserver.protocol.room_versions import RoomVersion, room_version
from homeserver.storage.stream import Pool

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """A dictionary that forgets its oldest entries beyond `size`."""

    __slots__ = ("_entries", "_size")

    def __init__(self, size: int) -> None:
        self._entries: dict[K, V] = {}
        self._size = size

    def get(self, key: K) -> V | None:
        return self._entries.get(key)

    def set(self, key: K, value: V) -> None:
        self._entries[key] = value
        if len(self._entries) > self._size:
            del self._entries[next(iter(self._entries))]

    def discard(self, key: K) -> None:
        self._entries.pop(key, None)


@dataclass(frozen=True, slots=True)
class Room:
    """A room that this server knows of: its number, its id and its version."""

    nid: int
    room_id: str
    version: RoomVersion


class Names:
    """The numbers of one database, remembered. `pool` is for this alone: nothing waits while it holds a connection."""

    def __init__(self, pool: Pool, size: int = 200_000) -> None:
        self._pool = pool
        self._users: BoundedCache[str, int] = BoundedCache(size)
        self._user_ids: BoundedCache[int, str] = BoundedCache(size)
        self._state_keys: BoundedCache[StateKey, int] = BoundedCache(size)
        self._state_keys_by_nid: BoundedCache[int, StateKey] = BoundedCache(size)
        self._rooms: BoundedCache[str, Room] = BoundedCache(size)
        self._rooms_by_nid: BoundedCache[int, Room] = BoundedCache(size)

    async def user_nid(self, user_id: str) -> int:
        """The number of a user, made if need be."""
        nid = self._users.get(user_id)
        return nid if nid is not None else (await self.user_nids([user_id]))[user_id]

    async def user_nids(self, user_ids: Collection[str]) -> dict[str, int]:
        """The numbers of these users, made if need be."""
        found = {user_id: nid for user_id in user_ids if (nid := self._users.get(user_id)) is not None}
        missing = sorted(set(user_ids) - found.keys())
        if missing:
            rows = await self._pool.fetch("SELECT user_id, user_nid FROM users WHERE user_id = ANY($1)", missing)
            if len(rows) < len(missing):
                await self._pool.execute(
                    "INSERT INTO users (user_id, server) SELECT * FROM unnest($1::text[], $2::text[]) "
                    "ON CONFLICT DO NOTHING",
                    missing,
                    [domain_of(user_id) for user_id in missing],
                )
                rows = await self._pool.fetch("SELECT user_id, user_nid FROM users WHERE user_id = ANY($1)", missing)
            for row in rows:
                found[row["user_id"]] = row["user_nid"]
                self._remember_user(row["user_id"], row["user_nid"])
        return found

    async def user_ids(self, user_nids: Collection[int]) -> dict[int, str]:
        """The ids of users by their numbers."""
        found = {nid: user_id for nid in user_nids if (user_id := self._user_ids.get(nid)) is not None}
        missing = list(set(user_nids) - found.keys())
        if missing:
            for row in await self._pool.fetch("SELECT user_id, user_nid FROM users WHERE user_nid = ANY($1)", missing):
                found[row["user_nid"]] = row["user_id"]
                self._remember_user(row["user_id"], row["user_nid"])
        return found

    def _remember_user(self, user_id: str, nid: int) -> None:
        self._users.set(user_id, nid)
        self._user_ids.set(nid, user_id)

    async def state_key_nids(self, keys: Collection[StateKey]) -> dict[StateKey, int]:
        """The numbers of (type, state_key) pairs, made if need be."""
        found = {key: nid for key in keys if (nid := self._state_keys.get(key)) is not None}
        missing = sorted(set(keys) - found.keys())
        if missing:
            types, state_keys = [key[0] for key in missing], [key[1] for key in missing]
            select = (
                "SELECT type, state_key, state_key_nid FROM state_keys "
                "JOIN unnest($1::text[], $2::text[]) AS wanted (type, state_key) USING (type, state_key)"
            )
            rows = await self._pool.fetch(select, types, state_keys)
            if len(rows) < len(missing):
                await self._pool.execute(
                    "INSERT INTO state_keys (type, state_key) SELECT * FROM unnest($1::text[], $2::text[]) "
                    "ON CONFLICT DO NOTHING",
                    types,
                    state_keys,
                )
                rows = await self._pool.fetch(select, types, state_keys)
            for row in rows:
                key = (row["type"], row["state_key"])
                found[key] = row["state_key_nid"]
                self._remember_state_key(key, row["state_key_nid"])
        return found

    async def state_keys(self, nids: Collection[int]) -> dict[int, StateKey]:
        """The (type, state_key) pairs behind these numbers."""
        found = {nid: key for nid in nids if (key := self._state_keys_by_nid.get(nid)) is not None}
        missing = list(set(nids) - found.keys())
        if missing:
            rows = await self._pool.fetch(
                "SELECT type, state_key, state_key_nid FROM state_keys WHERE state_key_nid = ANY($1)", missing
            )
            for row in rows:
                key = (row["type"], row["state_key"])
                found[row["state_key_nid"]] = key
                self._remember_state_key(key, row["state_key_nid"])
        return found

    def _remember_state_key(self, key: StateKey, nid: int) -> None:
        self._state_keys.set(key, nid)
        self._state_keys_by_nid.set(nid, key)

    async def room(self, room_id: str) -> Room | None:
        """The room of that id, if this server knows it (which does not say that anyone here is in it)."""
        known = self._rooms.get(room_id)
        if known is None:
            row = await self._pool.fetchrow("SELECT room_nid, room_version FROM rooms WHERE room_id = $1", room_id)
            if row is not None:
                known = self.remember_room(row["room_nid"], room_id, row["room_version"])
        return known

    async def rooms(self, room_nids: Collection[int]) -> dict[int, Room]:
        """The rooms behind these numbers."""
        found = {nid: room for nid in room_nids if (room := self._rooms_by_nid.get(nid)) is not None}
        missing = list(set(room_nids) - found.keys())
        if missing:
            rows = await self._pool.fetch(
                "SELECT room_nid, room_id, room_version FROM rooms WHERE room_nid = ANY($1)", missing
            )
            for row in rows:
                found[row["room_nid"]] = self.remember_room(row["room_nid"], row["room_id"], row["room_version"])
        return found

    async def ensure_room(self, room_id: str, version: str, created_ts: int) -> Room:
        """The room of that id, entered without head or state if it was unknown."""
        await self._pool.execute(
            "INSERT INTO rooms (room_id, room_version, created_ts) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            room_id,
            version,
            created_ts,
        )
        room = await self.room(room_id)
        assert room is not None
        return room

    def remember_room(self, nid: int, room_id: str, version: str) -> Room:
        """Remembers a room whose row is committed."""
        room = Room(nid, room_id, room_version(version))
        self._rooms.set(room_id, room)
        self._rooms_by_nid.set(nid, room)
        return room
