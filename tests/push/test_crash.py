"""What devices are told when the server dies in the middle of telling them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web

from tests.support.api import open_api
from tests.support.processes import talk_pai
from tests.support.push_gateway import push_gateway, pusher, set_pusher, taken

_MESSAGES = 12
_KILLED_AT = (3, 8)  # which notifications of the first device the server does not live to see answered


async def test_each_event_rings_once_on_each_device_whenever_the_server_dies(database: str, tmp_path: Path) -> None:
    """Killed between a gateway's taking a notification and the note of it, the server tells every device of every event
    afterwards, in order, and repeats at most the one that was under way, by whose event the gateway knows it."""
    settings: dict[str, Any] = {
        "database": {"url": database},
        "federation": {"enabled": False, "allow_addresses": ["127.0.0.0/8"]},
    }
    home = talk_pai(tmp_path / "server", settings=settings)
    killed = asyncio.Event()
    rung: dict[str, list[str]] = {"one": [], "two": []}
    repeated: dict[str, int] = {"one": 0, "two": 0}
    kills = list(_KILLED_AT)

    async def answer(notification: dict[str, Any]) -> web.Response:
        key, event_id = notification["devices"][0]["pushkey"], notification["event_id"]
        if event_id in rung[key]:
            repeated[key] += 1
        else:
            rung[key].append(event_id)
        if kills and key == "one" and len(rung[key]) == kills[0]:
            kills.pop(0)
            await asyncio.to_thread(home.process.kill)
            killed.set()
        return taken()

    async with push_gateway() as gateway:
        gateway.answer = answer
        try:
            await asyncio.to_thread(home.process.start)
            async with open_api(home.url) as api:
                alice, bob = await api.register("alice"), await api.register("bob")
                room_id = (await alice.post("/createRoom", {"preset": "public_chat"})).body["room_id"]
                await bob.post(f"/join/{quote(room_id)}", {})
                for key in rung:
                    body = pusher("http://127.0.0.1:9/_matrix/push/v1/notify", key)
                    await set_pusher(bob, body)
                # They wait for a gateway that is not there, until it is.
                path = f"/rooms/{quote(room_id)}/send/m.room.message"
                sent = [
                    (await alice.put(f"{path}/{n}", {"msgtype": "m.text", "body": str(n)})).body["event_id"]
                    for n in range(_MESSAGES)
                ]
                for key in rung:
                    await set_pusher(bob, pusher(gateway.url, key))
                for _ in _KILLED_AT:
                    async with asyncio.timeout(60):
                        await killed.wait()
                    killed.clear()
                    await asyncio.to_thread(home.process.start)
                await gateway.wait_for(lambda: all(len(events) == _MESSAGES for events in rung.values()))
        finally:
            await asyncio.to_thread(home.process.kill)
    assert rung == {"one": sent, "two": sent}
    assert repeated["one"] == len(_KILLED_AT)
    assert repeated["two"] <= len(_KILLED_AT)
