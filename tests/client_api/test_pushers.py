"""Pushers as clients set, list and delete them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from homeserver.main import Server, running_server
from tests.support.api import PASSWORD, Api
from tests.support.push_gateway import PATH, pusher, set_pusher
from tests.support.servers import server_config

_URL = f"https://push.example.org{PATH}"
_ENABLED, _DEVICE = "org.matrix.msc3881.enabled", "org.matrix.msc3881.device_id"


@pytest.fixture
async def server(database: str, tmp_path: Path) -> AsyncIterator[Server]:
    """A running server that may connect to one address of this machine, and to none else of its own network."""
    settings: dict[str, Any] = {"federation": {"allow_addresses": ["127.0.0.1"], "allow_domains": []}}
    async with running_server(server_config(database, tmp_path, **settings)) as server:
        yield server


async def _keys(api: Api) -> list[str]:
    answer = await api.get("/pushers")
    assert answer.status == 200
    return [one["pushkey"] for one in answer.body["pushers"]]


async def test_a_pusher_is_listed_as_it_was_set(alice: Api) -> None:
    """All that the client said comes back, with the device that it is and that it is on; set again, it is changed."""
    body = pusher(_URL, profile_tag="tag", format="event_id_only")
    body["data"]["brand"] = {"nested": [1, None]}
    await set_pusher(alice, body)
    assert (await alice.get("/pushers")).body == {"pushers": [{**body, _ENABLED: True, _DEVICE: alice.device_id}]}
    await set_pusher(alice, pusher(_URL, lang="uk"))
    [shown] = (await alice.get("/pushers")).body["pushers"]
    assert (shown["lang"], shown["data"], "profile_tag" in shown) == ("uk", {"url": _URL}, False)


async def test_kind_null_deletes_just_that_pusher(alice: Api) -> None:
    """Of this user, with that key and app; where there is none nothing happens."""
    bob = await alice.as_token(None).register("bob")
    await set_pusher(bob, pusher(_URL, "one"))
    for key in ("one", "two"):
        await set_pusher(alice, pusher(_URL, key, append=True))
    for app_id, key in (("org.example.app", "one"), ("org.example.app", "one"), ("org.example.other", "two")):
        await set_pusher(alice, {"kind": None, "app_id": app_id, "pushkey": key})
    assert await _keys(alice) == ["two"]
    assert await _keys(bob) == ["one"]


async def test_a_key_is_one_users_unless_appended(alice: Api) -> None:
    """Who sets a pusher on a shared telephone takes the key over from others, and from nobody with `append`."""
    bob = await alice.as_token(None).register("bob")
    await set_pusher(alice, pusher(_URL))
    await set_pusher(alice, pusher(_URL, app_id="org.example.other"))
    await set_pusher(bob, pusher(_URL, append=True))
    assert (await _keys(alice), await _keys(bob)) == (["key", "key"], ["key"])
    await set_pusher(bob, pusher(_URL))
    assert (await _keys(alice), await _keys(bob)) == (["key"], ["key"])


async def test_of_two_who_take_a_key_at_once_one_has_it(alice: Api) -> None:
    """Whoever comes second sees the first one's pusher, and deletes it."""
    users = [alice, *[await alice.as_token(None).register(f"user{n}") for n in range(5)]]
    for _ in range(5):
        await asyncio.gather(*(set_pusher(user, pusher(_URL)) for user in users))
        assert sum([len(await _keys(user)) for user in users]) == 1


async def test_a_pusher_can_be_switched_off_from_another_device(alice: Api) -> None:
    """It stays the pusher of the device that it is for, and goes with that one (MSC3881)."""
    other = await alice.login("alice")
    await set_pusher(other, pusher(_URL))
    await set_pusher(alice, pusher(_URL, **{_ENABLED: False}))
    [shown] = (await alice.get("/pushers")).body["pushers"]
    assert (shown[_ENABLED], shown[_DEVICE]) == (False, other.device_id)
    await set_pusher(other, pusher(_URL))
    [shown] = (await alice.get("/pushers")).body["pushers"]
    assert shown[_ENABLED] is False
    assert (await other.post("/logout", {})).status == 200
    assert await _keys(alice) == []


async def test_a_new_password_takes_the_pushers_of_others_along(alice: Api) -> None:
    """With the sessions go their pushers, but for those of the session that changed it; unless told to keep them."""
    other = await alice.login("alice")
    await set_pusher(alice, pusher(_URL, "mine"))
    await set_pusher(other, pusher(_URL, "other"))
    for logout_devices, old, new, left in (
        (False, PASSWORD, PASSWORD + "1", ["mine", "other"]),
        (True, PASSWORD + "1", PASSWORD + "2", ["mine"]),
    ):
        user = {"type": "m.id.user", "user": "alice"}
        body: dict[str, Any] = {"new_password": new, "logout_devices": logout_devices}
        auth = {"type": "m.login.password", "identifier": user, "password": old}
        session = (await alice.post("/account/password", body)).body["session"]
        answer = await alice.post("/account/password", {**body, "auth": {**auth, "session": session}})
        assert answer.status == 200, answer
        assert await _keys(alice) == left


