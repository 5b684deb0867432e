"""What the benchmarks of whole servers share: servers, their CPU time, accounts, rooms that are large at once.

Where it can, a benchmark compares CPU time, of the server's process and of its PostgreSQL's together: other work on
the machine disturbs that little. A server is measured as a process of its own; large rooms are made before by a server
inside this process, through the way that every event takes, many events a transaction.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import orjson

from homeserver.config.load import load_config
from homeserver.main import running_server
from homeserver.protocol.events import JsonObject
from homeserver.protocol.room_versions import room_version
from homeserver.rooms.timeline import NewEvent
from homeserver.services import Services
from homeserver.storage.names import Room
from tests.load.report import Progress
from tests.support.processes import Homeserver, talk_pai

PASSWORD = "correct horse battery staple"
V3 = "/_matrix/client/v3"
_numbers = itertools.count()
_TICK = os.sysconf("SC_CLK_TCK")
_BATCH = 250  # events a transaction, where a room is made large
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def cpu_seconds(directory: Path) -> float:
    """CPU time used so far by everything that runs in that directory: a server and its PostgreSQL.

    Backends that have ended count with the postmaster that they were children of. Only Linux can tell.
    """
    total = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(entry / "cwd")).is_relative_to(directory):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:15]))
        except OSError:  # it has just ended and counts with its parent, or is another user's
            continue
    return total / _TICK


async def cpu_in_turn(
    server: Homeserver, acts: Mapping[K, Callable[[], Awaitable[object]]], *, rounds: int, calls: int
) -> dict[K, list[float]]:
    """Seconds of CPU time that the server and its PostgreSQL take for a call of each act, round by round.

    In a round each act is called `calls` times; their CPU time is known to a hundredth of a second only.
    """
    took: dict[K, list[float]] = {name: [] for name in acts}
    progress = Progress("rounds", rounds)
    for number in range(-1, rounds):  # the first warms up
        for name, act in acts.items():
            before = cpu_seconds(server.process.directory)
            for _ in range(calls):
                await act()
            if number >= 0:
                took[name].append((cpu_seconds(server.process.directory) - before) / calls)
        if number >= 0:
            progress.add()
    return took


@dataclass
class Account:
    """An account that is logged in."""

    session: aiohttp.ClientSession
    url: str
    user_id: str
    token: str

    async def call(
        self,
        method: str,
        path: str,
        body: JsonObject | None = None,
        query: dict[str, str] | None = None,
        prefix: str = V3,
    ) -> Any:
        """The answer to a request below that prefix. Raises RuntimeError unless its status is 200."""
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        url = self.url + prefix + path
        async with self.session.request(method, url, data=data, params=query, headers=headers) as response:
            answer = await response.read()
            if response.status != 200:
                raise RuntimeError(f"{method} {path}: {response.status} {answer[:500]!r}")
            return orjson.loads(answer)

    async def sync(self, since: str | None = None, timeout_ms: int = 0, **query: str) -> Any:
        """The answer to /sync."""
        if since is not None:
            query["since"] = since
        return await self.call("GET", "/sync", query={"timeout": str(timeout_ms), **query})


@asynccontextmanager
async def http_session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session without a limit of connections, that asks for no compression."""
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Accept-Encoding": "identity"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
        yield session


async def register(session: aiohttp.ClientSession, url: str, name: str) -> Account:
    """A new account on a server with open registration."""
    body = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
    answer = await Account(session, url, "", "").call("POST", "/register", body)
    return Account(session, url, answer["user_id"], answer["access_token"])


