"""matrix-nio as a client of our server: what a bot written with it does from its first login on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from nio import RoomPreset, RoomVisibility

from tests.interop.conftest import Register
from tests.interop.nio_client import NioClient, logged_in, restarted
from tests.support.processes import Homeserver

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


async def _room(creator: NioClient, *guests: NioClient) -> str:
    answer = await creator.nio.room_create(
        visibility=RoomVisibility.private,
        preset=RoomPreset.private_chat,
        name="Bots",
        invite=[guest.nio.user_id for guest in guests],
    )
    room_id = str(answer.room_id)
    for guest in guests:
        await guest.accept(room_id)
    await creator.knows(room_id)
    return room_id


async def test_two_clients_chat(ours: Homeserver, register: Register, tmp_path: Path) -> None:
    """Two clients log in, one makes a room and invites the other; each sees every message once and in order."""
    carol, dave = [(await register(ours, name)).user_id for name in ("carol-nio", "dave-nio")]
    async with (
        logged_in(ours.url, carol, _directory(tmp_path / "carol")) as (first, _),
        logged_in(ours.url, dave, _directory(tmp_path / "dave")) as (second, _),
    ):
        room_id = await _room(first, second)
        said = []
        for number in range(10):
            speaker, text = (first, second)[number % 2], f"message {number}"
            await speaker.send(room_id, text)
            said.append((speaker.nio.user_id, text))
        for client in (first, second):
            await client.sees(room_id, *(text for _, text in said))
            assert client.messages(room_id) == said
            assert client.nio.rooms[room_id].name == "Bots"
            assert set(client.nio.rooms[room_id].users) == {carol, dave}


async def test_a_restart_misses_nothing(ours: Homeserver, register: Register, tmp_path: Path) -> None:
    """A client that is restarted again and again syncs from its stored token, and no message is lost or seen twice."""
    erin, frank = [(await register(ours, name)).user_id for name in ("erin-nio", "frank-nio")]
    store = _directory(tmp_path / "frank")
    async with logged_in(ours.url, erin, _directory(tmp_path / "erin")) as (sender, _):
        async with logged_in(ours.url, frank, store) as (reader, login):
            room_id = await _room(sender, reader)
            await sender.send(room_id, "start")
            await reader.sees(room_id, "start")
        texts = [f"message {number}" for number in range(80)]

        async def send_all() -> None:
            for text in texts:
                await sender.send(room_id, text)

        sending = asyncio.create_task(send_all())
        for seen in ("message 15", "message 35", "message 55", texts[-1]):
            async with restarted(ours.url, login, store, reader) as reader:
                await reader.sees(room_id, seen)
        await sending
        assert [text for _, text in reader.messages(room_id)] == ["start", *texts]


def _directory(path: Path) -> Path:
    path.mkdir()
    return path
