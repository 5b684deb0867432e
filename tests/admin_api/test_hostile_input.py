"""Whatever an administrator sends to the admin API, by mistake or with a broken tool, is answered with an error."""

from __future__ import annotations

import random
from typing import Any
from urllib.parse import quote

import pytest

from homeserver.admin_api.routes import ADMIN_API_ROUTES
from homeserver.http import Route
from tests.contract.requests import HOSTILE, RAW, SEGMENTS
from tests.support.api import Api

_KEYS = (
    *("password", "logout_devices", "displayname", "avatar_url", "threepids", "external_ids", "admin", "deactivated"),
    *("locked", "suspended", "user_type", "erase", "new_password", "suspend", "valid_until_ms", "burst_count"),
    *("messages_per_second", "rooms", "reason", "limit", "use_admin", "device_id", "display_name", "devices"),
    *("token", "length", "uses_allowed", "expiry_time", "block", "purge", "force_purge", "new_room_user_id"),
    *("room_name", "message", "user_id", "delete_local_events", "purge_up_to_ts", "purge_up_to_event_id"),
)
_QUERIES = (
    *("limit=x", "limit=-1", "limit=99999999999999999999999", "from=x", "from=-1", "from=9223372036854775807"),
    *(
        "dir=q",
        "order_by=x",
        "name=%00",
        "user_id=%FF",
        "search_term=%00",
        "valid=x",
        "ts=x",
        "ts=-9223372036854775807",
    ),
    *("filter=%7B", "filter=0", "type=%00", "from_ts=-1", "username=%00", "destination=%25", "deactivated=x"),
    *("ts=9223372036854775807&dir=b", "from=t1_x&dir=b", "public_rooms=x", "via=%00", "a=%ED%A0%80"),
)


@pytest.fixture
async def sensible(admin: Api, alice: Api) -> dict[str, str]:
    """Parameters of paths that lead somewhere."""
    room_id = (await alice.post("/createRoom", {})).body["room_id"]
    content = {"msgtype": "m.text", "body": "hello"}
    sent = await alice.put(f"/rooms/{quote(room_id)}/send/m.room.message/0", content)
    await admin.post("/_synapse/admin/v1/registration_tokens/new", {"token": "x"})
    return {
        "userId": alice.user_id,
        "deviceId": alice.device_id,
        "roomId": room_id,
        "eventId": sent.body["event_id"],
        "medium": "email",
        "address": "alice@example.org",
    }


def _path(route: Route, sensible: dict[str, str], segment: str | None) -> str:
    path = route.path
    while "{" in path:
        before, _, rest = path.partition("{")
        name, _, after = rest.partition("}")
        path = before + (segment if segment is not None else quote(sensible.get(name, "x"), safe="")) + after
    return path


async def _check(admin: Api, route: Route, path: str, **options: Any) -> None:
    answer = await admin.request(route.method, path, **options)
    told = (route.method, path[:200], str(options)[:500], answer.status, answer.body)
    assert answer.status < 500, told
    if answer.status >= 400:
        assert isinstance(answer.body, dict), told
        assert "errcode" in answer.body, told


@pytest.mark.parametrize("what", ["fields", "raw bodies", "paths", "queries"])
async def test_no_input_makes_a_500(admin: Api, sensible: dict[str, str], what: str) -> None:
    """Wrong types, NUL characters, huge numbers, deep nesting, broken encodings: all are refused or harmless."""
    chance = random.Random(0)
    for route in ADMIN_API_ROUTES:
        body = b"{}" if route.method in ("POST", "PUT") else None
        if what == "fields" and body is not None:
            for value in HOSTILE:
                await _check(admin, route, _path(route, sensible, None), json=dict.fromkeys(_KEYS, value))
            for key in _KEYS:
                await _check(admin, route, _path(route, sensible, None), json={key: chance.choice(HOSTILE)})
        elif what == "raw bodies" and body is not None:
            for raw in RAW:
                await _check(admin, route, _path(route, sensible, None), body=raw)
        elif what == "paths" and "{" in route.path:
            for segment in SEGMENTS:
                await _check(admin, route, _path(route, sensible, segment), body=body)
        elif what == "queries":
            for query in _QUERIES:
                await _check(admin, route, f"{_path(route, sensible, None)}?{query}", body=body)
