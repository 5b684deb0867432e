"""Push notifications through a real gateway: what is sent, to whom, in which order, and what becomes of failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from homeserver.main import Server, running_server
from homeserver.push import sender as sender_module
from tests.support.api import Api, open_api
from tests.support.push_gateway import PushGateway, push_gateway, pusher, refused, set_pusher, taken
from tests.support.servers import server_config

_ALLOWED: dict[str, Any] = {"federation": {"allow_addresses": ["127.0.0.0/8"], "allow_domains": []}}


@pytest.fixture
async def gateway() -> AsyncIterator[PushGateway]:
    async with push_gateway() as gateway:
        yield gateway


@pytest.fixture
async def server(database: str, tmp_path: Path) -> AsyncIterator[Server]:
    """A running server that may connect to gateways on loopback."""
    async with running_server(server_config(database, tmp_path, **_ALLOWED)) as server:
        yield server


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are tried again soon."""
    monkeypatch.setattr(sender_module, "RETRY_MS", 50)
    monkeypatch.setattr(sender_module, "_BADGE_PAUSE_MS", 10)


async def _room(alice: Api, *others: Api, **fields: Any) -> str:
    answer = await alice.post("/createRoom", {"preset": "public_chat", **fields})
    room_id: str = answer.body["room_id"]
    for other in others:
        assert (await other.post(f"/join/{quote(room_id)}", {})).status == 200
    return room_id


_numbers = iter(range(1_000_000))


async def _say(api: Api, room_id: str, body: str = "hello", type: str = "m.room.message", /, **content: Any) -> str:
    content = {"msgtype": "m.text", "body": body, **content} if type == "m.room.message" else content
    answer = await api.put(f"/rooms/{quote(room_id)}/send/{type}/{next(_numbers)}", content)
    assert answer.status == 200, answer
    event_id: str = answer.body["event_id"]
    return event_id


async def _read(api: Api, room_id: str, event_id: str) -> None:
    path = f"/rooms/{quote(room_id)}/receipt/m.read/{quote(event_id)}"
    assert (await api.post(path, {})).status == 200


async def test_a_message_reaches_the_gateway_with_all_that_a_device_shows(alice: Api, gateway: PushGateway) -> None:
    """Event, content, names, counts, tweaks and the pusher's own data, but never the gateway's address."""
    bob = await alice.as_token(None).register("bob")
    assert (await alice.put(f"/profile/{alice.user_id}/displayname", {"displayname": "Major Tom"})).status == 200
    room_id = await _room(alice, bob, name="Mission Control", room_alias_name="mission")
    body = pusher(gateway.url)
    body["data"]["brand"] = "x"
    await set_pusher(bob, body)
    event_id = await _say(alice, room_id, "hello bob", **{"m.mentions": {"user_ids": [bob.user_id]}})
    [told] = await gateway.count(1)
    [device] = told.pop("devices")
    assert told == {
        "event_id": event_id,
        "room_id": room_id,
        "type": "m.room.message",
        "sender": alice.user_id,
        "sender_display_name": "Major Tom",
        "room_name": "Mission Control",
        "room_alias": "#mission:test.example",
        "prio": "high",
        "content": {"msgtype": "m.text", "body": "hello bob", "m.mentions": {"user_ids": [bob.user_id]}},
        "counts": {"unread": 1},
    }
    assert device.pop("pushkey_ts") > 1_000_000_000
    assert device == {
        "app_id": "org.example.app",
        "pushkey": "key",
        "data": {"brand": "x"},
        "tweaks": {"sound": "default", "highlight": True},
    }


async def test_event_id_only_says_nothing_but_ids(alice: Api, gateway: PushGateway) -> None:
    """With that format the gateway learns neither who said something nor what."""
    bob, carol = await alice.as_token(None).register("bob"), await alice.as_token(None).register("carol")
    room_id = await _room(alice, bob, carol, name="Secret")
    await set_pusher(bob, pusher(gateway.url, format="event_id_only"))
    event_id = await _say(alice, room_id)
    [told] = await gateway.count(1)
    assert told.keys() == {"event_id", "room_id", "prio", "counts", "devices"}
    assert (told["event_id"], told["room_id"], told["prio"]) == (event_id, room_id, "low")
    assert told["devices"][0]["data"] == {"format": "event_id_only"}


