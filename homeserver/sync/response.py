"""The sections put together.

# spec: client-server-api/#get_matrixclientv3sync
"""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.protocol.events import JsonObject
from homeserver.sync import (
    account_data,
    device_lists,
    invited_rooms,
    joined_rooms,
    knocked_rooms,
    left_rooms,
    presence,
    to_device,
)
from homeserver.sync.device_keys import key_counts
from homeserver.sync.tokens import SyncToken
from homeserver.sync.view import View


async def complete(view: View) -> JsonObject:
    """Everything, for a client that knows nothing."""
    data = await account_data.complete(view)
    rooms = {
        "join": await joined_rooms.complete(view, data),
        "invite": await invited_rooms.complete(view),
        "knock": await knocked_rooms.complete(view),
        "leave": await left_rooms.complete(view, data),
    }
    devices = _Devices(await device_lists.complete(view), await to_device.complete(view), await key_counts(view))
    return _response(view, rooms, data, await presence.complete(view), devices)


async def incremental(view: View, since: SyncToken) -> JsonObject:
    """What happened since."""
    new = joined_rooms.new_rooms(view, since.position)
    new_left = left_rooms.new_rooms(view, since.position)
    data = await account_data.incremental(view, new | new_left, since.position)
    rooms = {
        "join": await joined_rooms.incremental(view, data, new, since.position, since.typing),
        "invite": await invited_rooms.incremental(view, since.position),
        "knock": await knocked_rooms.incremental(view, since.position),
        "leave": await left_rooms.incremental(view, data, new_left, since.position),
    }
    devices = _Devices(
        await device_lists.incremental(view, since),
        await to_device.incremental(view, since),
        await key_counts(view),
    )
    return _response(view, rooms, data, await presence.incremental(view, rooms["join"], new, since.typing), devices)


def says_something(response: JsonObject) -> bool:
    """Whether a response is worth ending a long poll for."""
    return bool(
        any(response["rooms"].values())
        or response["account_data"]["events"]
        or response["presence"]["events"]
        or response["to_device"]["events"]
        or any(response["device_lists"].values())
    )


@dataclass(frozen=True, slots=True)
class _Devices:
    """The sections about devices."""

    lists: device_lists.DeviceLists
    messages: to_device.ToDevice
    keys: JsonObject


def _response(
    view: View, rooms: JsonObject, data: account_data.AccountData, presences: list[JsonObject], devices: _Devices
) -> JsonObject:
    return {
        "next_batch": str(SyncToken(view.until, view.typing_until, devices.messages.until)),
        "rooms": rooms,
        "account_data": {"events": data.everywhere},
        "presence": {"events": presences},
        "to_device": {"events": devices.messages.events},
        "device_lists": devices.lists.json(),
        **devices.keys,
    }
