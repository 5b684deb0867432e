"""matrix-nio as a bot uses it: it syncs for ever, keeps its sync token on disk and fills the gaps it is told of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nio import (
    AsyncClient,
    AsyncClientConfig,
    JoinResponse,
    LoginResponse,
    RoomMessagesResponse,
    SyncError,
    SyncResponse,
)

from tests.support.client import PASSWORD

_POLL_MILLISECONDS = 1_000


@dataclass(frozen=True)
class Login:
    """What a client needs to go on after a restart."""

    user_id: str
    device_id: str
    access_token: str


class NioClient:
    """One client that syncs. `events` is what it has seen of each room, in order, as the server gave it."""

    def __init__(self, client: AsyncClient, events: dict[str, list[dict[str, Any]]] | None = None) -> None:
        self.nio = client
        self.events = events if events is not None else {}
        self._since: str | None = client.loaded_sync_token or None
        self._synced = asyncio.Event()
        client.add_response_callback(self._take)
        # Full state, at first: it keeps its sync token over a restart, but no rooms.
        self.syncing = asyncio.create_task(client.sync_forever(timeout=_POLL_MILLISECONDS, full_state=True))

    def messages(self, room_id: str) -> list[tuple[str, str]]:
        """Sender and text of the messages of a room, in order."""
        events = (event for event in self.events.get(room_id, []) if event["type"] == "m.room.message")
        return [(event["sender"], event["content"]["body"]) for event in events if "body" in event["content"]]

    async def send(self, room_id: str, text: str) -> str:
        """Sends a text and returns the event id."""
        answer = await self.nio.room_send(room_id, "m.room.message", {"msgtype": "m.text", "body": text})
        assert hasattr(answer, "event_id"), answer
        return str(answer.event_id)

    async def accept(self, room_id: str) -> None:
        """Waits to be invited to a room and joins it."""
        await self.until(lambda: room_id in self.nio.invited_rooms, "to be invited")
        answer = await self.nio.join(room_id)
        assert isinstance(answer, JoinResponse), answer
        await self.knows(room_id)

    async def knows(self, room_id: str) -> None:
        """Returns once a sync has brought the room: before that matrix-nio refuses to send to it."""
        await self.until(lambda: room_id in self.nio.rooms, "to know a room of its own")

    async def until(self, condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        """Returns once `condition` holds after some sync. Raises TimeoutError, naming `what`, if it does not.

        Raises whatever has ended the syncing.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while not condition():
            left = deadline - asyncio.get_running_loop().time()
            synced = asyncio.create_task(self._synced.wait())
            await asyncio.wait({synced, self.syncing}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            synced.cancel()
            self._synced.clear()
            if self.syncing.done():
                self.syncing.result()
            if left <= 0:
                raise TimeoutError(f"matrix-nio: {what}: not within {seconds:g} s")

    async def sees(self, room_id: str, *texts: str, seconds: float = 30.0) -> None:
        """Returns once these texts are among the messages of the room."""

        def missing() -> set[str]:
            return set(texts) - {text for _, text in self.messages(room_id)}

        try:
            await self.until(lambda: not missing(), "to see messages", seconds)
        except TimeoutError as error:
            error.add_note(f"Missing: {sorted(missing())}")
            raise

    async def _take(self, response: object) -> None:
        # An answer that does not have the form that the library expects is an error too.
        assert not isinstance(response, SyncError), response
        if not isinstance(response, SyncResponse):
            return
        for room_id, joined in response.rooms.join.items():
            known = self.events.setdefault(room_id, [])
            if joined.timeline.limited and joined.timeline.prev_batch:
                missed = await self._backwards(room_id, joined.timeline.prev_batch)
                seen = {event["event_id"] for event in known}
                known += [event for event in missed if event["event_id"] not in seen]
            known += [event.source for event in joined.timeline.events]
        self._since = response.next_batch
        self._synced.set()

    async def _backwards(self, room_id: str, start: str) -> list[dict[str, Any]]:
        """What lies between the end of the last sync, or the beginning of the room, and `start`, the oldest first."""
        events: list[dict[str, Any]] = []
        while True:
            page = await self.nio.room_messages(room_id, start, end=self._since, limit=100)
            assert isinstance(page, RoomMessagesResponse), page
            events += [event.source for event in page.chunk]
            if page.end is None or page.end in (start, self._since):
                return events[::-1]
            start = page.end


@asynccontextmanager
async def logged_in(url: str, user_id: str, store: Path) -> AsyncIterator[tuple[NioClient, Login]]:
    """A client that has logged in with its password and syncs; it keeps its token in the directory `store`."""
    client = AsyncClient(url, user_id, store_path=str(store), config=AsyncClientConfig(store_sync_tokens=True))
    answer = await client.login(PASSWORD, device_name="matrix-nio")
    assert isinstance(answer, LoginResponse), answer
    async with _syncing(NioClient(client)) as running:
        yield running, Login(answer.user_id, answer.device_id, answer.access_token)


@asynccontextmanager
async def restarted(url: str, login: Login, store: Path, before: NioClient) -> AsyncIterator[NioClient]:
    """The same client after a restart: it syncs from the token in `store`, and remembers what it saw `before`."""
    config = AsyncClientConfig(store_sync_tokens=True)
    client = AsyncClient(url, login.user_id, login.device_id, store_path=str(store), config=config)
    client.restore_login(login.user_id, login.device_id, login.access_token)
    assert client.loaded_sync_token, "has stored none"
    async with _syncing(NioClient(client, before.events)) as running:
        yield running


@asynccontextmanager
async def _syncing(client: NioClient) -> AsyncIterator[NioClient]:
    try:
        yield client
        # Not cancelled: it stores a token before it hands over what came with it.
        client.nio.stop_sync_forever()
        async with asyncio.timeout(30):
            await client.syncing
    finally:
        client.syncing.cancel()
        await asyncio.gather(client.syncing, return_exceptions=True)
        await client.nio.close()
