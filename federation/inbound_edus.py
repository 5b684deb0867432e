"""What other servers tell that is not part of any room's history: who types, who has read what, who is online, what
their devices say to ours.

What is malformed or none of that server's business is dropped: nobody waits for an answer to it.
# spec: server-server-api/#edus
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeGuard

from federation.peers import Federation
from federation.server_acls import check_acl
from homeserver.devices import remote_device_lists, to_device
from homeserver.protocol.errors import Forbidden, MatrixError
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of, is_event_id, is_user_id
from homeserver.rooms.presence import STATES
from homeserver.rooms.receipts import READ, Receipt
from homeserver.storage.device_updates import DEVICE_LIST_UPDATE, SIGNING_KEY_UPDATE
from homeserver.storage.members import membership_in
from homeserver.storage.names import Room
from homeserver.storage.presence import joined_users

logger = logging.getLogger(__name__)

_MOST_RECEIPTS = 200  # in one EDU
_LONGEST_THREAD_ID = 255
_MOST_PRESENCES = 200  # in one EDU
_LONGEST_STATUS = 2048
_LONGEST_ID = 255
_MOST_MESSAGES = 10_000  # to devices, in one EDU


async def take_in_edu(federation: Federation, origin: str, edu: object) -> None:
    """Takes in one EDU. Never raises for what another server sent."""
    edu_type, content = (edu.get("edu_type"), edu.get("content")) if isinstance(edu, dict) else (None, None)
    handler = _HANDLERS.get(edu_type) if isinstance(edu_type, str) else None
    if handler is None or not isinstance(content, dict):
        return
    try:
        await handler(federation, origin, content)
    except Exception:  # one bad EDU must not block those that come with it; this one is a bug to be found
        logger.exception("Failed at a %s of %s", edu_type, origin)


async def _typing(federation: Federation, origin: str, content: JsonObject) -> None:
    """# spec: server-server-api/#typing-notifications"""
    user_id, typing = content.get("user_id"), content.get("typing")
    room = await _room_of_user(federation, origin, content.get("room_id"), user_id)
    if room is not None and isinstance(user_id, str) and isinstance(typing, bool):
        federation.services.typing.set_remote(room.nid, user_id, typing=typing)


async def _receipt(federation: Federation, origin: str, content: JsonObject) -> None:
    """# spec: server-server-api/#receipts"""
    taken = 0
    for room_id, by_type in content.items():
        readers = by_type.get(READ) if isinstance(by_type, dict) else None
        for user_id, receipt in readers.items() if isinstance(readers, dict) else ():
            taken += 1
            if taken > _MOST_RECEIPTS:
                return
            room = await _room_of_user(federation, origin, room_id, user_id)
            if room is not None:
                for one in _receipts(room, user_id, receipt):
                    await federation.services.receipts.set_remote(one)


def _receipts(room: Room, user_id: str, receipt: object) -> Iterator[Receipt]:
    event_ids, data = (receipt.get("event_ids"), receipt.get("data")) if isinstance(receipt, dict) else (None, None)
    if not isinstance(event_ids, list) or not isinstance(data, dict):
        return
    ts, thread_id = data.get("ts"), data.get("thread_id")
    if type(ts) is not int or not 0 <= ts < 2**53:
        ts = int(time.time() * 1000)
    if thread_id is not None and (
        not isinstance(thread_id, str) or "\0" in thread_id or not 0 < len(thread_id) <= _LONGEST_THREAD_ID
    ):
        return
    # The specification has one id in this list.
    for event_id in event_ids[:1]:
        if is_event_id(event_id) and "\0" not in event_id:
            yield Receipt(room, READ, user_id, event_id, thread_id, ts)


async def _presence(federation: Federation, origin: str, content: JsonObject) -> None:
    """# spec: server-server-api/#presence"""
    services, push = federation.services, content.get("push")
    if not services.presence.enabled or not isinstance(push, list):
        return
    updates = {
        update["user_id"]: update
        for update in push[:_MOST_PRESENCES]
        if isinstance(update, dict) and is_user_id(update.get("user_id")) and domain_of(update["user_id"]) == origin
    }
    async with services.pool.acquire() as conn:
        known = await joined_users(conn, [user_id for user_id in updates if "\0" not in user_id])
    for user_id, user_nid in known.items():
        state, status_msg, ago = (updates[user_id].get(key) for key in ("presence", "status_msg", "last_active_ago"))
        if state not in STATES:
            continue
        services.presence.set_remote(
            user_nid,
            user_id,
            state,
            last_active_ago=ago if type(ago) is int and 0 <= ago < 2**53 else 0,
            currently_active=updates[user_id].get("currently_active") is True,
            status_msg=status_msg[:_LONGEST_STATUS].replace("\0", "") if isinstance(status_msg, str) else None,
        )


