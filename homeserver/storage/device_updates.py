"""What other servers are told of the devices of our users: one EDU for each device, each naming the one before it.

The rows say only which device; the outbox completes them with its keys when they go out.

# spec: server-server-api/#device-management
"""

from __future__ import annotations

from collections.abc import Collection

from homeserver.protocol.events import JsonObject
from homeserver.storage import device_lists
from homeserver.storage.outgoing_edus import queue_edu
from homeserver.storage.stream import Write

DEVICE_LIST_UPDATE = "m.device_list_update"
SIGNING_KEY_UPDATE = "m.signing_key_update"

_MOST_TOLD = 20  # devices in one change; of more, other servers had better ask for the whole list


async def queue_updates(
    write: Write, servers: Collection[str], user_id: str, device_ids: Collection[str], last: int | None
) -> int | None:
    """Queues an update for each of these devices. Must run while the list is locked.

    :param last: the stream id of the update before, if there was one
    :returns: that of the last one now
    """
    told = sorted(device_ids)
    if len(told) > _MOST_TOLD:
        # One update whose predecessor nobody has had: whoever gets it asks for everything.
        last, told = await write.next_position(), told[:1]
    for device_id in told:
        stream_id = await write.next_position()
        content: JsonObject = {
            "user_id": user_id,
            "device_id": device_id,
            "stream_id": stream_id,
            "prev_id": [] if last is None else [last],
        }
        if servers:
            await queue_edu(write.conn, servers, stream_id, DEVICE_LIST_UPDATE, content)
        last = stream_id
    return last


async def introduce_devices(write: Write, user_nid: int, room_nid: int) -> None:
    """Tells the servers in a room of the devices of one of our users who has just joined it: those servers that have
    not been told of them all along, because they are in no other room with the user.
    """
    rows = await write.conn.fetch(
        """
        SELECT DISTINCT u.server FROM room_members m JOIN users u USING (user_nid)
         WHERE m.room_nid = $2 AND m.membership = 'join'
           AND u.server <> (SELECT server FROM users WHERE user_nid = $1)
           AND NOT EXISTS (SELECT FROM room_members mine
                             JOIN room_members theirs ON theirs.room_nid = mine.room_nid AND theirs.membership = 'join'
                             JOIN users t ON t.user_nid = theirs.user_nid
                            WHERE mine.user_nid = $1 AND mine.membership = 'join' AND mine.room_nid <> $2
                              AND t.server = u.server)
        """,
        user_nid,
        room_nid,
    )
    if not rows:
        return
    # Locked before the devices are read: what changes them meanwhile either is seen here or sees that the user joined.
    head = await device_lists.lock_list(write.conn, user_nid)
    servers = [row["server"] for row in rows]
    device_ids = await device_lists.own_device_ids(write.conn, user_nid)
    # Their stream ids are not remembered: the servers told before have not had these updates and must not miss them.
    await queue_updates(write, servers, head.user_id, device_ids, head.stream_id)
    if device_ids:
        position = await write.next_position()
        await queue_edu(write.conn, servers, position, SIGNING_KEY_UPDATE, {"user_id": head.user_id})
