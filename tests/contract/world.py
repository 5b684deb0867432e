"""A small world for generated requests: users, rooms and events, so that what is asked for is there.

It is one long-lived server; requests change it, so before each endpoint's turn `staged` looks whether Alice still has
what she started with, and gives her a new stage otherwise.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, Phase, settings
from hypothesis.strategies import SearchStrategy

from homeserver.main import Server
from homeserver.storage.stream import Pool
from tests.contract.requests import Call, Known
from tests.contract.specification import Operation
from tests.support.api import PASSWORD, Answer, Api

# The same requests in every run, but for the ids that the server gives.
BOUNDED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate,),  # a request that fails says itself what is wrong with it
    suppress_health_check=list(HealthCheck),
)
_numbers = itertools.count()
# Derived in the background, or touched by whoever merely looks.
_VOLATILE = (
    *("devices", "uia_sessions", "presence", "stream_readers", "user_directory", "user_directory_stale"),
    *("destinations", "destination_rooms", "server_keys", "received_transactions"),
)
_TELLING = {"rooms": "(room_id, extremities, depth)"}  # head_version also counts attempts
# Whoever calls these has lost something that the rest of the calls need.
SPENDING = {"logout", "logout_all", "deactivateAccount", "changePassword", "deleteDevice", "deleteDevices"}
_LOOK_EVERY = 8
_SLOWEST = 10.0  # seconds that any one request may take, on a machine that is busy with other tests


@dataclass(frozen=True, slots=True)
class Stage:
    """Alice with all that she has; `known` holds, by the name of a field, what can stand there, `hints` what else can
    in requests of one endpoint."""

    alice: Api
    bob: Api
    room: str
    event: str
    known: Known
    hints: Mapping[str, Known]  # by the endpoint's name
    _known_by: dict[str, Known] = field(default_factory=dict)

    def known_by(self, name: str) -> Known:
        """What can stand in requests of that endpoint."""
        if name not in self._known_by:
            self._known_by[name] = {**self.known, **self.hints.get(name, {})}
        return self._known_by[name]


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
        assert answer.status < 500 or answer.status in (502, 503, 504), (str(call), answer)
        assert seconds < _SLOWEST, (str(call), seconds)
        self._digest = before if watch and answer.status >= 400 else None
        if self._digest and self._calls == _LOOK_EVERY - 1:
            changed = set(before.splitlines()) ^ set((await state_digest(self._pool)).splitlines())
            assert not changed, (str(call), answer, sorted(changed))
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
        if self._stage is None or (look and not await _is_whole(self._stage)):
            self._stage = await _stage(self._api)
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


def strategy(
    make: Callable[[Operation, Known], SearchStrategy[Call]], operation: Operation, known: Known
) -> SearchStrategy[Call]:
    """`make(operation, known)`, kept, since making a strategy takes longer than drawing from it."""
    before = _strategies.get((make, operation))
    if before is None or before[0] is not known:
        before = _strategies[make, operation] = known, make(operation, known)
    return before[1]


def proof(user: Api) -> dict[str, Any]:
    """What proves to user-interactive authentication that it is that user."""
    return {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user.user_id},
        "password": PASSWORD,
    }


async def _is_whole(stage: Stage) -> bool:
    room = quote(stage.room)
    sent = await stage.alice.put(
        f"/rooms/{room}/send/m.room.message/probe{next(_numbers)}", {"msgtype": "m.text", "body": "still here"}
    )
    event = await stage.alice.get(f"/rooms/{room}/event/{quote(stage.event)}")
    bob = await stage.bob.get(f"/rooms/{room}/joined_members")
    levels = await stage.alice.get(f"/rooms/{room}/state/m.room.power_levels/")
    intact = event.status == 200 and event.body["content"].get("body") == "hello"
    return sent.status == bob.status == 200 and intact and levels.body["users"].get(stage.alice.user_id) == 100


async def _ok(answer: Answer) -> Any:
    assert answer.status == 200, answer
    return answer.body


async def _stage(api: Api) -> Stage:
    number = next(_numbers)
    alice, bob = await api.register(f"alice{number}"), await api.register(f"bob{number}")
    alias = f"#hall{number}:test.example"

    async def made(who: Api, **settings: Any) -> str:
        room_id: str = (await _ok(await who.post("/createRoom", {"room_version": "11", **settings})))["room_id"]
        return room_id

    async def sent(content: dict[str, Any], type: str = "m.room.message") -> str:
        path = f"/rooms/{quote(room)}/send/{type}/{next(_numbers)}"
        event_id: str = (await _ok(await alice.put(path, content)))["event_id"]
        return event_id

    levels = {"users": {alice.user_id: 100}}
    room = await made(
        alice, preset="public_chat", room_alias_name=f"hall{number}", topic="All", power_level_content_override=levels
    )
    space = await made(alice, preset="public_chat", creation_content={"type": "m.space"})
    left, bobs = await made(alice), await made(bob, preset="public_chat")
    invited = await made(bob, invite=[alice.user_id])
    knocked = await made(bob, initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}])
    await _ok(await alice.put(f"/rooms/{quote(space)}/state/m.space.child/{quote(room)}", {"via": ["test.example"]}))
    await _ok(await bob.post(f"/join/{quote(room)}"))
    banned = f"@banned{number}:test.example"
    await _ok(await alice.post(f"/rooms/{quote(room)}/ban", {"user_id": banned}))
    message = await sent({"msgtype": "m.text", "body": "hello"})
    thread = {"rel_type": "m.thread", "event_id": message}
    reply = await sent({"msgtype": "m.text", "body": "a reply", "m.relates_to": thread})
    annotation = {"rel_type": "m.annotation", "event_id": message, "key": "👍"}
    await sent({"m.relates_to": annotation}, "m.reaction")
    await _ok(await alice.post(f"/rooms/{quote(left)}/leave"))
    user = quote(alice.user_id)
    filter_id = (await _ok(await alice.post(f"/user/{user}/filter", {"room": {"timeline": {"limit": 5}}})))["filter_id"]
    await _ok(await alice.put(f"/user/{user}/account_data/m.custom", {"a": 1}))
    await _ok(await alice.put(f"/user/{user}/rooms/{quote(room)}/account_data/m.custom", {"a": 1}))
    await _ok(await alice.put(f"/user/{user}/rooms/{quote(room)}/tags/u.work", {"order": 0.5}))
    await _ok(await alice.put("/pushrules/global/content/cake", {"pattern": "cake", "actions": ["notify"]}))
    await _ok(await alice.put(f"/profile/{user}/m.tz", {"m.tz": "Europe/Rome"}))
    sync = await _ok(await alice.get("/sync"))
    page = await _ok(await alice.get(f"/rooms/{quote(room)}/messages", query={"dir": "b", "limit": "2"}))
    known = {
        "roomid": [room, room, room, room, room, space, left, bobs, invited, "!nowhere:test.example"],
        "roomidoralias": [room, alias, bobs],
        "roomalias": [alias, alias, f"#new{number}:test.example"],
        "userid": [alice.user_id, alice.user_id, bob.user_id, "@nobody:test.example", "@far:away.example"],
        "eventid": [message, message, reply, "$" + "a" * 43],
        "redacts": [message],
        "eventtype": ["m.room.topic", "m.custom", "m.room.message"],
        "statekey": ["", "x"],
        "txnid": [f"t{n}" for n in range(50)],
        "deviceid": [alice.device_id],
        "filterid": [filter_id],
        "filter": [filter_id, '{"room":{"timeline":{"limit":3}}}'],
        "from": [page["end"]],
        "since": [sync["next_batch"]],
        "servername": ["test.example", "away.example"],
        "via": ["test.example"],
        "timeout": [0, 1],
        "keyname": ["displayname", "avatar_url", "m.tz", "org.example.colour"],
        "receipttype": ["m.read", "m.read.private", "m.fully_read"],
        "reltype": ["m.thread", "m.annotation"],
        "roomversion": ["11", "12"],
        "newversion": ["11", "12"],
        "avatarurl": ["mxc://test.example/abc"],
        "auth": [proof(alice)],
        "user": [alice.user_id],
        "password": [PASSWORD],
        "newpassword": [PASSWORD],
        "tag": ["u.work", "m.favourite"],
    }
    hints: dict[str, Known] = {
        "getAccountData": {"userid": [alice.user_id], "type": ["m.custom"]},
        "getAccountDataPerRoom": {"userid": [alice.user_id], "type": ["m.custom"], "roomid": [room]},
        "getProfileField": {"userid": [alice.user_id], "keyname": ["m.tz"]},
        "setProfileField": {"userid": [alice.user_id]},
        "knockRoom": {"roomidoralias": [knocked]},
        "login": {"type": ["m.login.password"], "identifier": [proof(alice)["identifier"]]},
        "register": {
            "auth": [{"type": "m.login.dummy"}],
            "username": [f"fresh{n}" for n in range(number, number + 99)],
        },
        "unban": {"roomid": [room], "userid": [banned]},
        # A room whose invitation fails stays, as it may have reached others.
        "createRoom": {"invite": [[bob.user_id], []], "invite3pid": [[]]},
        "inviteUser": {"userid": [f"@bob{n}:test.example" for n in (number, 0)]},
    }
    for name in ("getPushRule", "isPushRuleEnabled", "getPushRuleActions", "setPushRuleEnabled", "setPushRuleActions"):
        hints[name] = {"kind": ["override"], "ruleid": [".m.rule.master"], "actions": [["notify"]]}
    hints["deletePushRule"] = {"kind": ["content"], "ruleid": ["cake"]}
    hints["setPushRule"] = {"ruleid": ["cake", "icing"], "actions": [["notify"], []]}
    return Stage(alice, bob, room, message, known, hints)