async def _direct_to_device(federation: Federation, origin: str, content: JsonObject) -> None:
    """# spec: server-server-api/#send-to-device-messaging"""
    sender, type, message_id = (content.get(key) for key in ("sender", "type", "message_id"))
    if not is_user_id(sender) or domain_of(sender) != origin or "\0" in sender:
        return
    if not _is_id(type) or not _is_id(message_id):
        return
    await to_device.receive(
        federation.services.stream,
        origin,
        sender,
        type,
        message_id,
        _messages(content.get("messages"), federation.server_name),
        server_name=federation.server_name,
    )


async def _device_list_update(federation: Federation, origin: str, content: JsonObject) -> None:
    """# spec: server-server-api/#device-management"""
    services, user_id = federation.services, content.get("user_id")
    user_nid = await _known_user(federation, origin, user_id)
    if user_nid is None or not isinstance(user_id, str):
        return
    update = remote_device_lists.parse_update(content, user_id)
    if update is None or not await remote_device_lists.take_in_update(services.stream, user_nid, update):
        return
    try:
        await remote_device_lists.refresh(services.stream, services.remote, user_id, user_nid)
    except MatrixError as error:  # what is remembered stays void
        logger.info("Could not ask %s for the devices of %s: %s", origin, user_id, error.message)


async def _signing_key_update(federation: Federation, origin: str, content: JsonObject) -> None:
    """# spec: server-server-api/#end-to-end-encryption"""
    user_id = content.get("user_id")
    user_nid = await _known_user(federation, origin, user_id)
    if user_nid is not None:
        master_key, self_signing_key = (
            key if isinstance(key := content.get(name), dict) and key.get("user_id") == user_id else None
            for name in ("master_key", "self_signing_key")
        )
        await remote_device_lists.take_in_signing_keys(
            federation.services.stream, user_nid, master_key, self_signing_key
        )


async def _known_user(federation: Federation, origin: str, user_id: object) -> int | None:
    """The number of a user of that server, if they are in a room that is known here."""
    if not is_user_id(user_id) or "\0" in user_id or domain_of(user_id) != origin:
        return None
    async with federation.services.pool.acquire() as conn:
        return (await joined_users(conn, [user_id])).get(user_id)


def _messages(value: object, own_server: str) -> dict[str, dict[str, JsonObject]]:
    """Those of the messages to our users that are well-formed."""
    found: dict[str, dict[str, JsonObject]] = {}
    left = _MOST_MESSAGES
    for user_id, by_device in value.items() if isinstance(value, dict) else ():
        if "\0" in user_id or domain_of(user_id) != own_server or not isinstance(by_device, dict):
            continue
        found[user_id] = {
            device_id: content
            for device_id, content in list(by_device.items())[:left]
            if _is_id(device_id) and isinstance(content, dict)
        }
        left -= len(found[user_id])
    return found


def _is_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_ID and "\0" not in value


async def _room_of_user(federation: Federation, origin: str, room_id: object, user_id: object) -> Room | None:
    """The room, if the user is one of that server's and joined to it, and the room lets that server take part."""
    if not isinstance(room_id, str) or "\0" in room_id or not is_user_id(user_id) or domain_of(user_id) != origin:
        return None
    names = federation.services.timeline.names
    room = await names.room(room_id)
    if room is None:
        return None
    async with federation.services.pool.acquire() as conn:
        membership = await membership_in(conn, room.nid, await names.user_nid(user_id))
    if membership is None or membership.membership != "join":
        return None
    try:
        await check_acl(federation, room, origin)
    except Forbidden:
        return None
    return room


_HANDLERS: dict[str, Callable[[Federation, str, JsonObject], Awaitable[None]]] = {
    "m.typing": _typing,
    "m.receipt": _receipt,
    "m.presence": _presence,
    to_device.DIRECT_TO_DEVICE: _direct_to_device,
    DEVICE_LIST_UPDATE: _device_list_update,
    SIGNING_KEY_UPDATE: _signing_key_update,
}
