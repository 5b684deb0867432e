"""The devices of users of other servers: asked for once, and kept up to date by what their servers tell.

Each update names those before it. If one of them never came here, what is remembered is void, and the whole list is
asked for again. What is remembered counts only as long as it is certain that we are told of changes.

# spec: server-server-api/#device-management
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from homeserver.devices.device_lists import mark_changed
from homeserver.protocol.canonical_json import decode_json, encode_json
from homeserver.protocol.errors import Unavailable
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of
from homeserver.remote import Remote, RemoteError
from homeserver.storage import device_lists
from homeserver.storage.device_lists import RemoteDevice, RemoteList
from homeserver.storage.presence import joined_users
from homeserver.storage.stream import Stream

MOST_DEVICES = 5_000  # of one user
_LONGEST_ID = 255
_MOST_STREAM_IDS = 100  # remembered of one list
_MOST_REFRESHED = 10  # lists that one query asks a server for; of more users it is asked for their keys alone
_BIGINT = 2**63


@dataclass(frozen=True, slots=True)
class DeviceUpdate:
    """What an m.device_list_update says. `keys` is None for a device without keys; `deleted`: the device is gone."""

    device: RemoteDevice
    stream_id: int
    prev_ids: Sequence[int]
    deleted: bool


def parse_update(content: JsonObject, user_id: str) -> DeviceUpdate | None:
    """An update as another server sends it; None if it is malformed."""
    device = _device(content, content.get("keys"), user_id)
    stream_id, prev_ids = content.get("stream_id"), content.get("prev_id") or []
    if device is None or not _is_stream_id(stream_id) or not isinstance(prev_ids, list):
        return None
    if len(prev_ids) > _MOST_STREAM_IDS or not all(_is_stream_id(one) for one in prev_ids):
        return None
    return DeviceUpdate(device, stream_id, prev_ids, content.get("deleted") is True)


async def take_in_update(stream: Stream, user_nid: int, update: DeviceUpdate) -> bool:
    """Brings what is remembered of a user up to date, and tells those who share a room.

    :returns: whether the whole list must be asked for, because updates are missing (`refresh`)
    """
    async with stream.write() as write:
        await device_lists.lock_list(write.conn, user_nid)
        known = await device_lists.known_stream_ids(write.conn, user_nid)
        if known is not None and update.stream_id in known:
            return False
        missing = known is not None and (not update.prev_ids or not set(known).issuperset(update.prev_ids))
        if missing:
            await device_lists.mark_stale(write.conn, user_nid)
        elif known is not None:
            if update.deleted:
                await device_lists.delete_remote_device(write.conn, user_nid, update.device.device_id)
            else:
                await device_lists.put_remote_device(write.conn, user_nid, update.device)
            await device_lists.add_stream_id(write.conn, user_nid, update.stream_id, _MOST_STREAM_IDS)
        await mark_changed(write, user_nid, [update.device.device_id])
        return missing


async def take_in_signing_keys(
    stream: Stream, user_nid: int, master_key: JsonObject | None, self_signing_key: JsonObject | None
) -> None:
    """Takes in a user's new cross-signing keys, and tells those who share a room.

    # spec: server-server-api/#end-to-end-encryption
    """
    async with stream.write() as write:
        await device_lists.lock_list(write.conn, user_nid)
        await device_lists.set_remote_signing_keys(
            write.conn,
            user_nid,
            None if master_key is None else encode_json(master_key),
            None if self_signing_key is None else encode_json(self_signing_key),
        )
        await mark_changed(write, user_nid, [], signing_keys=True)


async def refresh(stream: Stream, remote: Remote, user_id: str, user_nid: int) -> RemoteList:
    """Asks for the whole list of a user of another server and remembers it.

    :raises Unavailable: as `Remote`; also if the answer is malformed
    # spec: server-server-api/#get_matrixfederationv1userdevicesuserid
    """
    # What changes from here on is told by updates; those that come while we ask may be in the answer or not.
    as_of = stream.position
    answer = await remote.query_user_devices(domain_of(user_id), user_id)
    found = _parse_list(answer, user_id)
    async with stream.write() as write:
        head = await device_lists.lock_list(write.conn, user_nid)
        await device_lists.store_remote_list(write.conn, user_nid, as_of, found, stale=head.pos > as_of)
    return found


async def query_keys(stream: Stream, remote: Remote, server: str, wanted: Mapping[str, Sequence[str]]) -> JsonObject:
    """What that server answers to POST /user/keys/query; of whom everything is remembered, it is not asked.

    :param wanted: user id -> device ids, none for all
    :raises MatrixError: as `Remote`, if it must be asked and gives no answer
    # spec: server-server-api/#post_matrixfederationv1userkeysquery
    """
    lists: dict[str, RemoteList] = {}
    async with stream.pool.acquire() as conn:
        tracked = await joined_users(conn, list(wanted))
        for user_id, user_nid in tracked.items():
            remembered = await device_lists.remote_list(conn, user_nid)
            if remembered is not None:
                lists[user_id] = remembered
    unknown = [user_id for user_id in tracked if user_id not in lists]
    if len(unknown) <= _MOST_REFRESHED:
        try:
            found = await asyncio.gather(*(refresh(stream, remote, one, tracked[one]) for one in unknown))
            lists |= zip(unknown, found, strict=True)
        except RemoteError:
            pass  # it answers, but not this: asked plainly below
    rest = {user_id: devices for user_id, devices in wanted.items() if user_id not in lists}
    answer = dict(await remote.query_keys(server, rest)) if rest else {}
    for section, known in _as_answer(lists).items():
        told = answer.get(section)
        answer[section] = {**told, **known} if isinstance(told, dict) else known
    return answer


def _as_answer(lists: Mapping[str, RemoteList]) -> dict[str, JsonObject]:
    sections: dict[str, JsonObject] = {"device_keys": {}, "master_keys": {}, "self_signing_keys": {}}
    for user_id, known in lists.items():
        devices = sections["device_keys"][user_id] = {}
        for device in known.devices:
            if device.keys is not None:
                devices[device.device_id] = decode_json(device.keys)
                if device.display_name is not None:
                    devices[device.device_id]["unsigned"] = {"device_display_name": device.display_name}
        if known.master_key is not None:
            sections["master_keys"][user_id] = decode_json(known.master_key)
        if known.self_signing_key is not None:
            sections["self_signing_keys"][user_id] = decode_json(known.self_signing_key)
    return sections


def _parse_list(answer: JsonObject, user_id: str) -> RemoteList:
    devices, stream_id = answer.get("devices"), answer.get("stream_id")
    if answer.get("user_id") != user_id or not isinstance(devices, list) or not _is_stream_id(stream_id):
        raise Unavailable("Another server's list of devices is malformed")
    if len(devices) > MOST_DEVICES:
        raise Unavailable("Another server's list of devices is too long")
    parsed = [_device(one, one.get("keys"), user_id) for one in devices if isinstance(one, dict)]
    by_id = {device.device_id: device for device in parsed if device is not None}
    keys = (_signing_key(answer.get(name), user_id) for name in ("master_key", "self_signing_key"))
    master_key, self_signing_key = (None if key is None else encode_json(key) for key in keys)
    return RemoteList(stream_id, list(by_id.values()), master_key, self_signing_key)


def _device(content: JsonObject, keys: object, user_id: str) -> RemoteDevice | None:
    device_id, name = content.get("device_id"), content.get("device_display_name")
    if not isinstance(device_id, str) or not 0 < len(device_id) <= _LONGEST_ID or "\0" in device_id:
        return None
    if isinstance(keys, dict) and (keys.get("user_id"), keys.get("device_id")) != (user_id, device_id):
        return None
    shown = name[:_LONGEST_ID].replace("\0", "") if isinstance(name, str) else None
    return RemoteDevice(device_id, shown, encode_json(keys) if isinstance(keys, dict) else None)


def _signing_key(value: object, user_id: str) -> JsonObject | None:
    return value if isinstance(value, dict) and value.get("user_id") == user_id else None


def _is_stream_id(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < _BIGINT