async def test_what_is_encrypted_goes_without_its_content(alice: Api, gateway: PushGateway) -> None:
    """The ciphertext is of no use to a gateway; the device is woken to fetch the event."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _room(alice, bob)
    await set_pusher(bob, pusher(gateway.url))
    await _say(alice, room_id, "", "m.room.encrypted", algorithm="m.megolm.v1.aes-sha2", ciphertext="x" * 9000)
    [told] = await gateway.count(1)
    assert told["type"] == "m.room.encrypted"
    assert "content" not in told
    assert told["prio"] == "high"


async def test_an_invitation_says_that_it_is_for_the_user(alice: Api, gateway: PushGateway) -> None:
    """Who is invited is told so, with `user_is_target`."""
    bob = await alice.as_token(None).register("bob")
    await set_pusher(bob, pusher(gateway.url))
    room_id = (await alice.post("/createRoom", {"invite": [bob.user_id]})).body["room_id"]
    [told] = await gateway.count(1)
    assert (told["type"], told["room_id"], told["user_is_target"]) == ("m.room.member", room_id, True)


async def test_each_device_is_told_of_each_event_once_and_in_order(alice: Api, gateway: PushGateway) -> None:
    """Two devices of one user and one of another get all of 30 messages; the sender's own gets none."""
    bob = await alice.as_token(None).register("bob")
    carol = await alice.as_token(None).register("carol")
    room_id = await _room(alice, bob, carol)
    await set_pusher(alice, pusher(gateway.url, "alice"))
    await set_pusher(bob, pusher(gateway.url, "bob 1"))
    await set_pusher(bob, pusher(gateway.url, "bob 2"))
    await set_pusher(carol, pusher(gateway.url, "carol"))
    sent = [await _say(alice, room_id, f"number {number}") for number in range(30)]
    await gateway.count(90)
    for key in ("bob 1", "bob 2", "carol"):
        assert gateway.events(key) == sent
    assert gateway.events("alice") == []


async def test_what_was_before_the_pusher_is_not_pushed(alice: Api, gateway: PushGateway) -> None:
    """A device that is added, or switched on again, is told of what comes after."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _room(alice, bob)
    await _say(alice, room_id, "before")
    await set_pusher(bob, pusher(gateway.url))
    first = await _say(alice, room_id, "first")
    await gateway.count(1)
    await set_pusher(bob, pusher(gateway.url, **{"org.matrix.msc3881.enabled": False}))
    await _say(alice, room_id, "while it was off")
    await set_pusher(bob, pusher(gateway.url, **{"org.matrix.msc3881.enabled": True}))
    second = await _say(alice, room_id, "second")
    await gateway.count(2)
    assert gateway.events() == [first, second]


async def test_reading_lowers_the_badge_once(alice: Api, gateway: PushGateway) -> None:
    """Who has read is told the new number without an event, once, be it 0; who had read nothing is told nothing."""
    bob = await alice.as_token(None).register("bob")
    room_id, other = await _room(alice, bob), await _room(alice, bob)
    await set_pusher(bob, pusher(gateway.url))
    await _say(alice, room_id)
    await gateway.count(1)
    second = await _say(alice, room_id)
    await gateway.count(2)
    third = await _say(alice, other)
    await gateway.count(3)
    assert [one["counts"] for one in gateway.notifications] == [{"unread": n} for n in (1, 2, 3)]
    await _read(bob, room_id, second)
    told = (await gateway.count(4))[3]
    assert told["counts"] == {"unread": 1}
    assert "event_id" not in told
    await _read(bob, other, third)
    assert (await gateway.count(5))[4]["counts"] == {"unread": 0}
    await _read(bob, other, third)
    await _say(alice, room_id, "again")
    told = (await gateway.count(6))[5]
    assert "event_id" in told
    assert told["counts"] == {"unread": 1}


async def test_a_gateway_that_fails_is_asked_again_until_it_takes_it(alice: Api, gateway: PushGateway) -> None:
    """Errors, nonsense and a closed connection cost time and nothing else: afterwards all is there, in order, once."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _room(alice, bob)
    await set_pusher(bob, pusher(gateway.url))
    answers = [
        web.Response(status=500),
        web.Response(status=429),
        web.Response(status=404),
        web.Response(text="<html>Please pay for this Wi-Fi"),
        web.Response(status=307, headers={"Location": "/elsewhere"}),
    ]
    accepted: list[str] = []

    async def answer(notification: dict[str, Any]) -> web.Response:
        if answers:
            return answers.pop(0)
        accepted.append(notification["event_id"])
        return taken()

    gateway.answer = answer
    sent = [await _say(alice, room_id, f"{number}") for number in range(3)]
    await gateway.wait_for(lambda: len(gateway.events()) == 8)
    assert accepted == sent


