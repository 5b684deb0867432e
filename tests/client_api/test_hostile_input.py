"""Whatever anyone sends to a route that the specification does not have is answered with an error, never with a 500.

The routes that it has are called by tests/contract, with requests made from its schemas; here are the others: of the
administration, and of proposals. Where the specification is absent, all are.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from homeserver.client_api.routes import ADMIN_ROUTES, CLIENT_ROUTES
from homeserver.http import Route
from tests.contract.requests import HOSTILE, RAW, SEGMENTS
from tests.contract.specification import specification
from tests.support.api import PASSWORD, Api

_STRANGE = (
    *HOSTILE,
    {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "\0"}, "password": "x"},
    {"type": "m.login.dummy", "session": "\0"},
    {"session": ["x"]},
)

# Every key of every body that some route reads, and some that are not there.
_KEYS = (
    *("auth", "username", "password", "device_id", "initial_device_display_name", "inhibit_login", "type"),
    *("identifier", "user", "token", "new_password", "logout_devices", "erase", "display_name", "devices"),
    *("displayname", "avatar_url", "nonce", "mac", "admin", "user_type", "room", "event_fields", "event_format"),
    *("presence", "account_data", "visibility", "room_alias_name", "name", "topic", "invite", "invite_3pid"),
    *("room_version", "creation_content", "initial_state", "preset", "is_direct", "power_level_content_override"),
    *("user_id", "reason", "membership", "third_party_signed", "room_id", "servers", "event_id", "receipt_type"),
    *("typing", "timeout", "limit", "since", "filter", "msgtype", "body", "redacts", "m.relates_to", "users"),
    *("m.fully_read", "m.read", "m.read.private", "thread_id", "medium", "address", "lists", "extensions"),
)

_QUERIES = (
    "limit=x",
    "limit=-1",
    "limit=99999999999999999999999",
    "since=x",
    "since=%00",
    "from=x&dir=q",
    "filter=%7B",
    "filter=0",
    "filter=%00",
    "filter=" + quote('{"room":{"timeline":{"limit":"x"}}}'),
    "timeout=x",
    "timeout=-5",
    "kind=x",
    "user_id=%00",
    "user_id=@a:b",
    "%00=1",
    "%FF",
    "a=%ED%A0%80",
    "&".join(f"a{n}=1" for n in range(1100)),
    "username=%00",
    "token=%00",
    "at=x&membership=x",
    "via=%00",
    "full_state=x",
    "set_presence=x",
)


class _Target(NamedTuple):
    """Who calls, and what sensible parameters are in a path."""

    alice: Api
    sensible: dict[str, str]


@pytest.fixture
async def target(alice: Api) -> _Target:
    """Alice, in a room with a message."""
    room_id = (await alice.post("/createRoom", {})).body["room_id"]
    content = {"msgtype": "m.text", "body": "hello"}
    sent = await alice.put(f"/rooms/{quote(room_id)}/send/m.room.message/0", content)
    return _Target(
        alice,
        {
            "userId": alice.user_id,
            "deviceId": alice.device_id,
            "keyName": "displayname",
            "type": "m.x",
            "eventType": "m.room.topic",
            "stateKey": "x",
            "kind": "override",
            "ruleId": ".m.rule.master",
            "roomId": room_id,
            "roomIdOrAlias": room_id,
            "eventId": sent.body["event_id"],
            "receiptType": "m.read",
        },
    )


def _path(route: Route, target: _Target, segment: str | None) -> str:
    """The route's path; parameters are `segment`, or something sensible."""
    path = route.path
    while "{" in path:
        before, _, rest = path.partition("{")
        name, _, after = rest.partition("}")
        path = before + (segment if segment is not None else quote(target.sensible.get(name, "x"), safe="")) + after
    return path


def _routes() -> list[Route]:
    # One path version is as good as another.
    routes = [route for route in (*CLIENT_ROUTES, *ADMIN_ROUTES) if "/r0/" not in route.path]
    routes = [route for route in routes if not route.path.endswith(("/logout", "/logout/all"))]
    spec = specification()
    return routes if spec is None else [one for one in routes if spec.operation(one.method, one.path) is None]


_PROOF = {"type": "m.login.password", "password": PASSWORD}
_GOOD_BODIES: dict[str, dict[str, Any]] = {
    "/_matrix/client/v3/register": {"password": PASSWORD, "auth": {"type": "m.login.dummy"}},
    "/_matrix/client/v3/login": {"type": "m.login.password", "user": "alice", "password": PASSWORD},
    "/_matrix/client/v3/account/password": {"new_password": PASSWORD, "auth": _PROOF, "logout_devices": False},
    "/_matrix/client/v3/delete_devices": {"devices": ["X"], "auth": _PROOF},
}


def _bodies(route: Route, chance: random.Random) -> Iterator[dict[str, Any]]:
    for value in _STRANGE:
        yield dict.fromkeys(_KEYS, value)
    for _ in range(60):
        # Good but for one field, so that what comes after the first check is reached too.
        yield {**_GOOD_BODIES.get(route.path, {}), chance.choice(_KEYS): chance.choice(_STRANGE)}


def _empty_body(route: Route) -> bytes | None:
    return b"{}" if route.method in ("POST", "PUT") else None


async def _check(target: _Target, route: Route, path: str, **options: Any) -> None:
    answer = await target.alice.request(route.method, path, **options)
    told = (route.method, path[:200], str(options)[:500], answer.status, answer.body)
    assert answer.status < 500 or answer.status in (502, 503), told
    if answer.status >= 400 and route.method != "HEAD":
        assert isinstance(answer.body, dict), told
        assert "errcode" in answer.body or "flows" in answer.body, told


@pytest.mark.parametrize("what", ["fields", "raw bodies", "paths", "queries"])
async def test_no_input_makes_a_500(target: _Target, what: str) -> None:
    """Wrong types, NUL characters, lone surrogates, huge numbers, deep nesting, broken encodings: all are refused."""
    chance = random.Random(0)
    for route in _routes():
        if what == "fields" and route.method in ("POST", "PUT", "DELETE"):
            for body in _bodies(route, chance):
                await _check(target, route, _path(route, target, None), json=body)
        elif what == "raw bodies" and route.method in ("POST", "PUT", "DELETE"):
            for raw in RAW:
                await _check(target, route, _path(route, target, None), body=raw)
        elif what == "paths" and "{" in route.path:
            for segment in SEGMENTS:
                await _check(target, route, _path(route, target, segment), body=_empty_body(route))
        elif what == "queries":
            for query in _QUERIES:
                await _check(target, route, f"{_path(route, target, None)}?{query}", body=_empty_body(route))
