"""Extensions: what a sliding sync response says besides rooms' events, each in a file of its own.

Each has the same two functions, `complete` for a connection on which it was off until now, and `incremental` for one
that has all up to a position. Both return what goes into the response, or None if there is nothing to say.
"""

from __future__ import annotations

from types import ModuleType

from homeserver.protocol.events import JsonObject
from homeserver.sync.sliding.connections import Position, Told
from homeserver.sync.sliding.extensions import account_data, e2ee, receipts, thread_subscriptions, to_device, typing
from homeserver.sync.sliding.extensions.context import Context
from homeserver.sync.sliding.request import SlidingRequest
from homeserver.sync.sliding.room_list import RoomList
from homeserver.sync.sliding.room_response import ToldRoom
from homeserver.sync.view import View

_EXTENSIONS: dict[str, ModuleType] = {
    "to_device": to_device,
    "e2ee": e2ee,
    "account_data": account_data,
    "receipts": receipts,
    "typing": typing,
    "thread_subscriptions": thread_subscriptions,
}


async def tell_extensions(
    view: View,
    request: SlidingRequest,
    base: Position | None,
    found: RoomList,
    rooms: dict[int, ToldRoom],
    changes: dict[int, Told],
) -> JsonObject:
    """What the enabled extensions say, by the names that the client has for them; `changes` gets what they told."""
    context = Context(view, base, found, rooms, changes)
    json: JsonObject = {}
    for name, config in request.extensions.items():
        extension = _EXTENSIONS[name]
        if base is None or name not in base.extensions:
            told = await extension.complete(context, config)
        else:
            told = await extension.incremental(context, config, base)
        if told is not None:
            json[config.name] = told
    return json
