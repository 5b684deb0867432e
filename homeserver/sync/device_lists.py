"""Whose devices a client has to look at again, and whose it need not follow any more.

# spec: client-server-api/#tracking-the-device-list-for-a-user
"""

from __future__ import annotations

from dataclasses import dataclass, field

from homeserver.protocol.events import JsonObject
from homeserver.storage.device_lists import changed_among, shared_rooms_changed
from homeserver.storage.stream import Connection
from homeserver.sync.tokens import SyncToken
from homeserver.sync.view import View


@dataclass(frozen=True, slots=True)
class DeviceLists:
    """User ids: `changed` have other devices or keys, or have come to share a room; `left` share none any more."""

    changed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.changed or self.left)

    def json(self) -> JsonObject:
        return {"changed": self.changed, "left": self.left}


async def complete(view: View) -> DeviceLists:
    """Nothing: a client that starts anew follows nobody yet."""
    return DeviceLists()


async def incremental(view: View, since: SyncToken) -> DeviceLists:
    """What changed since."""
    standing = view.standing
    if standing is not None and not standing.restated:
        # Nobody has come or gone anywhere: there are only those who were there to look at, if anyone has new devices.
        if standing.account.device_lists_pos <= since.position:
            return DeviceLists()
        rooms = [each.room_nid for each in standing.memberships if each.membership == "join"]
        return DeviceLists(
            sorted(await changed_among(view.conn, view.reader.user_nid, rooms, since.position, view.until))
        )
    return await changes(view.conn, view.reader.user_nid, since.position, view.until)


async def changes(conn: Connection, user_nid: int, since: int, until: int) -> DeviceLists:
    """What changed for this user after position `since`, up to `until`."""
    if since >= until:
        return DeviceLists()
    shared = await shared_rooms_changed(conn, user_nid, since, until)
    changed = await changed_among(conn, user_nid, shared.rooms, since, until)
    return DeviceLists(sorted({*changed, *shared.came}), sorted(shared.went))
