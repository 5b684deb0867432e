"""What counts as activity in a room: everything, for its place in a list; what people do, for the stamp that clients
may sort by (`bump_stamp` of simplified sliding sync, a proposal, MSC4186).
"""

from __future__ import annotations

from collections.abc import Iterable

from homeserver.storage.events import ORD_SHIFT, NewEventRow
from homeserver.storage.room_state import StateChange

BUMP_TYPES = frozenset(
    (
        "m.room.create",
        "m.room.message",
        "m.room.encrypted",
        "m.sticker",
        "m.call.invite",
        "m.poll.start",
        "org.matrix.msc3381.poll.start",
        "m.beacon_info",
        "org.matrix.msc3672.beacon_info",
    )
)


def activity_of(events: Iterable[NewEventRow], state: Iterable[StateChange]) -> tuple[int, int]:
    """The position of the newest of these events and changes, and that of the newest bumping event; 0 if there is
    none. What is entered as history is no activity.
    """
    active = max((change.pos for change in state), default=0)
    bumped = 0
    for row in events:
        if row.live and row.ord is not None:
            pos = row.ord >> ORD_SHIFT
            active = max(active, pos)
            if row.event.type in BUMP_TYPES:
                bumped = max(bumped, pos)
    return active, bumped
