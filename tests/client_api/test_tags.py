"""Tags of rooms.  # spec: client-server-api/#room-tagging"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.api import Api


@pytest.fixture
async def room(alice: Api) -> str:
    """A room of alice's."""
    return str((await alice.post("/createRoom", {})).body["room_id"])


def tags_path(user: Api, room: str, tag: str = "") -> str:
    return f"/user/{user.user_id}/rooms/{room}/tags" + (f"/{tag}" if tag else "")


async def tags(user: Api, room: str) -> Any:
    answer = await user.get(tags_path(user, room))
    assert answer.status == 200, answer
    return answer.body["tags"]


async def test_tags_are_added_changed_and_removed(alice: Api, room: str) -> None:
    """A room may have several tags; each is put, replaced and deleted by its name."""
    assert await tags(alice, room) == {}
    assert (await alice.put(tags_path(alice, room, "m.favourite"), {"order": 0.25})).body == {}
    await alice.put(tags_path(alice, room, "u.W%C3%B6rk%2F1"), {})
    assert await tags(alice, room) == {"m.favourite": {"order": 0.25}, "u.Wörk/1": {}}
    await alice.put(tags_path(alice, room, "m.favourite"), {"order": 1, "org.example.color": "red"})
    assert (await alice.delete(tags_path(alice, room, "u.W%C3%B6rk%2F1"))).body == {}
    assert await tags(alice, room) == {"m.favourite": {"order": 1, "org.example.color": "red"}}
    assert (await alice.delete(tags_path(alice, room, "u.never"))).body == {}


async def test_tags_are_account_data_of_the_room(alice: Api, room: str) -> None:
    """Tags come down sync as an m.tag event of the room, and are what is set as that account data."""
    since = (await alice.get("/sync")).body["next_batch"]
    await alice.put(tags_path(alice, room, "m.lowpriority"), {"order": 0})
    section = (await alice.get(f"/sync?since={since}")).body["rooms"]["join"][room]
    assert section["account_data"]["events"] == [
        {"type": "m.tag", "content": {"tags": {"m.lowpriority": {"order": 0}}}}
    ]
    path = f"/user/{alice.user_id}/rooms/{room}/account_data/m.tag"
    await alice.put(path, {"tags": {"u.a": {}}, "other": 1})
    await alice.put(tags_path(alice, room, "u.b"), {})
    assert (await alice.get(path)).body == {"tags": {"u.a": {}, "u.b": {}}, "other": 1}


async def test_tags_added_at_once_are_all_kept(alice: Api, room: str) -> None:
    """Devices that tag a room at the same time don't undo each other's tags."""
    await asyncio.gather(*(alice.put(tags_path(alice, room, f"u.{number}"), {}) for number in range(12)))
    assert len(await tags(alice, room)) == 12


async def test_tags_are_private(alice: Api, room: str) -> None:
    """Nobody reads or sets another's tags."""
    bob = await alice.as_token(None).register("bob")
    assert (await bob.get(tags_path(alice, room))).errcode == "M_FORBIDDEN"
    assert (await bob.put(tags_path(alice, room, "u.x"), {})).errcode == "M_FORBIDDEN"
    assert (await bob.delete(tags_path(alice, room, "u.x"))).errcode == "M_FORBIDDEN"
    assert await tags(bob, room) == {}


@pytest.mark.parametrize("body", [{"order": "0.5"}, {"order": True}, {"order": 1.5}, {"order": -1}, {"order": []}, []])
async def test_malformed_tags_are_refused(alice: Api, room: str, body: Any) -> None:
    """`order` is a number from 0 to 1, the body an object; what is refused changes nothing."""
    assert (await alice.put(tags_path(alice, room, "u.x"), body)).status == 400
    assert await tags(alice, room) == {}


async def test_names_of_tags_have_at_most_255_bytes(alice: Api, room: str) -> None:
    """The name of a tag must not exceed 255 bytes."""
    assert (await alice.put(tags_path(alice, room, "u" * 255), {})).status == 200
    assert (await alice.put(tags_path(alice, room, "u" * 254 + "%C3%A4"), {})).errcode == "M_INVALID_PARAM"


async def test_malformed_tag_data_counts_as_none(alice: Api, room: str) -> None:
    """Clients can store anything as m.tag; what is no object of tags is no tags."""
    path = f"/user/{alice.user_id}/rooms/{room}/account_data/m.tag"
    malformed: list[dict[str, Any]] = [{"tags": []}, {"tags": None}, {"x": 1}]
    for content in malformed:
        await alice.put(path, content)
        assert await tags(alice, room) == {}
    await alice.put(tags_path(alice, room, "u.x"), {})
    assert await tags(alice, room) == {"u.x": {}}
