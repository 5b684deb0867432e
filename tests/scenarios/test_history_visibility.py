"""Who sees what of a room's past, by every way of reading it.  # spec: client-server-api/#room-history-visibility"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.client import Client, RequestFailed, eventually
from tests.support.federating import Network

_WORD = "needle"
_ALL: dict[str, str | int] = {"dir": "b", "limit": 100}
# What somebody sees who was invited, joined and has left again. Each is said in one of these times.
_SEEN = {
    "joined": {"joined"},
    "invited": {"invited", "joined"},
    "shared": {"before", "invited", "joined"},
    "world_readable": {"before", "invited", "joined"},
}


async def _get(reader: Client, path: str, query: dict[str, str | int] | None = None) -> Any:
    """The answer, None if it is refused."""
    try:
        return await reader.request("GET", path, None, query)
    except RequestFailed as refused:
        if refused.status not in (403, 404):
            raise
        return None


async def _related(reader: Client, room_id: str, event_id: str) -> set[str] | None:
    # Relations are below another prefix; the recursion takes in what replies to replies.
    path = f"/../v1/rooms/{quote(room_id)}/relations/{quote(event_id)}"
    found = await _get(reader, path)
    return None if found is None else {event["event_id"] for event in found["chunk"]}


async def _found(reader: Client, room_id: str) -> set[str]:
    context = {"before_limit": 10, "after_limit": 10}
    wanted = {"search_term": _WORD, "order_by": "recent", "event_context": context, "filter": {"limit": 50}}
    answer = await reader.request("POST", "/search", {"search_categories": {"room_events": wanted}})
    found = set()
    for each in answer["search_categories"]["room_events"]["results"]:
        around = [*each["context"]["events_before"], *each["context"]["events_after"]]
        found |= {event["event_id"] for event in [each["result"], *around] if event["room_id"] == room_id}
    return found


async def _synced(reader: Client, room_id: str) -> set[str]:
    wanted = {"room": {"include_leave": True, "timeline": {"limit": 100}}}
    rooms = (await reader.request("GET", "/sync", None, {"filter": json.dumps(wanted)}))["rooms"]
    section = rooms["join"].get(room_id) or rooms["leave"].get(room_id)
    return {event["event_id"] for event in section["timeline"]["events"]} if section else set()


async def _read(reader: Client, room_id: str, events: Iterable[str]) -> dict[str, set[str]]:
    """way of reading -> the events that it shows."""
    room = f"/rooms/{quote(room_id)}"
    seen: dict[str, set[str]] = {"event": set(), "context": set(), "around": set(), "relations": set()}
    for way, direction in (("back", "b"), ("forth", "f")):
        page = await _get(reader, f"{room}/messages", {**_ALL, "dir": direction})
        seen[way] = {event["event_id"] for event in page["chunk"]} if page else set()
    for event_id in events:
        if await _get(reader, f"{room}/event/{quote(event_id)}"):
            seen["event"].add(event_id)
        if around := await _get(reader, f"{room}/context/{quote(event_id)}", {"limit": 100}):
            seen["context"].add(event_id)
            seen["around"] |= {event["event_id"] for event in [*around["events_before"], *around["events_after"]]}
        if (related := await _related(reader, room_id, event_id)) is not None:
            seen["relations"].add(event_id)
            seen["around"] |= related
    seen["around"] |= seen["context"]
    seen["search"] = await _found(reader, room_id)
    return seen


@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
@pytest.mark.parametrize("visibility", _SEEN)
async def test_every_way_of_reading_shows_the_same(network: Network, visibility: str, remote: bool) -> None:
    """Pages, events, contexts, relations, search and sync show what the visibility allows at the time of each event:
    to somebody who is invited, joined, gone, or a stranger, on the room's server and on another."""
    one = await network.server()
    two = await network.server() if remote else one
    alice, bob, eve = await one.user("alice"), await two.user("bob"), await one.user("eve")
    state = {"type": "m.room.history_visibility", "content": {"history_visibility": visibility}}
    room_id = await alice.create_room(preset="private_chat", initial_state=[state])
    said: dict[str, str] = {}

    async def say(when: str) -> None:
        said[when] = await alice.send(room_id, f"{_WORD} {when}")
        relation = {"rel_type": "m.thread", "event_id": said[when]}
        await alice.send(room_id, {"msgtype": "m.text", "body": f"in thread {when}", "m.relates_to": relation})

    async def expect(reader: Client, times: set[str]) -> None:
        wanted = {said[when] for when in times & said.keys()}
        for way, shown in (await _read(reader, room_id, said.values())).items():
            assert shown & set(said.values()) == wanted, way

    await say("before")
    await alice.membership(room_id, "invite", bob.user_id)
    await say("invited")
    await bob.join(room_id, via=one.name)
    await say("joined")

    async def has_arrived() -> bool:
        return await _get(bob, f"/rooms/{room_id}/event/{quote(said['joined'])}") is not None

    await eventually(has_arrived, "the message to arrive")
    await expect(bob, _SEEN[visibility])
    await bob.membership(room_id, "leave")

    async def has_left() -> bool:
        member = await _get(alice, f"/rooms/{room_id}/state/m.room.member/{bob.user_id}")
        return bool(member["membership"] == "leave")

    await eventually(has_left, "the leave to arrive")
    await say("left")
    readable = visibility == "world_readable"
    await expect(bob, _SEEN[visibility] | ({"left"} if readable and not remote else set()))
    synced = await _synced(bob, room_id)
    assert said["joined"] in synced
    assert said["left"] not in synced
    # Who is not in the room may read it by its id if all may, but finds nothing there by searching.
    seen = await _read(eve, room_id, said.values())
    assert seen.pop("search") == set()
    for way, shown in seen.items():
        assert shown & set(said.values()) == (set(said.values()) if readable else set()), way
    assert await _synced(eve, room_id) == set()


async def test_the_invited_read_nothing_before_they_join(network: Network) -> None:
    """An invitation opens no room: until the invited join, reading is refused, whatever they will see then."""
    one = await network.server()
    alice, bob = await one.user("alice"), await one.user("bob")
    state = {"type": "m.room.history_visibility", "content": {"history_visibility": "invited"}}
    room_id = await alice.create_room(preset="private_chat", initial_state=[state], invite=[bob.user_id])
    event_id = await alice.send(room_id, f"{_WORD}")
    assert not any((await _read(bob, room_id, [event_id])).values())
    for path in ("state", "members", "joined_members", "state/m.room.create"):
        assert await _get(bob, f"/rooms/{room_id}/{path}") is None
    await bob.join(room_id)
    assert all((await _read(bob, room_id, [event_id])).values())
