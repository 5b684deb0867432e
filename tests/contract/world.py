"""A small world for generated requests: users, rooms and events, so that what is asked for is there.

It is one long-lived server; requests change it, so before each endpoint's turn `staged` looks whether Alice still has
what she started with, and gives her a new stage otherwise.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.strategies import SearchStrategy

from homeserver.main import Server
from homeserver.storage.stream import Pool
from tests.contract.requests import Call, Known
from tests.contract.specification import Operation
from tests.contract.stage import Stage, proof, set_stage
from tests.support.api import Answer, Api

_FACTOR = int(os.environ.get("TALKPAI_FUZZ", "1"))  # how many times as many requests as usual, and others every time
_numbers = itertools.count()
# Derived in the background, or touched by whoever merely looks.
_VOLATILE = (
    *("devices", "uia_sessions", "presence", "stream_readers", "user_directory", "user_directory_stale"),
    *("destinations", "destination_rooms", "server_keys", "received_transactions"),
)
_TELLING = {"rooms": "(room_id, extremities, depth)"}  # head_version also counts attempts
# Whoever calls these has lost, or replaced, something that the rest of the calls need.
SPENDING = {
    *("logout", "logout_all", "deactivateAccount", "changePassword", "deleteDevice", "deleteDevices"),
    *("postRoomKeysVersion", "uploadCrossSigningKeys", "uploadKeys"),
}
_LOOK_EVERY = 8
_SLOWEST = 10.0  # seconds that any one request may take, on a machine that is busy with other tests


class Watched:
    """A database that should change only where a request has been granted, and how far an endpoint's turn has gone."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._digest: str | None = None
        self._turn = ""
        self._calls = 0

    def begins(self, name: str) -> bool:
        """Counts the calls of an endpoint's turn; whether it is time to look at the stage."""
        self._calls = self._calls + 1 if name == self._turn else 0
        self._turn = name
        if self._calls % _LOOK_EVERY == 0:
            self._digest = None
        return self._calls % _LOOK_EVERY == 0

    def forget(self) -> None:
        """Something else has changed the database."""
        self._digest = None

    async def call(self, send: Callable[[], Awaitable[Answer]], call: Call, *, watch: bool = True) -> Answer:
        """Sends it. Of an endpoint's first calls those that are refused must change nothing.

        Raises AssertionError if they do, for a 500, and for slowness.
        """
        watch = watch and self._calls < _LOOK_EVERY
        before = (self._digest or await state_digest(self._pool)) if watch else ""
        started = time.monotonic()
        answer = await send()
        seconds = time.monotonic() - started
        assert answer.status < 500 or answer.status in (502, 503, 504), f"{answer.status} for {call}"
        assert seconds < _SLOWEST, f"{seconds:.1f} s for {call}"
        self._digest = before if watch and answer.status >= 400 else None
        if self._digest and self._calls == _LOOK_EVERY - 1:
            changed = set(before.splitlines()) ^ set((await state_digest(self._pool)).splitlines())
            assert not changed, f"{answer.status} {answer.body} for {call}: {sorted(changed)}"
        return answer


class World:
    """The server, and the stage that is set on it at present."""

    def __init__(self, server: Server, api: Api) -> None:
        self._api = api
        self._stage: Stage | None = None
        self._watched = Watched(server.services.pool)

    async def _staged(self, name: str) -> Stage:
        """The stage, a new one if requests have taken too much away. `name` is the endpoint's whose turn it is."""
        look = self._watched.begins(name)
        if self._stage is None or (look and not await self._stage.is_whole(next(_numbers))):
            self._stage = await set_stage(self._api, next(_numbers))
        return self._stage

    async def caller(self, name: str) -> tuple[Api, Known]:
        """Who calls that endpoint, and what that user knows."""
        stage = await self._staged(name)
        known = stage.known_by(name)
        if name not in SPENDING:
            return stage.alice, known
        self._watched.forget()
        user = await self._api.register(f"spent{next(_numbers)}")
        return user, {**known, "deviceid": [user.device_id], "devices": [[user.device_id]], "auth": [proof(user)]}

    async def call(self, who: Api, call: Call, *, watch: bool = False) -> Answer:
        """Sends it as that user, watched or not."""
        return await self._watched.call(
            lambda: who.request(call.operation.method, call.target, body=call.bytes), call, watch=watch
        )


async def state_digest(pool: Pool) -> str:
    """A line for each table of what only requests change: how many rows, and a hash over all of them."""
    tables = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    parts = [
        f"SELECT '{table}' AS name, count(*) AS rows, "
        f"sum(hashtextextended({_TELLING.get(table, 't')}::text, 0)) AS sum FROM public.{table} t"
        for (table,) in tables
        if table not in _VOLATILE
    ]
    rows = await pool.fetch(" UNION ALL ".join(parts) + " ORDER BY name")
    return "\n".join(f"{row['name']}: {row['rows']} rows, {row['sum']}" for row in rows)


_strategies: dict[tuple[Any, Operation], tuple[Known, SearchStrategy[Call]]] = {}


def bounded(examples: int) -> settings:
    """So many requests, the same in every run but for the ids that the server gives."""
    return settings(
        max_examples=examples * _FACTOR,
        derandomize=_FACTOR == 1,
        database=None,
        deadline=None,
        phases=(Phase.generate,),  # a request that fails says itself what is wrong with it
        suppress_health_check=list(HealthCheck),
    )


def strategy(
    make: Callable[[Operation, Known], SearchStrategy[Call]], operation: Operation, known: Known
) -> SearchStrategy[Call]:
    """`make(operation, known)`, kept, since making a strategy takes longer than drawing from it."""
    before = _strategies.get((make, operation))
    if before is None or before[0] is not known:
        before = _strategies[make, operation] = known, make(operation, known)
    return before[1]
