"""The server and its database die in the middle of writing: nothing that was acknowledged is lost, nothing is skipped.

Writers send one message after the other, readers sync all the time and note every token that they are given. Then
something is killed. What must hold afterwards is the same whatever it was.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tests.support.client import Client, Json, RequestFailed, eventually, registering
from tests.support.processes import Homeserver, talk_pai

pytestmark = [pytest.mark.timeout(180)]

_WRITERS, _READERS, _DEATHS = 8, 3, 3
_BETWEEN_DEATHS = 60  # messages that are acknowledged before the next thing is killed


@dataclass
class Crowd:
    """Who writes and who reads in one room, and what they know."""

    room_id: str
    writers: list[Client]
    readers: list[Client]
    running: bool = True
    # The event id that the server gave for each text whose sending it acknowledged.
    acknowledged: dict[str, str] = field(default_factory=dict)
    # For each reader: every token that it was given, and how many events it had seen by then.
    tokens: list[list[tuple[str, int]]] = field(default_factory=list)

    async def write(self, number: int) -> None:
        """Sends one message after the other; what fails is sent again, in the same transaction, until it is not."""
        for text in (f"{number} writes {message}" for message in itertools.count()):
            transaction_id = text.replace(" ", "-")
            while self.running and text not in self.acknowledged:
                async with _outage():
                    event_id = await self.writers[number].send(self.room_id, text, transaction_id)
                    self.acknowledged[text] = event_id
            if not self.running:
                return

    async def read(self, number: int) -> None:
        """Syncs until told to stop, and notes each token."""
        reader = self.readers[number]
        while self.running:
            async with _outage():
                await reader.sync(timeout=500)
                assert reader.since is not None, "has just synced"
                self.tokens[number].append((reader.since, len(reader.room(self.room_id).timeline)))

    async def more(self, count: int) -> None:
        """Returns once as many more messages have been acknowledged."""
        enough = len(self.acknowledged) + count

        async def acknowledged() -> bool:
            return len(self.acknowledged) >= enough

        await eventually(acknowledged, f"{count} more messages to be acknowledged", 60)


@asynccontextmanager
async def _outage() -> AsyncIterator[None]:
    """Endures that the server is away or says that it can't answer now; whoever tries again does so a little later."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError):
        await asyncio.sleep(0.02)
    except RequestFailed as error:
        if error.status != 503:
            raise
        await asyncio.sleep(0.02)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Homeserver]:
    """A server of ours with its own PostgreSQL, running."""
    server = talk_pai(tmp_path / "server")
    server.process.start()
    try:
        yield server
        server.process.stop()
    finally:
        server.process.kill()


@pytest.fixture
async def crowd(server: Homeserver) -> AsyncIterator[Crowd]:
    """Writers and readers in one room who have not begun."""
    async with registering() as register:
        people = [await register(server, f"user{number}") for number in range(_WRITERS + _READERS)]
        room_id = await people[0].create_room(preset="public_chat")
        for person in people[1:]:
            await person.join(room_id)
        yield Crowd(room_id, people[:_WRITERS], people[_WRITERS:], tokens=[[] for _ in range(_READERS)])


def kill_server(server: Homeserver) -> None:
    """A crash of the server, or of the machine without its disk: PostgreSQL ends with it. It is started again."""
    server.process.kill()
    assert server.process.processes() == {}
    server.process.start()


def kill_postgres(server: Homeserver) -> None:
    """PostgreSQL's first process is killed; the server has to start it again by itself."""
    _kill_one(server, "bin/postgres ")


def kill_connection(server: Homeserver) -> None:
    """One of PostgreSQL's connections is killed, whereupon it ends all of them and recovers."""
    _kill_one(server, "postgres: talkpai ")


def _kill_one(server: Homeserver, command: str) -> None:
    before = server.process.pid
    victims = [pid for pid, line in server.process.processes().items() if command in line]
    os.kill(victims[0], signal.SIGKILL)
    assert server.process.pid == before


@pytest.mark.parametrize("kill", [kill_server, kill_postgres, kill_connection])
async def test_nothing_acknowledged_is_lost(
    kill: Callable[[Homeserver], None], server: Homeserver, crowd: Crowd
) -> None:
    """After kill -9 during writes each acknowledged event is there once, and no token handed out before skips one."""
    async with asyncio.TaskGroup() as group:
        for number in range(_WRITERS):
            group.create_task(crowd.write(number))
        for number in range(_READERS):
            group.create_task(crowd.read(number))
        for _ in range(_DEATHS):
            await crowd.more(_BETWEEN_DEATHS)
            await asyncio.to_thread(kill, server)
        await crowd.more(_BETWEEN_DEATHS)
        crowd.running = False
    history = await crowd.writers[0].history(crowd.room_id)
    _check_history(crowd, history)
    for reader in crowd.readers:
        last = history[-1]["event_id"]
        await reader.sees_event(crowd.room_id, last)
        assert [event["event_id"] for event in reader.room(crowd.room_id).timeline] == [
            event["event_id"] for event in history
        ]
    await _check_tokens(crowd, [event["event_id"] for event in history])


def _check_history(crowd: Crowd, history: list[Json]) -> None:
    """Every acknowledged message is in the history under its id; none twice; each writer's are in order."""
    sent = {event["content"]["body"]: event["event_id"] for event in history if event["type"] == "m.room.message"}
    texts = [event["content"]["body"] for event in history if event["type"] == "m.room.message"]
    assert len(texts) == len(set(texts)), "something was sent twice"
    assert {text: sent.get(text) for text in crowd.acknowledged} == crowd.acknowledged
    for number in range(_WRITERS):
        own = [text for text in texts if text.startswith(f"{number} ")]
        assert own == [f"{number} writes {message}" for message in range(len(own))]


async def _check_tokens(crowd: Crowd, history: list[str]) -> None:
    """A client that goes on from any token that was handed out sees exactly what comes after it."""
    for reader, tokens in zip(crowd.readers, crowd.tokens, strict=True):
        for token, seen in tokens[:: max(1, len(tokens) // 10)]:
            resumed = reader.resumed(token)
            if seen < len(history):
                await resumed.sees_event(crowd.room_id, history[-1])
            else:
                await resumed.sync()
            assert [event["event_id"] for event in resumed.room(crowd.room_id).timeline] == history[seen:]
