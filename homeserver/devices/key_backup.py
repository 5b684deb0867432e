"""Backups of room keys: versions, of which only the newest takes keys, and the keys in them.

# spec: client-server-api/#server-side-key-backups
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from homeserver.protocol.canonical_json import MAX_SAFE_INTEGER, encode_json
from homeserver.protocol.errors import BadJson, Forbidden, InvalidParam, MissingParam, NotFound, TooLarge
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import is_room_id
from homeserver.storage import key_backups
from homeserver.storage.key_backups import Backup, RoomKey
from homeserver.storage.stream import Connection, Pool

ALGORITHMS = ("m.megolm_backup.v1.curve25519-aes-sha2",)
_MAX_AUTH_DATA = 64 * 1024
_MAX_SESSION_DATA = 64 * 1024
_MAX_SESSION_ID = 255
_MAX_AT_ONCE = 10_000  # keys in a request
_MAX_KEYS = 1_000_000  # in a backup
_MAX_VERSIONS = 100  # that have not been deleted
_MAX_DIGITS = 15


async def create_version(pool: Pool, user_nid: int, algorithm: str, auth_data: JsonObject) -> str:
    """Begins a new backup, from now on the current one; returns its version.

    :raises InvalidParam: for an algorithm that nobody knows, or too many backups
    :raises TooLarge: for too much `auth_data`
    # spec: client-server-api/#post_matrixclientv3room_keysversion
    """
    if algorithm not in ALGORITHMS:
        raise InvalidParam("This is no algorithm for backups")
    raw = _auth_data(auth_data)
    async with pool.acquire() as conn, conn.transaction():
        await key_backups.lock_backups(conn, user_nid)
        if await key_backups.count_backups(conn, user_nid) >= _MAX_VERSIONS:
            raise InvalidParam(f"There may be at most {_MAX_VERSIONS} backups; delete some")
        return str(await key_backups.create_backup(conn, user_nid, algorithm, raw))


async def find_version(pool: Pool, user_nid: int, version: str | None) -> JsonObject:
    """A backup as clients are shown it; the current one if no version is given. Raises NotFound.

    # spec: client-server-api/#get_matrixclientv3room_keysversion
    """
    async with pool.acquire() as conn:
        if version is None:
            backup = await key_backups.current_backup(conn, user_nid)
            if backup is None:
                raise NotFound("There is no backup")
        else:
            backup = await _backup(conn, user_nid, version)
    auth_data = orjson.Fragment(backup.auth_data)
    return {
        "algorithm": backup.algorithm,
        "auth_data": auth_data,
        "version": str(backup.version),
        **_state(backup),
    }


async def update_version(pool: Pool, user_nid: int, version: str, algorithm: str, auth_data: JsonObject) -> None:
    """Replaces the `auth_data` of a backup. Raises NotFound, InvalidParam, TooLarge.

    # spec: client-server-api/#put_matrixclientv3room_keysversionversion
    """
    raw = _auth_data(auth_data)
    async with pool.acquire() as conn, conn.transaction():
        await key_backups.lock_backups(conn, user_nid)
        backup = await _backup(conn, user_nid, version)
        if algorithm != backup.algorithm:
            raise InvalidParam("Algorithm does not match")
        await key_backups.update_auth_data(conn, user_nid, backup.version, raw)


async def delete_version(pool: Pool, user_nid: int, version: str) -> None:
    """Deletes a backup with its keys; one that has been deleted before is no error. Raises NotFound.

    # spec: client-server-api/#delete_matrixclientv3room_keysversionversion
    """
    async with pool.acquire() as conn, conn.transaction():
        await key_backups.lock_backups(conn, user_nid)
        number = _number(version)
        if number is None or await key_backups.find_backup(conn, user_nid, number) is None:
            raise _unknown_version()
        await key_backups.delete_backup(conn, user_nid, number)


async def store_keys(pool: Pool, user_nid: int, version: str, rooms: Mapping[str, Any]) -> JsonObject:
    """Adds keys to the current backup; of two for one session the better stays.

    :param rooms: room id -> {"sessions": session id -> key}
    :returns: count and etag of the backup
    :raises BadJson, InvalidParam, MissingParam, TooLarge: for malformed or too many keys
    :raises Forbidden: M_WRONG_ROOM_KEYS_VERSION, for another version than the current one
    :raises NotFound: if there is no backup
    # spec: client-server-api/#put_matrixclientv3room_keyskeys
    """
    keys = _parse(rooms)
    async with pool.acquire() as conn, conn.transaction():
        await key_backups.lock_backups(conn, user_nid)
        current = await key_backups.current_backup(conn, user_nid)
        if current is None:
            raise _unknown_version()
        if _number(version) != current.version:
            raise Forbidden(
                "Wrong backup version.", errcode="M_WRONG_ROOM_KEYS_VERSION", current_version=str(current.version)
            )
        backup = await key_backups.merge_room_keys(conn, user_nid, current.version, keys)
        if backup.key_count > _MAX_KEYS:
            raise InvalidParam(f"A backup may have at most {_MAX_KEYS} keys")
    return _state(backup)


async def find_keys(
    pool: Pool, user_nid: int, version: str, room_id: str | None = None, session_id: str | None = None
) -> dict[str, dict[str, JsonObject]]:
    """room id -> session id -> key, of a backup, a room or one session. Raises NotFound if there is no such backup.

    # spec: client-server-api/#get_matrixclientv3room_keyskeys
    """
    async with pool.acquire() as conn:
        backup = await _backup(conn, user_nid, version)
        keys = await key_backups.find_room_keys(conn, user_nid, backup.version, room_id, session_id)
    rooms: dict[str, dict[str, JsonObject]] = {}
    for key in keys:
        rooms.setdefault(key.room_id, {})[key.session_id] = {
            "first_message_index": key.first_message_index,
            "forwarded_count": key.forwarded_count,
            "is_verified": key.is_verified,
            "session_data": orjson.Fragment(key.session_data),
        }
    return rooms


async def delete_keys(
    pool: Pool, user_nid: int, version: str, room_id: str | None = None, session_id: str | None = None
) -> JsonObject:
    """Deletes the keys of a backup, a room or one session; returns count and etag. Raises NotFound.

    # spec: client-server-api/#delete_matrixclientv3room_keyskeys
    """
    async with pool.acquire() as conn, conn.transaction():
        await key_backups.lock_backups(conn, user_nid)
        backup = await _backup(conn, user_nid, version)
        return _state(await key_backups.delete_room_keys(conn, user_nid, backup.version, room_id, session_id))


async def _backup(conn: Connection, user_nid: int, version: str) -> Backup:
    number = _number(version)
    backup = await key_backups.find_backup(conn, user_nid, number) if number is not None else None
    if backup is None or backup.deleted:
        raise _unknown_version()
    return backup


def _number(version: str) -> int | None:
    digits = version.isascii() and version.isdigit() and len(version) <= _MAX_DIGITS
    return int(version) if digits and str(int(version)) == version else None


def _unknown_version() -> NotFound:
    return NotFound("Unknown backup version")


def _state(backup: Backup) -> JsonObject:
    return {"count": backup.key_count, "etag": str(backup.etag)}


def _auth_data(auth_data: JsonObject) -> bytes:
    raw = encode_json(auth_data)
    if len(raw) > _MAX_AUTH_DATA:
        raise TooLarge(f"auth_data may have at most {_MAX_AUTH_DATA} bytes")
    return raw


def _parse(rooms: Mapping[str, Any]) -> list[RoomKey]:
    keys: list[RoomKey] = []
    for room_id, room in rooms.items():
        if not is_room_id(room_id):
            raise InvalidParam("This is not a room id")
        sessions = room.get("sessions") if isinstance(room, dict) else None
        if sessions is None:
            raise MissingParam("sessions is missing")
        if not isinstance(sessions, dict):
            raise BadJson("sessions must map session ids to keys")
        if len(keys) + len(sessions) > _MAX_AT_ONCE:
            raise InvalidParam(f"At most {_MAX_AT_ONCE} keys can be stored at once")
        keys += [_parse_key(room_id, session_id, key) for session_id, key in sessions.items()]
    return keys


def _parse_key(room_id: str, session_id: str, key: Any) -> RoomKey:
    if not session_id or len(session_id) > _MAX_SESSION_ID or "\0" in session_id:
        raise InvalidParam("The session id is empty, too long or has a NUL character in it")
    if not isinstance(key, dict):
        raise BadJson("A key must be an object")
    for name in ("first_message_index", "forwarded_count", "is_verified", "session_data"):
        if name not in key:
            raise MissingParam(f"{name} is missing")
    verified, data = key["is_verified"], key["session_data"]
    if not isinstance(verified, bool) or not isinstance(data, dict):
        raise BadJson("is_verified must be true or false, session_data an object")
    raw = encode_json(data)
    if len(raw) > _MAX_SESSION_DATA:
        raise TooLarge(f"session_data may have at most {_MAX_SESSION_DATA} bytes")
    first, forwarded = _count(key, "first_message_index"), _count(key, "forwarded_count")
    return RoomKey(room_id, session_id, first, forwarded, verified, raw)


def _count(key: JsonObject, name: str) -> int:
    value = key[name]
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadJson(f"{name} must be an integer")
    if not 0 <= value <= MAX_SAFE_INTEGER:
        raise InvalidParam(f"{name} is out of range")
    return value
