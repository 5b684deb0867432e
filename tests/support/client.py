"""A small Matrix client for tests, the same for every homeserver: it keeps what it has seen, whole and in order.

What a server leaves out of a limited timeline is fetched at once through /messages, so that `Room.timeline` is what a
person would have read after scrolling up. Every answer of our own server is held against the specification's schema.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias
from urllib.parse import quote

import aiohttp

from tests.contract.answers import check_answer

Json: TypeAlias = dict[str, Any]
PASSWORD = "correct horse battery staple"
_PREFIX = "/_matrix/client/v3"


class RequestFailed(Exception):
    """The server answered with something else than 200. `errcode` is empty where the body has none."""

    def __init__(self, method: str, path: str, status: int, body: Any) -> None:
        super().__init__(f"{method} {path}: {status} {body}")
        self.status = status
        self.errcode: str = body.get("errcode", "") if isinstance(body, dict) else ""


class Reachable(Protocol):
    """A homeserver, as far as its clients are concerned."""

    @property
    def url(self) -> str: ...


@dataclass
class Room:
    """What a client knows of a room. `timeline` is the oldest first; `state` is by type and state key."""

    membership: str = "leave"
    timeline: list[Json] = field(default_factory=list)
    state: dict[tuple[str, str], Json] = field(default_factory=dict)

    def bodies(self) -> list[str]:
        """The texts of all messages, in order; edits are messages of their own, redacted ones have none."""
        return [event["content"]["body"] for event in self.timeline if "body" in event["content"]]

    def event(self, event_id: str) -> Json | None:
        """The event with this id, if it has been seen."""
        return next((event for event in self.timeline if event["event_id"] == event_id), None)


class Client:
    """One account that is logged in. `rooms` is what its syncs have brought so far."""

    def __init__(self, session: aiohttp.ClientSession, server: Reachable, user_id: str, access_token: str) -> None:
        self._session = session
        self._server = server
        self._headers = {"Authorization": f"Bearer {access_token}"}
        self._transaction_ids = itertools.count()
        self.user_id = user_id
        self.access_token = access_token
        self.since: str | None = None
        self.rooms: dict[str, Room] = {}

    def resumed(self, since: str | None) -> Client:
        """The same account and device, which remembers nothing but a sync token."""
        client = copy.copy(self)
        client.since, client.rooms = since, {}
        return client

    async def other_device(self) -> Client:
        """A further device of the same account."""
        who = {"type": "m.id.user", "user": self.user_id}
        answer = await self.request(
            "POST", "/login", {"type": "m.login.password", "identifier": who, "password": PASSWORD}
        )
        return Client(self._session, self._server, self.user_id, answer["access_token"])

    async def device_id(self) -> str:
        """The id of this device."""
        return str((await self.request("GET", "/account/whoami"))["device_id"])

    async def request(
        self, method: str, path: str, body: Json | None = None, query: Mapping[str, str | int] | None = None
    ) -> Any:
        """Calls `/_matrix/client/v3` + `path`. Raises RequestFailed, or aiohttp.ClientError if the server is gone."""
        url = f"{self._server.url}{_PREFIX}{path}"
        async with self._session.request(method, url, json=body, params=query, headers=self._headers) as response:
            answer = await response.json(content_type=None)
            if not response.headers.get("Server", "").startswith("Synapse"):  # another's mistakes are not ours
                check_answer(method, response.url.raw_path, response.status, response.content_type, answer)
            if response.status != 200:
                raise RequestFailed(method, path, response.status, answer)
            return answer

    async def create_room(self, **settings: Any) -> str:
        """Creates a room and returns its id."""
        return str((await self.request("POST", "/createRoom", settings))["room_id"])

    async def join(self, room: str, via: str | None = None) -> str:
        """Joins a room by id or alias and returns its id."""
        query = {"server_name": via, "via": via} if via else {}
        return str((await self.request("POST", f"/join/{quote(room)}", {}, query))["room_id"])

    async def send(self, room_id: str, content: str | Json, transaction_id: str | None = None) -> str:
        """Sends a message, given its text or its content, and returns the event id.

        With the `transaction_id` of an earlier attempt nothing is sent twice.
        """
        body = {"msgtype": "m.text", "body": content} if isinstance(content, str) else content
        path = f"/rooms/{quote(room_id)}/send/m.room.message/{transaction_id or next(self._transaction_ids)}"
        return str((await self.request("PUT", path, body))["event_id"])

    async def edit(self, room_id: str, event_id: str, text: str) -> str:
        """Replaces the text of a message and returns the id of the edit."""
        new = {"msgtype": "m.text", "body": text}
        relation = {"rel_type": "m.replace", "event_id": event_id}
        return await self.send(room_id, {**new, "body": f"* {text}", "m.new_content": new, "m.relates_to": relation})

    async def redact(self, room_id: str, event_id: str) -> str:
        """Redacts an event and returns the id of the redaction."""
        path = f"/rooms/{quote(room_id)}/redact/{quote(event_id)}/{next(self._transaction_ids)}"
        return str((await self.request("PUT", path, {}))["event_id"])

    async def set_state(self, room_id: str, event_type: str, content: Json, state_key: str = "") -> str:
        """Sets a piece of state and returns the event id."""
        path = f"/rooms/{quote(room_id)}/state/{event_type}/{quote(state_key)}"
        return str((await self.request("PUT", path, content))["event_id"])

    async def membership(self, room_id: str, action: str, user_id: str | None = None) -> None:
        """Does one of join, leave, invite, kick, ban, unban in a room, the last four to somebody."""
        body = {"user_id": user_id} if user_id else {}
        await self.request("POST", f"/rooms/{quote(room_id)}/{action}", body)

    async def state_ids(self, room_id: str) -> dict[tuple[str, str], str]:
        """Which event each piece of the room's current state is."""
        state = await self.request("GET", f"/rooms/{quote(room_id)}/state")
        return {(event["type"], event["state_key"]): event["event_id"] for event in state}

    async def history(self, room_id: str) -> list[Json]:
        """Everything that /messages gives of a room, the oldest first."""
        return await self._backwards(room_id, None, None)

    def room(self, room_id: str) -> Room:
        """What is known of a room; nothing, if no sync has brought it."""
        return self.rooms.setdefault(room_id, Room())

    async def sync(self, timeout: int = 0) -> Json:
        """One /sync from where the last one ended; `timeout` in milliseconds. Returns the response."""
        query: dict[str, str | int] = {"timeout": timeout}
        since = self.since
        if since is not None:
            query["since"] = since
        response: Json = await self.request("GET", "/sync", query=query)
        sections = [
            (room_id, membership, section)
            for membership, rooms in response.get("rooms", {}).items()
            for room_id, section in rooms.items()
        ]
        # All that may fail comes first, so that a sync that did can be made again.
        missed = [await self._missed(*section, since) for section in sections]
        for (room_id, membership, section), events in zip(sections, missed, strict=True):
            self._take(room_id, membership, section, events)
        self.since = response["next_batch"]
        return response

    async def sync_until(self, condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        """Syncs until `condition` holds. Raises TimeoutError, naming `what`, if it does not within `seconds`."""
        deadline = time.monotonic() + seconds
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{self.user_id}: {what}: not within {seconds:g} s")
            await self.sync(timeout=int(min(left, 10) * 1000))

    async def sees(self, room_id: str, *texts: str, seconds: float = 30.0) -> None:
        """Syncs until these texts are among the messages of the room."""
        room = self.room(room_id)
        await self.sync_until(lambda: set(texts) <= set(room.bodies()), f"to see {texts[-1]!r}", seconds)

    async def sees_event(self, room_id: str, event_id: str, seconds: float = 30.0) -> Json:
        """Syncs until this event is in the timeline of the room, and returns it."""
        room = self.room(room_id)
        await self.sync_until(lambda: room.event(event_id) is not None, f"to see {event_id}", seconds)
        event = room.event(event_id)
        assert event is not None, "has just been seen"
        return event

    async def sees_member(self, room_id: str, user_id: str, membership: str, seconds: float = 30.0) -> None:
        """Syncs until somebody has this membership in the room."""

        def holds() -> bool:
            member = self.room(room_id).state.get(("m.room.member", user_id))
            return member is not None and member["content"]["membership"] == membership

        await self.sync_until(holds, f"to see {user_id} {membership}", seconds)

    async def _missed(self, room_id: str, membership: str, section: Json, since: str | None) -> list[Json]:
        """What a limited timeline has left out."""
        timeline = section.get("timeline", {})
        if membership != "join" or not timeline.get("limited") or "prev_batch" not in timeline:
            return []
        return await self._backwards(room_id, timeline["prev_batch"], since)

    def _take(self, room_id: str, membership: str, section: Json, missed: list[Json]) -> None:
        room = self.room(room_id)
        room.membership = membership
        known = {event["event_id"] for event in room.timeline}
        room.timeline += [event for event in missed if event["event_id"] not in known]
        events = section.get("timeline", {}).get("events", [])
        room.timeline += events
        stripped = section.get(f"{membership}_state", {}).get("events", [])
        for event in [*stripped, *section.get("state", {}).get("events", []), *events]:
            if "state_key" in event:
                room.state[event["type"], event["state_key"]] = event

    async def _backwards(self, room_id: str, start: str | None, end: str | None) -> list[Json]:
        """What lies before `start`, back to `end` where that is given, the oldest first."""
        events: list[Json] = []
        query: dict[str, str | int] = {"dir": "b", "limit": 100}
        if end is not None:
            query["to"] = end
        while True:
            if start is not None:
                query["from"] = start
            page = await self.request("GET", f"/rooms/{quote(room_id)}/messages", query=query)
            events += page["chunk"]
            if "end" not in page or page["end"] in (start, end):
                return events[::-1]
            start = page["end"]


@asynccontextmanager
async def registering() -> AsyncIterator[Callable[[Reachable, str], Awaitable[Client]]]:
    """Gives a function that registers a new account on a homeserver; its clients end with the block."""
    timeout = aiohttp.ClientTimeout(total=90)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def register(server: Reachable, name: str) -> Client:
            url = f"{server.url}{_PREFIX}/register"
            body = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
            async with session.post(url, json=body) as response:
                account = await response.json()
                if response.status != 200:
                    raise RequestFailed("POST", "/register", response.status, account)
            return Client(session, server, account["user_id"], account["access_token"])

        yield register


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 30.0) -> None:
    """Returns once `condition` holds. Raises TimeoutError, naming `what`, if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        await asyncio.sleep(0.05)
