"""Messages from device to device: written down for devices of this server, queued for those of others.

Both happen in one transaction with the transaction id of the request (or the message id of another server), so that
what is repeated does nothing, and what was accepted outlives a restart.

# spec: client-server-api/#send-to-device-messaging
"""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from homeserver.protocol.canonical_json import encode_json
from homeserver.protocol.events import JsonObject
from homeserver.protocol.identifiers import domain_of
from homeserver.storage import to_device
from homeserver.storage.outgoing_edus import queue_edu
from homeserver.storage.stream import Stream, Write
from homeserver.storage.to_device import Addressed

DIRECT_TO_DEVICE = "m.direct_to_device"

Messages: TypeAlias = Mapping[str, Mapping[str, JsonObject]]
"""user id -> device id, or `*` for all of the user's devices -> content."""

_REQUESTS_KEPT_MS = 24 * 3600 * 1000
_EDUS_KEPT_MS = 30 * 24 * 3600 * 1000  # a server that was away may repeat itself weeks later


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends from where. `device_id` is empty for an application service that names none."""

    user_id: str
    user_nid: int
    device_id: str


async def send(
    stream: Stream,
    sender: Sender,
    type: str,
    txn_id: str,
    messages: Messages,
    *,
    server_name: str,
    may_talk_with: Callable[[str], bool],
) -> None:
    """Sends what a client of ours asks for, unless this request was carried out before.

    :param may_talk_with: whether anything may be sent to that server; users of others get nothing
    """
    own: dict[str, Mapping[str, JsonObject]] = {}
    by_server: defaultdict[str, dict[str, Mapping[str, JsonObject]]] = defaultdict(dict)
    for user_id, by_device in messages.items():
        server = domain_of(user_id)
        if server == server_name:
            own[user_id] = by_device
        elif by_device and may_talk_with(server):
            by_server[server][user_id] = by_device
    now_ms = int(time.time() * 1000)
    async with stream.write() as write:
        if not await to_device.is_new_request(
            write.conn, sender.user_nid, sender.device_id, type, txn_id, now_ms=now_ms, kept_ms=_REQUESTS_KEPT_MS
        ):
            return
        await _put(write, sender.user_id, type, own)
        for server, theirs in sorted(by_server.items()):
            # spec: server-server-api/#send-to-device-messaging
            content = {
                "sender": sender.user_id,
                "type": type,
                "message_id": secrets.token_urlsafe(16),
                "messages": theirs,
            }
            await queue_edu(write.conn, [server], await write.next_position(), DIRECT_TO_DEVICE, content)


async def receive(
    stream: Stream, origin: str, sender: str, type: str, message_id: str, messages: Messages, *, server_name: str
) -> None:
    """Takes in an m.direct_to_device of another server, unless it did before. Users who are not ours get nothing."""
    own = {user_id: by_device for user_id, by_device in messages.items() if domain_of(user_id) == server_name}
    now_ms = int(time.time() * 1000)
    async with stream.write() as write:
        if await to_device.is_new_edu(write.conn, origin, message_id, now_ms=now_ms, kept_ms=_EDUS_KEPT_MS):
            await _put(write, sender, type, own)


async def _put(write: Write, sender: str, type: str, messages: Messages) -> None:
    addressed = [
        Addressed(user_id, device_id, encode_json({"sender": sender, "type": type, "content": content}))
        for user_id, by_device in messages.items()
        for device_id, content in by_device.items()
    ]
    if addressed:
        write.changed(users=await to_device.put_messages(write.conn, await write.next_position(), addressed))
