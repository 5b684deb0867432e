"""A server that signs whatever a test wants: events and requests in the name of one of our servers, made by hand."""

from __future__ import annotations

from typing import Any

from homeserver.protocol.event_builder import build_event
from homeserver.protocol.events import Event, JsonObject
from homeserver.storage.events import events_by_nid
from tests.support.federating import Node


async def forge(node: Node, room_id: str, **fields: Any) -> Event:
    """An event that follows the room's head as `node` has it, signed by `node`, with these fields as the test wants.

    Fields are those of `build_event`; without them it is a text message of nobody.
    """
    services = node.services
    timeline = services.timeline
    room = await timeline.room(room_id)
    async with services.pool.acquire() as conn:
        head = await timeline.head(conn, room)
        keys = [("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.join_rules", "")]
        sender = fields.get("sender", f"@nobody:{node.name}")
        state = await head.state(conn, timeline.names, [*keys, ("m.room.member", sender)])
        newest = await events_by_nid(conn, list(head.extremities))
    if fields.get("type") != "m.room.member":
        state.pop(("m.room.join_rules", ""), None)
    auth = [
        entry.event.event_id
        for key, entry in state.items()
        if key[0] != "m.room.create" or not room.version.room_id_is_create_hash
    ]
    values: dict[str, Any] = {
        "room_version": room.version,
        "room_id": room_id,
        "type": "m.room.message",
        "sender": sender,
        "content": {"msgtype": "m.text", "body": "forged"},
        "prev_events": [stored.event.event_id for stored in newest.values()],
        "auth_events": auth,
        "depth": head.depth + 1,
        "origin_server_ts": timeline.clock(),
        "server_name": node.name,
        "signing_key": services.signing_key,
    }
    return build_event(**(values | fields))


async def send_pdus(node: Node, to: Node, *pdus: JsonObject, txn_id: str | None = None) -> JsonObject:
    """Sends events in a transaction; the results by event id."""
    transaction = {"origin": node.name, "origin_server_ts": 1, "pdus": list(pdus)}
    answer = await node.remote.send_transaction(to.name, txn_id or f"forged-{id(transaction)}", transaction)
    results: JsonObject = answer["pdus"]
    return results
