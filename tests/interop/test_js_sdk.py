"""matrix-js-sdk as a client of our server, alone and together with matrix-nio in one room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from tests.interop.conftest import Register
from tests.interop.js_client import JsClient, js_client
from tests.interop.nio_client import logged_in, restarted
from tests.support.client import PASSWORD
from tests.support.processes import Homeserver

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


async def _seen_by_js(client: JsClient, room_id: str) -> list[tuple[str, str]]:
    return [(message["sender"], message["body"]) for message in await client.call("messages", room_id)]


async def test_two_clients_chat(ours: Homeserver, register: Register, node: Path, tmp_path: Path) -> None:
    """Two clients log in, one makes a room, the other joins; messages, edits, redactions and state come across."""
    grace, heidi = [(await register(ours, name)).user_id for name in ("grace-js", "heidi-js")]
    async with js_client(node, tmp_path / "grace.log") as first, js_client(node, tmp_path / "heidi.log") as second:
        assert await first.call("login", ours.url, grace, PASSWORD) == grace
        assert await second.call("login", ours.url, heidi, PASSWORD) == heidi
        room_id = await first.call("createRoom", {"preset": "private_chat", "name": "Office", "invite": [heidi]})
        await second.call("accept", room_id)
        said = []
        for number in range(10):
            speaker, user_id = ((first, grace), (second, heidi))[number % 2]
            await speaker.call("send", room_id, f"message {number}")
            said.append((user_id, f"message {number}"))
        for client in (first, second):
            await client.call("sees", room_id, [text for _, text in said], 30)
            assert await _seen_by_js(client, room_id) == said
        wrong = await first.call("send", room_id, "wrong")
        await first.call("edit", room_id, wrong, "right")
        await second.call("sees", room_id, ["right"], 30)
        await second.call("typing", room_id, True)
        await second.call("read", room_id)
        await first.call("redact", room_id, wrong)
        await first.call("setTopic", room_id, "Work")
        await second.call("seesTopic", room_id, "Work", 30)
        assert "wrong" not in [text for _, text in await _seen_by_js(second, room_id)]
        await first.call("logout")
        await second.call("logout")


async def test_js_sdk_and_nio_talk_at_once(ours: Homeserver, register: Register, node: Path, tmp_path: Path) -> None:
    """300 messages sent at once by two libraries, one of which restarts meanwhile: both see all, once, in one order."""
    ivan, judy = [(await register(ours, name)).user_id for name in ("ivan-js", "judy-nio")]
    store = tmp_path / "judy"
    store.mkdir()
    by_ivan, by_judy = [f"ivan {number}" for number in range(150)], [f"judy {number}" for number in range(150)]
    async with js_client(node, tmp_path / "ivan.log") as js:
        await js.call("login", ours.url, ivan, PASSWORD)
        async with logged_in(ours.url, judy, store) as (before, login):
            room_id = await js.call("createRoom", {"preset": "private_chat", "name": "Busy", "invite": [judy]})
            await before.accept(room_id)
            js_sends = asyncio.create_task(_send(lambda text: js.call("send", room_id, text), by_ivan))
            await _send(lambda text: before.send(room_id, text), by_judy[:75])
        async with restarted(ours.url, login, store, before) as after:
            await after.knows(room_id)
            await _send(lambda text: after.send(room_id, text), by_judy[75:])
            await js_sends
            await after.sees(room_id, *by_ivan, *by_judy)
            await js.call("sees", room_id, [by_ivan[-1], by_judy[-1]], 30)
            seen = after.messages(room_id)
            assert sorted(seen) == sorted([(ivan, text) for text in by_ivan] + [(judy, text) for text in by_judy])
            assert await _seen_by_js(js, room_id) == seen


async def _send(send: Callable[[str], Awaitable[object]], texts: Sequence[str], at_once: int = 10) -> None:
    for start in range(0, len(texts), at_once):
        await asyncio.gather(*(send(text) for text in texts[start : start + at_once]))