async def test_what_a_gateway_refuses_does_not_hold_up_the_rest(alice: Api, gateway: PushGateway) -> None:
    """A notification that is refused as such is given up after a few attempts, and the next is sent."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _room(alice, bob)
    await set_pusher(bob, pusher(gateway.url))

    async def answer(notification: dict[str, Any]) -> web.Response:
        return web.Response(status=413) if notification["content"]["body"] == "large" else taken()

    gateway.answer = answer
    large = await _say(alice, room_id, "large")
    small = await _say(alice, room_id, "small")
    await gateway.wait_for(lambda: small in gateway.events())
    assert gateway.events() == [large] * 4 + [small]


async def test_a_rejected_key_is_forgotten(alice: Api, gateway: PushGateway) -> None:
    """The pusher whose key the gateway rejects is gone; keys that were not asked about don't matter."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _room(alice, bob)
    await set_pusher(bob, pusher(gateway.url, "stale"))
    await set_pusher(bob, pusher(gateway.url, "fresh"))

    async def answer(_: dict[str, Any]) -> web.Response:
        return taken("stale", "somebody else's")

    gateway.answer = answer
    first = await _say(alice, room_id)
    await gateway.count(2)
    second = await _say(alice, room_id)
    await gateway.wait_for(lambda: gateway.events("fresh") == [first, second])
    assert gateway.events("stale") == [first]
    assert [one["pushkey"] for one in (await bob.get("/pushers")).body["pushers"]] == ["fresh"]


async def test_a_gateway_that_does_not_answer_holds_up_nobody_else(alice: Api, gateway: PushGateway) -> None:
    """While twenty devices wait for a gateway that hangs, another gateway's device is told at once."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _room(alice, bob)
    async with push_gateway() as slow:
        hanging = asyncio.Event()

        async def answer(_: dict[str, Any]) -> web.Response:
            await hanging.wait()
            return taken()

        slow.answer = answer
        for number in range(20):
            await set_pusher(bob, pusher(slow.url, f"slow {number}"))
        await set_pusher(bob, pusher(gateway.url, "quick"))
        event_id = await _say(alice, room_id)
        await gateway.wait_for(lambda: gateway.events("quick") == [event_id], 5)
        await slow.count(8)
        hanging.set()
        await slow.count(20)
        assert sorted(one["devices"][0]["pushkey"] for one in slow.notifications) == sorted(
            f"slow {n}" for n in range(20)
        )


async def test_nothing_is_pushed_of_what_was_read_or_redacted_meanwhile(alice: Api, gateway: PushGateway) -> None:
    """When a gateway is back, what the user has read elsewhere and what was taken back is not told any more."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _room(alice, bob)
    await set_pusher(bob, pusher(gateway.url))
    gateway.answer = refused(503)
    await _say(alice, room_id, "read elsewhere")
    await gateway.count(1)
    second = await _say(alice, room_id, "read elsewhere, too")
    await _read(bob, room_id, second)
    taken_back = await _say(alice, room_id, "a secret")
    path = f"/rooms/{quote(room_id)}/redact/{quote(taken_back)}/{next(_numbers)}"
    assert (await alice.put(path, {})).status == 200
    before = len(gateway.notifications)
    last = await _say(alice, room_id, "still to be read")
    gateway.answer = None
    await gateway.wait_for(lambda: last in gateway.events())
    assert not {second, taken_back} & set(gateway.events()[before:])


