"""A client as simple as can be: it believes what syncs tell it, and nothing else.

# spec: client-server-api/#syncing
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass
class RoomModel:
    """What the client holds of one room. Events are known by their ids.

    `archived`: what it knows of the room's state may be from an earlier stay than the last one.
    """

    membership: str
    archived: bool = False
    state: dict[tuple[str, str], str] = field(default_factory=dict)
    timeline: list[str] = field(default_factory=list)
    senders: list[str] = field(default_factory=list)
    receipts: dict[tuple[str, str, str], str] = field(default_factory=dict)
    typing: list[str] = field(default_factory=list)
    account_data: dict[str, Json] = field(default_factory=dict)
    summary: Json = field(default_factory=dict)


@dataclass
class ClientModel:
    """Everything that the client holds."""

    since: str | None = None
    rooms: dict[str, RoomModel] = field(default_factory=dict)
    account_data: dict[str, Json] = field(default_factory=dict)

    def apply(self, response: Json) -> None:
        """Takes in a response to /sync."""
        rooms = response["rooms"]
        for room_id, section in rooms["join"].items():
            self._apply_room(room_id, section, "join")
        for room_id, section in rooms["leave"].items():
            self._apply_room(room_id, section, "leave")
        for membership in ("invite", "knock"):
            for room_id, section in rooms[membership].items():
                [own] = [
                    event
                    for event in section[f"{membership}_state"]["events"]
                    if event["type"] == "m.room.member" and event["content"].get("membership") == membership
                ]
                assert own["state_key"]
                self.rooms[room_id] = RoomModel(membership, archived=True)
        for event in response["account_data"]["events"]:
            self.account_data[event["type"]] = event["content"]
        self.since = response["next_batch"]

    def _apply_room(self, room_id: str, section: Json, membership: str) -> None:
        room = self.rooms.get(room_id)
        if room is None or (membership == "join" and room.membership != "join"):
            room = self.rooms[room_id] = RoomModel(membership)
        room.membership = membership
        timeline = section["timeline"]
        if timeline["limited"]:
            room.timeline, room.senders = [], []
        after = "state_after" in section
        assert after != ("state" in section)
        for event in section["state_after" if after else "state"]["events"]:
            room.state[event["type"], event["state_key"]] = event["event_id"]
        for event in timeline["events"]:
            assert event["event_id"] not in room.timeline
            room.timeline.append(event["event_id"])
            room.senders.append(event["sender"])
            if "state_key" in event and not after:
                room.state[event["type"], event["state_key"]] = event["event_id"]
        for event in section["account_data"]["events"]:
            room.account_data[event["type"]] = event["content"]
        room.summary.update(section.get("summary", {}))
        for event in section.get("ephemeral", {"events": []})["events"]:
            self._apply_ephemeral(room, event)

    def _apply_ephemeral(self, room: RoomModel, event: Json) -> None:
        if event["type"] == "m.typing":
            room.typing = event["content"]["user_ids"]
            return
        for event_id, kinds in event["content"].items():
            for kind, users in kinds.items():
                for user_id, data in users.items():
                    room.receipts[kind, user_id, data.get("thread_id", "")] = event_id