async def in_flight(calls: Sequence[Callable[[], Awaitable[T]]], number: int) -> list[T]:
    """The results of the calls, of which at any time at most `number` are under way."""
    waiting = iter(range(len(calls)))
    results: list[Any] = [None] * len(calls)

    async def work() -> None:
        for index in waiting:
            results[index] = await calls[index]()

    await asyncio.gather(*(work() for _ in range(min(number, len(calls)))))
    return results


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory for one run, on a disk and not in memory."""
    with tempfile.TemporaryDirectory(prefix="tp-", dir=os.environ.get("TALKPAI_BENCH_DIR")) as directory:
        yield Path(directory).resolve()


@contextmanager
def serving(server: Homeserver) -> Iterator[Homeserver]:
    """The server runs meanwhile."""
    server.process.start()
    try:
        yield server
        server.process.stop()
    finally:
        server.process.kill()


def prepared(directory: Path, prepare: Callable[[Services], Awaitable[T]]) -> tuple[Homeserver, T]:
    """A server of ours, not yet started, in whose database `prepare` has made what is to be measured; and its result.

    `prepare` is given the services of a server that runs in this process. Must be called on the main thread.
    """
    server = talk_pai(directory, settings={"presence": {"enabled": False}})

    async def run() -> T:
        config = load_config(directory / "config.yaml", {})
        async with running_server(config) as running:
            result = await prepare(running.services)
            # As it would be some minutes later; a benchmark is no place to wait for it.
            await running.services.pool.execute("ANALYZE")
            return result

    return server, asyncio.run(run())


async def make_room(services: Services, creator: str, name: str = "A room", further: Sequence[NewEvent] = ()) -> Room:
    """A public room with a name, made by that local user, and these events in it."""
    user_id = f"@{creator}:{services.server_name}"
    version = room_version("11")
    create = NewEvent("m.room.create", user_id, {"room_version": "11"}, state_key="")
    first: list[tuple[str, str, JsonObject]] = [
        ("m.room.member", user_id, {"membership": "join", "displayname": creator}),
        ("m.room.power_levels", "", {"users": {user_id: 100}}),
        ("m.room.join_rules", "", {"join_rule": "public"}),
        ("m.room.history_visibility", "", {"history_visibility": "shared"}),
        ("m.room.name", "", {"name": name}),
    ]
    timeline = services.timeline
    async with services.stream.write() as write:
        room_id = f"!{name.replace(' ', '')}{time.time_ns()}:{services.server_name}"
        room = await timeline.create_room(version, create, room_id, published=False, write=write)
        events = [NewEvent(type, user_id, content, state_key) for type, state_key, content in first]
        async with timeline.appending(write, room, len(events) + len(further)) as append:
            for event in (*events, *further):
                await timeline.append_new(append, event)
    return room


async def append_all(
    services: Services, room: Room, events: Sequence[NewEvent], what: str, at_once: int = _BATCH
) -> None:
    """Appends these events to the room, in order and checked like any, so many a transaction."""
    progress = Progress(what, len(events))
    for start in range(0, len(events), at_once):
        batch = events[start : start + at_once]
        async with services.timeline.locked(room, len(batch)) as append:
            for event in batch:
                await services.timeline.append_new(append, event)
        progress.add(len(batch))


async def join_all(services: Services, room: Room, names: Sequence[str]) -> None:
    """These local users join the room."""
    joins = [join_of(services, name) for name in names]
    await services.timeline.names.user_nids([join.sender for join in joins])
    await services.timeline.names.state_key_nids([("m.room.member", join.sender) for join in joins])
    await append_all(services, room, joins, f"members of {room.room_id}")


def join_of(services: Services, name: str) -> NewEvent:
    """The member event by which a local user joins a public room."""
    user_id = f"@{name}:{services.server_name}"
    return NewEvent("m.room.member", user_id, {"membership": "join", "displayname": name}, user_id)


def text(number: int) -> JsonObject:
    """The content of a message as people write them."""
    return {
        "msgtype": "m.text",
        "body": f"Shall we meet at half past seven, or later? I'll bring the tickets. {number}",
    }


async def send(account: Account, room_id: str) -> None:
    """Sends a message like no other."""
    number = next(_numbers)
    await account.call("PUT", f"/rooms/{room_id}/send/m.room.message/{number}", text(number))


def messages_of(services: Services, name: str, count: int) -> list[NewEvent]:
    """So many messages of one local user."""
    user_id = f"@{name}:{services.server_name}"
    return [NewEvent("m.room.message", user_id, text(number)) for number in range(count)]
