"""How many unread notifications a user has in each room."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from homeserver.protocol.events import JsonObject


@dataclass(frozen=True, slots=True)
class UnreadCounts:
    """# spec: client-server-api/#receiving-notifications"""

    highlight: int = 0
    notification: int = 0

    def json(self) -> JsonObject:
        return {"highlight_count": self.highlight, "notification_count": self.notification}


def unread_counts(room_nids: Collection[int]) -> dict[int, UnreadCounts]:
    """The counts of one user in these rooms: none, as long as no push rules are evaluated."""
    return {room_nid: UnreadCounts() for room_nid in room_nids}
