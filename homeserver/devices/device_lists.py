"""Whose devices and keys changed: told to the clients and servers that share a room with the user.

# spec: client-server-api/#tracking-the-device-list-for-a-user  server-server-api/#device-management
"""

from __future__ import annotations

from collections.abc import Collection

from homeserver.storage import device_lists
from homeserver.storage.device_updates import SIGNING_KEY_UPDATE, queue_updates
from homeserver.storage.outgoing_edus import queue_edu
from homeserver.storage.presence import rooms_of_users, shared_servers
from homeserver.storage.stream import Write


async def mark_changed(
    write: Write, user_nid: int, device_ids: Collection[str] | None = None, *, signing_keys: bool = False
) -> None:
    """Takes note that a user's devices or cross-signing keys changed, in the transaction that changes them.

    Everyone who shares a room with the user is told after the commit: clients of this server by their syncs and, if
    the user is one of ours, other servers by EDUs that outlive a restart.

    :param device_ids: the devices that changed or are gone; None: any may have, and the cross-signing keys too
    :param signing_keys: whether the cross-signing keys changed
    """
    last = await device_lists.lock_list(write.conn, user_nid)
    user_id, is_own = last.user_id, last.is_own
    if is_own:
        servers = set(await shared_servers(write.conn, user_nid)) - {last.server}
        if device_ids is None:
            device_ids, signing_keys = await device_lists.own_device_ids(write.conn, user_nid), True
        stream_id = await queue_updates(write, servers, user_id, device_ids, last.stream_id)
        if signing_keys and servers:
            await queue_edu(write.conn, servers, await write.next_position(), SIGNING_KEY_UPDATE, {"user_id": user_id})
    else:
        stream_id = None
    await device_lists.note_change(write.conn, user_nid, await write.next_position(), stream_id)
    write.changed(rooms=await rooms_of_users(write.conn, [user_nid]), users=[user_nid])