@pytest.mark.parametrize(
    ("changes", "errcode"),
    [
        ({"app_id": None}, "M_MISSING_PARAM"),
        ({"pushkey": None}, "M_MISSING_PARAM"),
        ({"lang": None, "data": None}, "M_MISSING_PARAM"),
        ({"kind": "carrier pigeon"}, "M_INVALID_PARAM"),
        ({"kind": 7}, "M_BAD_JSON"),
        ({"app_id": "x" * 65}, "M_INVALID_PARAM"),
        ({"pushkey": "ї" * 257}, "M_INVALID_PARAM"),
        ({"pushkey": "a\0b"}, "M_INVALID_PARAM"),
        ({"app_display_name": "x" * 2000}, "M_INVALID_PARAM"),
        ({"data": []}, "M_BAD_JSON"),
        ({"data": {}}, "M_MISSING_PARAM"),
        ({"data": {"url": _URL, "large": "x" * 9000}}, "M_INVALID_PARAM"),
        ({"data": {"url": _URL, "format": 1}}, "M_BAD_JSON"),
        ({"append": "yes"}, "M_BAD_JSON"),
        ({_ENABLED: 1}, "M_BAD_JSON"),
    ],
)
async def test_what_is_no_pusher_is_refused(alice: Api, changes: dict[str, Any], errcode: str) -> None:
    """Missing, mistyped and oversized values are named by an error, and nothing is kept."""
    body = {key: value for key, value in {**pusher(_URL), **changes}.items() if value is not None}
    answer = await alice.post("/pushers/set", body)
    assert (answer.status, answer.errcode) == (400, errcode), answer
    assert await _keys(alice) == []


async def test_kind_must_be_given(alice: Api) -> None:
    """A request without `kind` is none to delete something."""
    answer = await alice.post("/pushers/set", {"app_id": "a", "pushkey": "b"})
    assert (answer.status, answer.errcode) == (400, "M_MISSING_PARAM")


@pytest.mark.parametrize(
    ("url", "is_taken"),
    [
        (_URL, True),
        (f"https://push.example.org:8443{PATH}", True),
        (f"http://127.0.0.1:5000{PATH}", True),
        (f"http://localhost:5000{PATH}", True),
        (f"http://push.example.org{PATH}", False),
        (f"http://93.184.216.34{PATH}", False),
        (f"https://127.0.0.2{PATH}", False),
        (f"https://10.1.2.3{PATH}", False),
        (f"https://[::1]{PATH}", False),
        (f"https://[::ffff:10.1.2.3]{PATH}", False),
        ("https://push.example.org/notify", False),
        (f"https://push.example.org{PATH}/", False),
        (f"https://push.example.org{PATH}?to=x", False),
        (f"https://push.example.org{PATH}#x", False),
        (f"https://user:pass@push.example.org{PATH}", False),
        (f"https://push.example.org:99999{PATH}", False),
        (f"ftp://push.example.org{PATH}", False),
        (f"file://{PATH}", False),
        (PATH, False),
        ("https://[nonsense", False),
        ("", False),
    ],
)
async def test_a_gateway_is_at_an_https_address_outside(alice: Api, url: str, is_taken: bool) -> None:
    """Only with that path; in plain HTTP only at a private address that the operator allows; never at a refused one."""
    answer = await alice.post("/pushers/set", pusher(url))
    assert (answer.status, answer.errcode) == ((200, None) if is_taken else (400, "M_INVALID_PARAM")), answer
    assert len(await _keys(alice)) == is_taken


async def test_nobody_has_pushers_without_end(alice: Api) -> None:
    """From a number on new ones are refused; those that are there can be changed."""
    for number in range(100):
        await set_pusher(alice, pusher(_URL, f"{number}"))
    answer = await alice.post("/pushers/set", pusher(_URL, "one more"))
    assert (answer.status, answer.errcode) == (400, "M_RESOURCE_LIMIT_EXCEEDED")
    await set_pusher(alice, pusher(_URL, "0", lang="uk"))


async def test_who_is_deactivated_has_no_pushers(alice: Api, server: Server) -> None:
    """Nothing is sent anywhere for an account that has ended."""
    await set_pusher(alice, pusher(_URL))
    session = (await alice.post("/account/deactivate", {})).body["session"]
    user = {"type": "m.id.user", "user": "alice"}
    auth = {"type": "m.login.password", "identifier": user, "password": PASSWORD, "session": session}
    assert (await alice.post("/account/deactivate", {"auth": auth})).status == 200
    async with server.services.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM pushers") == 0