async def test_a_device_that_is_signed_out_is_told_nothing(alice: Api, gateway: PushGateway) -> None:
    """A pusher goes with its device: by logout, and by a change of the password elsewhere."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _room(alice, bob)
    elsewhere = await alice.as_token(None).login("bob")
    await set_pusher(elsewhere, pusher(gateway.url, "elsewhere"))
    await set_pusher(bob, pusher(gateway.url, "here"))
    assert (await elsewhere.post("/logout", {})).status == 200
    event_id = await _say(alice, room_id)
    await gateway.wait_for(lambda: gateway.events("here") == [event_id])
    assert gateway.events("elsewhere") == []


async def test_after_a_restart_all_is_told_once(database: str, tmp_path: Path, gateway: PushGateway) -> None:
    """What was waiting for a gateway when the server stopped is sent by the next, after the time that was left."""
    config = server_config(database, tmp_path, **_ALLOWED)
    async with running_server(config) as server, open_api(server.url) as api:
        alice, bob = await api.register("alice"), await api.register("bob")
        room_id = await _room(alice, bob)
        await set_pusher(bob, pusher(gateway.url))
        first = await _say(alice, room_id, "taken")
        await gateway.count(1)
        gateway.answer = refused(503)
        second = await _say(alice, room_id, "refused")
        await gateway.wait_for(lambda: second in gateway.events())
        third = await _say(alice, room_id, "not sent")
    gateway.answer = None
    gateway.notifications.clear()
    async with running_server(config):
        await gateway.wait_for(lambda: third in gateway.events())
    assert gateway.events() == [second, third]
    assert first not in gateway.events()


async def test_what_could_not_be_told_for_a_day_is_given_up(alice: Api, gateway: PushGateway, server: Server) -> None:
    """The gateway gets what is new when it is back, and not the whole of its absence."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _room(alice, bob)
    await set_pusher(bob, pusher(gateway.url))
    gateway.answer = refused(503)
    old = [await _say(alice, room_id, f"{number}") for number in range(3)]
    await gateway.wait_for(lambda: old[0] in gateway.events())
    async with server.services.pool.acquire() as conn:
        while await conn.fetchval("SELECT count(*) FROM push_queue") < len(old):
            await conn.execute("SELECT 1")
        await conn.execute("UPDATE push_queue SET queued_ts = queued_ts - 86400001")
    new = await _say(alice, room_id, "new")
    gateway.answer = None
    await gateway.wait_for(lambda: new in gateway.events())
    assert not {*old[1:]} & set(gateway.events())
    await _say(alice, room_id, "and so on")
    await gateway.wait_for(lambda: gateway.events()[-1] != new)
    async with server.services.pool.acquire() as conn:
        assert await conn.fetchval("SELECT failures FROM pushers") == 0


async def test_no_gateway_inside_is_asked(database: str, tmp_path: Path, gateway: PushGateway) -> None:
    """An address that was allowed once, or that a name leads to now, is refused when it is connected to."""
    async with running_server(server_config(database, tmp_path, **_ALLOWED)) as server, open_api(server.url) as api:
        alice, bob = await api.register("alice"), await api.register("bob")
        room_id = await _room(alice, bob)
        await set_pusher(bob, pusher(gateway.url))
        async with server.services.pool.acquire() as conn:
            await conn.execute("UPDATE pushers SET retry_at_ts = 99999999999999")
        await _say(alice, room_id, "a secret")
    async with running_server(server_config(database, tmp_path)) as server:
        async with server.services.pool.acquire() as conn, asyncio.timeout(30):
            await conn.execute("UPDATE pushers SET retry_at_ts = 0, failures = 0")
        async with open_api(server.url) as api:
            alice = await api.login("alice")
            await _say(alice, room_id, "another")
        async with server.services.pool.acquire() as conn, asyncio.timeout(30):
            while not await conn.fetchval("SELECT failures FROM pushers"):
                await conn.execute("SELECT 1")
    assert gateway.notifications == []
