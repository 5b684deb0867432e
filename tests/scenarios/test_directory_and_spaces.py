"""Rooms of one server as users of another find them: directory, spaces, summaries, moments of their history."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from tests.support.client import Client, RequestFailed
from tests.support.federating import Network, Node

SPACE = {"type": "m.space"}


async def _pair(network: Network) -> tuple[Node, Node, Client, Client]:
    one, two = await network.server(), await network.server()
    return one, two, await one.user("alice"), await two.user("bob")


async def _get_v1(node: Node, user: Client, path: str, **query: str) -> Any:
    """GET below /_matrix/client/v1, where `Client` does not go."""
    headers = {"Authorization": f"Bearer {user.access_token}"}
    url = f"{node.url}/_matrix/client/v1{path}"
    async with aiohttp.ClientSession() as session, session.get(url, params=query, headers=headers) as response:
        answer = await response.json()
        if response.status != 200:
            raise RequestFailed("GET", path, response.status, answer)
        return answer


async def test_bob_searches_the_directory_of_another_server(network: Network) -> None:
    """The directory of another server is listed, searched and paged through like one's own."""
    one, two, alice, bob = await _pair(network)
    rooms = [await alice.create_room(visibility="public", name=f"Harbour {number}") for number in range(3)]
    await alice.create_room(visibility="public", name="Elsewhere")
    search = {"limit": 2, "filter": {"generic_search_term": "harbour"}}
    first = await bob.request("POST", "/publicRooms", search, {"server": one.name})
    second = await bob.request("POST", "/publicRooms", search | {"since": first["next_batch"]}, {"server": one.name})
    assert [room["room_id"] for room in first["chunk"] + second["chunk"]] == rooms[::-1]
    listed = await bob.request("GET", "/publicRooms", query={"server": one.name})
    assert len(listed["chunk"]) == 4
    assert (await bob.request("GET", "/publicRooms", query={"server": two.name}))["chunk"] == []


async def test_bob_walks_through_a_space_of_another_server(network: Network) -> None:
    """Rooms of a space that are elsewhere are described by that server, as far as this user could join or read them."""
    one, two, alice, bob = await _pair(network)

    async def add(user: Client, space: str, child: str, order: str, via: Node = one) -> None:
        await user.set_state(space, "m.space.child", {"via": [via.name], "order": order}, child)

    leaf = await alice.create_room(preset="public_chat", name="leaf")
    inner = await alice.create_room(preset="public_chat", name="inner", creation_content=SPACE)
    closed = await alice.create_room(preset="private_chat", name="closed")
    await add(alice, inner, leaf, "a")
    await add(alice, inner, closed, "b")
    outer = await bob.create_room(name="outer", creation_content=SPACE)
    await add(bob, outer, inner, "a")
    await add(bob, outer, "!nobody:nowhere.invalid", "b")
    answer = await _get_v1(two, bob, f"/rooms/{quote(outer)}/hierarchy")
    assert [room["name"] for room in answer["rooms"]] == ["outer", "inner", "leaf"]
    assert [event["state_key"] for event in answer["rooms"][1]["children_state"]] == [leaf, closed]
    network.cut(one, two)
    again = await _get_v1(two, bob, f"/rooms/{quote(outer)}/hierarchy")
    assert again == answer, "what was described is remembered for a while"


async def test_bob_reads_what_a_room_elsewhere_is(network: Network) -> None:
    """A room of another server is summarised if this user could join it, else it is as if it didn't exist."""
    one, two, alice, bob = await _pair(network)
    open_room = await alice.create_room(preset="public_chat", name="Open", room_alias_name="open", room_version="11")
    closed = await alice.create_room(preset="private_chat", name="Closed", room_version="11")
    summary = await _get_v1(two, bob, f"/room_summary/{quote(open_room)}", via=one.name)
    assert (summary["name"], summary["num_joined_members"], summary["membership"]) == ("Open", 1, "leave")
    by_alias = await _get_v1(two, bob, f"/room_summary/{quote(f'#open:{one.name}')}")
    assert by_alias == summary
    with pytest.raises(RequestFailed) as refused:
        await _get_v1(two, bob, f"/room_summary/{quote(closed)}", via=one.name)
    assert (refused.value.status, refused.value.errcode) == (404, "M_NOT_FOUND")


async def test_bob_is_invited_and_reads_what_the_room_is(network: Network) -> None:
    """The invited are told of a closed room, even by the invitation alone when its server can't be reached."""
    one, two, alice, bob = await _pair(network)
    room_id = await alice.create_room(preset="private_chat", name="Closed", room_version="11", invite=[bob.user_id])
    await bob.sync_until(lambda: bob.room(room_id).membership == "invite", "to be invited")
    network.cut(one, two)
    summary = await _get_v1(two, bob, f"/room_summary/{quote(room_id)}")
    assert (summary["name"], summary["membership"], summary["room_version"]) == ("Closed", "invite", "11")


async def test_bob_jumps_to_a_moment_before_he_came(network: Network) -> None:
    """The event next to a moment is found although this server has not fetched that part of the history."""
    one, two, alice, bob = await _pair(network)
    room_id = await alice.create_room(preset="public_chat")
    sent = [await alice.send(room_id, f"message {number}") for number in range(130)]
    history = {event["event_id"]: event for event in await alice.history(room_id)}
    await bob.join(room_id, via=one.name)
    path = f"/rooms/{quote(room_id)}/timestamp_to_event"
    wanted = history[sent[10]]["origin_server_ts"]
    for direction in ("f", "b"):
        found = await _get_v1(two, bob, path, ts=str(wanted), dir=direction)
        assert found["origin_server_ts"] == wanted
        context = await bob.request("GET", f"/rooms/{quote(room_id)}/context/{quote(found['event_id'])}")
        assert context["event"]["event_id"] == found["event_id"]
    with pytest.raises(RequestFailed):
        await _get_v1(two, bob, path, ts="1", dir="b")


async def test_a_room_with_members_elsewhere_is_upgraded(network: Network) -> None:
    """Members on other servers see the tombstone, and come to the new room over the server that made it."""
    one, _, alice, bob = await _pair(network)
    room_id = await alice.create_room(preset="public_chat", name="Old", room_version="10")
    await bob.join(room_id, via=one.name)
    answer = await alice.request("POST", f"/rooms/{quote(room_id)}/upgrade", {"new_version": "12"})
    new_id = answer["replacement_room"]
    await bob.sync_until(
        lambda: ("m.room.tombstone", "") in bob.room(room_id).state, "to be told that the room was replaced"
    )
    assert bob.room(room_id).state["m.room.tombstone", ""]["content"]["replacement_room"] == new_id
    await bob.join(new_id, via=one.name)
    await bob.sync_until(lambda: bob.room(new_id).membership == "join", "to be in the new room")
    assert bob.room(new_id).state["m.room.create", ""]["content"]["predecessor"] == {"room_id": room_id}
    await bob.send(new_id, "here I am")
    await alice.sees(new_id, "here I am")
