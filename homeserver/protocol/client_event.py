"""How a stored event is shown to a client: the PDU without what concerns servers alone, plus what this server adds.

# spec: client-server-api/#room-event-format
"""

from __future__ import annotations

from homeserver.protocol.events import Event, JsonObject


def client_event(event: Event, *, unsigned: JsonObject | None = None, include_room_id: bool = True) -> JsonObject:
    """The event in the client format. The object is new; `content` is shared with the event unless it must differ.

    `unsigned` is what this server says of the event to this reader (age, transaction_id, membership, …); what a
    sender put there never gets here. `include_room_id` is off where the response names the room elsewhere, as in /sync.
    # spec: client-server-api/#room-event-format
    # spec: rooms/v11#moving-the-redacts-property-of-mroomredaction-events-to-a-content-property
    """
    json: JsonObject = {
        "content": event.content,
        "event_id": event.event_id,
        "origin_server_ts": event.origin_server_ts,
        "sender": event.sender,
        "type": event.type,
    }
    if include_room_id:
        json["room_id"] = event.room_id
    if event.state_key is not None:
        json["state_key"] = event.state_key
    if unsigned is not None:
        json["unsigned"] = unsigned
    redacts = event.redacts
    if redacts is not None:
        # Clients find it in either place, whichever the room version signs; the other is a copy, never the sender's.
        json["redacts"] = redacts
        json["content"] = {**event.content, "redacts": redacts}
    return json


def stripped_state_event(event: Event) -> JsonObject:
    """A state event reduced to what invites and knocks show of a room: content, sender, state_key, type.

    # spec: client-server-api/#stripped-state
    """
    assert event.state_key is not None, "only state events are shown stripped"
    return {"content": event.content, "sender": event.sender, "state_key": event.state_key, "type": event.type}
