"""matrix-nio with encryption as a client of our server: devices find each other's keys and read what others can't."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from nio import EnableEncryptionBuilder, RoomPreset, RoomVisibility

from tests.interop.conftest import Register
from tests.interop.nio_client import NioClient, logged_in
from tests.support.processes import Homeserver

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


async def _encrypted_room(creator: NioClient, guest: NioClient) -> str:
    answer = await creator.nio.room_create(
        visibility=RoomVisibility.private,
        preset=RoomPreset.private_chat,
        invite=[guest.nio.user_id],
        initial_state=[EnableEncryptionBuilder().as_dict()],
    )
    room_id = str(answer.room_id)
    await guest.accept(room_id)
    for client in (creator, guest):
        await _sees_both(client, room_id)
    return room_id


async def _sees_both(client: NioClient, room_id: str) -> None:
    def both() -> bool:
        room = client.nio.rooms.get(room_id)
        return room is not None and room.encrypted and len(room.users) == 2

    await client.until(both, "to see both members of an encrypted room")


async def _say(speaker: NioClient, room_id: str, text: str) -> None:
    content = {"msgtype": "m.text", "body": text}
    await speaker.nio.room_send(room_id, "m.room.message", content, ignore_unverified_devices=True)


async def _knows_device(client: NioClient, other: NioClient) -> None:
    def known() -> bool:
        return other.nio.device_id in client.nio.device_store[other.nio.user_id]

    await client.until(known, "to know the other's device")


def _directory(path: Path) -> Path:
    path.mkdir()
    return path


async def test_an_encrypted_conversation(ours: Homeserver, register: Register, tmp_path: Path) -> None:
    """Two users write to each other in an encrypted room, and each reads all that the server can't."""
    accounts = [await register(ours, name) for name in ("heidi-e2e", "ivan-e2e")]
    async with AsyncExitStack() as stack:
        heidi, ivan = [
            (
                await stack.enter_async_context(
                    logged_in(ours.url, one.user_id, _directory(tmp_path / one.user_id[1:4]))
                )
            )[0]
            for one in accounts
        ]
        room_id = await _encrypted_room(heidi, ivan)
        await _knows_device(heidi, ivan)
        await _knows_device(ivan, heidi)
        said = []
        for number in range(6):
            speaker, text = (heidi, ivan)[number % 2], f"secret {number}"
            await _say(speaker, room_id, text)
            said.append((speaker.nio.user_id, text))
            for client in (heidi, ivan):
                await client.sees(room_id, text)
        for client in (heidi, ivan):
            assert client.messages(room_id) == said
        stored = [event["type"] for event in await accounts[0].history(room_id)]
    assert stored.count("m.room.encrypted") == len(said)
    assert "m.room.message" not in stored
