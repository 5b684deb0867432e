"""A client that speaks sliding sync, as simple as can be: it believes what it is told, and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson

from homeserver.client_api.sliding_sync_request import parse_sliding_request
from homeserver.protocol.canonical_json import encode_json
from homeserver.sync.sliding.connections import Connections
from homeserver.sync.sliding.service import sliding_sync
from tests.sync.world import World

Json = dict[str, Any]


@dataclass
class PhoneRoom:
    """What the client holds of one room. Events are known by their ids."""

    membership: str = ""
    stripped: list[Json] | None = None
    name: str | None = None
    avatar: str | None = None
    heroes: list[Json] = field(default_factory=list)
    is_dm: bool = False
    state: dict[tuple[str, str], str] = field(default_factory=dict)
    timeline: list[str] = field(default_factory=list)
    senders: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    bump_stamp: int = 0
    account_data: dict[str, Json] = field(default_factory=dict)
    receipts: dict[tuple[str, str, str], str] = field(default_factory=dict)
    typing: list[str] = field(default_factory=list)


class Phone:
    """One connection of a device."""

    def __init__(
        self, world: World, connections: Connections, name: str, device: str = "DEVICE", conn: str = ""
    ) -> None:
        self.world = world
        self.connections = connections
        self.name = name
        self.device = device
        self.conn_id = conn
        self.pos: str | None = None
        self.rooms: dict[str, PhoneRoom] = {}
        self.account_data: dict[str, Json] = {}
        self.lists: dict[str, int] = {}

    async def ask(self, body: Json, *, timeout: float = 0.0, pos: str | None = None) -> Any:
        """The response to one request, which the client may yet lose."""
        await self.world.settle()
        request = parse_sliding_request(
            await self.world.reader(self.name, self.device),
            {**body, "conn_id": self.conn_id},
            pos=pos if pos is not None else self.pos,
            timeout_ms=int(timeout * 1000),
        )
        async with asyncio.timeout(20):
            return orjson.loads(encode_json(await sliding_sync(self.world.sources, self.connections, request)))

    async def sync(self, body: Json, *, timeout: float = 0.0) -> Any:
        """The same, and takes it in."""
        response = await self.ask(body, timeout=timeout)
        self.apply(response)
        return response

    def apply(self, response: Json) -> None:
        """Takes in a response."""
        self.pos = response["pos"]
        self.lists |= {name: each["count"] for name, each in response["lists"].items()}
        for room_id, room in response["rooms"].items():
            self._apply_room(room_id, room)
        extensions = response["extensions"]
        data = extensions.get("account_data", {})
        for event in data.get("global", []):
            self.account_data[event["type"]] = event["content"]
        for room_id, events in data.get("rooms", {}).items():
            for event in events:
                self.rooms[room_id].account_data[event["type"]] = event["content"]
        for room_id, event in extensions.get("typing", {}).get("rooms", {}).items():
            self.rooms[room_id].typing = event["content"]["user_ids"]
        for room_id, event in extensions.get("receipts", {}).get("rooms", {}).items():
            for event_id, kinds in event["content"].items():
                for kind, users in kinds.items():
                    for user_id, data in users.items():
                        self.rooms[room_id].receipts[kind, user_id, data.get("thread_id", "")] = event_id

    def _apply_room(self, room_id: str, json: Json) -> None:
        if json.get("initial"):
            self.rooms[room_id] = PhoneRoom()
        room = self.rooms[room_id]
        room.membership = json["membership"]
        room.stripped = json.get("stripped_state")
        for name in ("name", "avatar", "heroes", "is_dm", "bump_stamp"):
            if name in json:
                setattr(room, name, json[name])
        if "name" in json and json["name"] is not None:
            room.heroes = []
        counts = ("joined_count", "invited_count", "notification_count", "highlight_count")
        room.counts |= {name: json[name] for name in counts if name in json}
        for event in json.get("required_state", []):
            key = (event["type"], event["state_key"])
            if "content" in event:
                room.state[key] = event["event_id"]
            else:
                room.state.pop(key, None)
        events = json.get("timeline", [])
        if json.get("expanded_timeline") or json.get("limited"):
            room.timeline = []
        for event in events:
            assert event["event_id"] not in room.timeline
            room.timeline.append(event["event_id"])
            room.senders[event["event_id"]] = event["sender"]


def listing(limit: int = 10, required: list[list[str]] | Json | None = None, **more: Any) -> Json:
    """A list's configuration."""
    return {"timeline_limit": limit, "required_state": required or [], "ranges": [[0, 19]], **more}


def everything(limit: int = 10, required: list[list[str]] | Json | None = None, **more: Any) -> Json:
    """A request with one list of everything."""
    return {"lists": {"all": listing(limit, required)}, **more}
