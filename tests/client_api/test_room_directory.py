"""The directory of published rooms."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from homeserver.main import Server, running_server
from tests.support.api import Api, open_api
from tests.support.servers import server_config


async def _create(user: Api, **fields: Any) -> str:
    answer = await user.post("/createRoom", fields)
    assert answer.status == 200, answer
    return str(answer.body["room_id"])


async def _publish(user: Api, name: str, **fields: Any) -> str:
    return await _create(user, visibility="public", name=name, **fields)


async def test_a_published_room_is_listed_with_what_it_shows(api: Api, alice: Api) -> None:
    """The directory lists a published room with name, topic, alias, members and rules, to anyone."""
    room_id = await _publish(alice, "Harbour", topic="Boats", room_alias_name="harbour", preset="public_chat")
    bob = await api.register("bob")
    await bob.post(f"/join/{quote(room_id)}", {})
    page = (await api.get("/publicRooms")).body
    assert page["chunk"] == [
        {
            "room_id": room_id,
            "name": "Harbour",
            "topic": "Boats",
            "canonical_alias": "#harbour:test.example",
            "num_joined_members": 2,
            "world_readable": False,
            "guest_can_join": False,
            "join_rule": "public",
        }
    ]
    assert page["total_room_count_estimate"] == 1


async def test_what_is_listed_follows_the_state(alice: Api, api: Api) -> None:
    """A new name, a redacted one, a member who goes: the directory shows the room as it is now."""
    room_id = await _publish(alice, "Harbour")
    path = f"/rooms/{quote(room_id)}/state/m.room.name/"
    event_id = (await alice.put(path, {"name": "Port"})).body["event_id"]
    assert (await api.get("/publicRooms")).body["chunk"][0]["name"] == "Port"
    await alice.put(f"/rooms/{quote(room_id)}/redact/{quote(event_id)}/1", {})
    assert "name" not in (await api.get("/publicRooms")).body["chunk"][0]
    await alice.post(f"/rooms/{quote(room_id)}/leave", {})
    assert (await api.get("/publicRooms")).body["chunk"] == []


async def test_pages_lead_there_and_back(alice: Api, api: Api) -> None:
    """The largest rooms come first; next_batch leads on and prev_batch back over the same rooms."""
    names = [f"Room {number}" for number in range(5)]
    rooms = [await _publish(alice, name) for name in names]
    bob = await api.register("bob")
    await bob.post(f"/join/{quote(rooms[2])}", {})
    first = (await api.get("/publicRooms", query={"limit": "2"})).body
    assert [room["name"] for room in first["chunk"]] == ["Room 2", "Room 4"]
    assert "prev_batch" not in first
    second = (await api.get("/publicRooms", query={"limit": "2", "since": first["next_batch"]})).body
    third = (await api.get("/publicRooms", query={"limit": "2", "since": second["next_batch"]})).body
    assert [room["name"] for room in second["chunk"] + third["chunk"]] == ["Room 3", "Room 1", "Room 0"]
    assert "next_batch" not in third
    back = (await api.get("/publicRooms", query={"limit": "2", "since": third["prev_batch"]})).body
    assert back["chunk"] == second["chunk"]
    start = (await api.get("/publicRooms", query={"limit": "2", "since": back["prev_batch"]})).body
    assert start["chunk"] == first["chunk"]
    assert "prev_batch" not in start
    assert (await api.get("/publicRooms", query={"since": "nonsense"})).errcode == "M_INVALID_PARAM"


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ({"generic_search_term": "HAFEN"}, {"Ärger im Hafen"}),
        ({"generic_search_term": "ärger"}, {"Ärger im Hafen"}),
        ({"generic_search_term": "港"}, {"港口"}),
        ({"generic_search_term": "#all"}, {"Everything"}),
        ({"generic_search_term": "nothing"}, set()),
        ({"room_types": ["m.space"]}, {"Everything"}),
        ({"room_types": [None]}, {"Ärger im Hafen", "港口"}),
        ({"room_types": ["m.space", None]}, {"Ärger im Hafen", "港口", "Everything"}),
        ({"room_types": []}, set()),
    ],
)
async def test_filters(alice: Api, filter: dict[str, Any], found: set[str]) -> None:
    """A search finds parts of names, topics and aliases in any case and script; room types narrow it."""
    await _publish(alice, "Ärger im Hafen")
    await _publish(alice, "港口")
    await _publish(alice, "Everything", room_alias_name="all", creation_content={"type": "m.space"})
    answer = await alice.post("/publicRooms", {"filter": filter})
    assert {room["name"] for room in answer.body["chunk"]} == found
    assert answer.body["total_room_count_estimate"] == len(found)


async def test_what_is_empty_or_malformed_is_left_out(alice: Api, api: Api) -> None:
    """A room whose name, topic and picture say nothing is listed without these keys."""
    state = [
        {"type": "m.room.name", "content": {"name": ""}},
        {"type": "m.room.topic", "content": {"topic": 5}},
        {"type": "m.room.avatar", "content": {"url": None}},
        {"type": "m.room.canonical_alias", "content": {"alias": None}},
    ]
    room_id = await _create(alice, visibility="public", initial_state=state)
    [entry] = (await api.get("/publicRooms")).body["chunk"]
    assert entry["room_id"] == room_id
    assert not entry.keys() & {"name", "topic", "avatar_url", "canonical_alias", "room_type"}


@pytest.mark.parametrize("name", ["老虎", "Grüße", "🦊", "with+plus", "sla/sh"])
async def test_aliases_in_any_script(alice: Api, api: Api, name: str) -> None:
    """The local part of an alias may have any characters but a colon and NUL; it is percent-encoded in paths."""
    room_id = await _create(alice, room_alias_name=name)
    path = "/directory/room/" + quote(f"#{name}:test.example", safe="")
    assert (await api.get(path)).body == {"room_id": room_id, "servers": ["test.example"]}
    bob = await api.register("bob")
    assert (await alice.put(f"/rooms/{room_id}/state/m.room.join_rules", {"join_rule": "public"})).status == 200
    assert (await bob.post("/join/" + quote(f"#{name}:test.example", safe=""), {})).body == {"room_id": room_id}
    assert (await alice.delete(path)).status == 200
    assert (await api.get(path)).errcode == "M_NOT_FOUND"


async def test_a_removed_alias_is_no_longer_the_rooms(alice: Api) -> None:
    """Whoever may say what a room is called no longer says so of an alias that they remove; whoever may not removes
    their own alias all the same."""
    bob = await alice.as_token(None).register("bob")
    room_id = await _create(alice, room_alias_name="main", preset="public_chat")
    state = f"/rooms/{room_id}/state/m.room.canonical_alias"
    await bob.post(f"/join/{room_id}", {})
    for user, name in ((alice, "other"), (bob, "bobs")):
        await user.put(f"/directory/room/%23{name}:test.example", {"room_id": room_id})
    aliases = [f"#{name}:test.example" for name in ("other", "bobs")]
    await alice.put(state, {"alias": "#main:test.example", "alt_aliases": aliases})
    assert (await bob.delete("/directory/room/%23bobs:test.example")).status == 200
    assert (await alice.get(state)).body["alt_aliases"] == aliases
    for name in ("main", "other"):
        assert (await alice.delete(f"/directory/room/%23{name}:test.example")).status == 200
    assert (await alice.get(state)).body == {"alt_aliases": ["#bobs:test.example"]}
    summary = (await alice.request("GET", f"/_matrix/client/v1/room_summary/{room_id}")).body
    assert "canonical_alias" not in summary


async def test_who_may_publish(alice: Api, api: Api) -> None:
    """Only members who may change what the room is called publish it or take it out; anyone may ask whether it is."""
    room_id = await _create(alice, preset="public_chat")
    path = f"/directory/list/room/{quote(room_id)}"
    bob = await api.register("bob")
    assert (await bob.put(path, {"visibility": "public"})).status == 403
    await bob.post(f"/join/{quote(room_id)}", {})
    assert (await bob.put(path, {"visibility": "public"})).errcode == "M_FORBIDDEN"
    assert (await api.get(path)).body == {"visibility": "private"}
    assert (await alice.put(path, {})).status == 200
    assert (await api.get(path)).body == {"visibility": "public"}
    assert (await alice.put(path, {"visibility": "private"})).status == 200
    assert (await api.get(path)).body == {"visibility": "private"}
    assert (await alice.put(path, {"visibility": "secret"})).errcode == "M_INVALID_PARAM"
    assert (await alice.put("/directory/list/room/!unknown:test.example", {})).errcode == "M_NOT_FOUND"
    assert (await api.get("/directory/list/room/!unknown:test.example")).errcode == "M_NOT_FOUND"


@pytest.mark.parametrize("field", ["visibility", "preset", "room_version", "room_alias_name"])
async def test_an_empty_choice_is_no_choice(alice: Api, field: str) -> None:
    """An empty string is none of the values of createRoom, and is not taken for the default; there is no room."""
    answer = await alice.post("/createRoom", {field: ""})
    assert answer.status == 400
    assert answer.errcode == ("M_UNSUPPORTED_ROOM_VERSION" if field == "room_version" else "M_INVALID_PARAM")
    assert (await alice.get("/joined_rooms")).body["joined_rooms"] == []


async def test_an_empty_visibility_changes_nothing(alice: Api) -> None:
    """The directory takes `public` and `private` only: an empty string does not publish a room."""
    path = f"/directory/list/room/{quote(await _create(alice))}"
    assert (await alice.put(path, {"visibility": ""})).errcode == "M_INVALID_PARAM"
    assert (await alice.get(path)).body == {"visibility": "private"}


async def test_other_servers_are_asked_only_for_users(api: Api) -> None:
    """Without a token, nobody makes this server ask another one."""
    assert (await api.get("/publicRooms", query={"server": "peer.test"})).status == 401


REGISTRATION = """
id: bridge
url: null
as_token: as-secret
hs_token: hs-secret
sender_localpart: bridgebot
namespaces: {users: [], aliases: [], rooms: []}
"""


@pytest.fixture
async def bridged(database: str, tmp_path: Path) -> AsyncIterator[Server]:
    file = tmp_path / "bridge.yaml"
    file.write_text(REGISTRATION)
    config = server_config(database, tmp_path, application_services=[str(file)])
    async with running_server(config) as server:
        yield server


async def test_networks_have_lists_of_their_own(bridged: Server) -> None:
    """An application service lists rooms for its network: seen by asking for the network or for all of them."""
    async with open_api(bridged.url) as api:
        alice = await api.register("alice")
        room_id = await _create(alice, name="Bridged")
        await _publish(alice, "Plain")
        path = f"/directory/list/appservice/irc/{quote(room_id)}"
        assert (await api.put(path, {"visibility": "public"})).status == 401
        assert (await alice.put(path, {"visibility": "public"})).status == 403
        bridge = api.as_token("as-secret")
        assert (await bridge.put(path, {})).errcode == "M_MISSING_PARAM"
        assert (await bridge.put(path, {"visibility": "public"})).status == 200

        async def names(**body: Any) -> set[str]:
            return {room["name"] for room in (await alice.post("/publicRooms", body)).body["chunk"]}

        assert await names() == {"Plain"}
        assert await names(third_party_instance_id="bridge|irc") == {"Bridged"}
        assert await names(include_all_networks=True) == {"Plain", "Bridged"}
        both = {"include_all_networks": True, "third_party_instance_id": "bridge|irc"}
        assert (await alice.post("/publicRooms", both)).errcode == "M_INVALID_PARAM"
        await bridge.put(path, {"visibility": "private"})
        assert await names(third_party_instance_id="bridge|irc") == set()


async def test_a_page_of_many_rooms_is_read_from_an_index(server: Server) -> None:
    """With 10,000 published rooms a page costs an index scan of that page, not a sort of them all."""
    async with server.services.pool.acquire() as conn:
        await conn.execute(
            "INSERT INTO rooms (room_id, room_version, created_ts) "
            "SELECT '!' || n || ':test.example', '11', 0 FROM generate_series(1, 10000) n"
        )
        await conn.execute(
            "INSERT INTO room_summaries (room_nid, joined_members, published, name, search) "
            "SELECT room_nid, 1 + room_nid % 100, true, 'Room', 'room' FROM rooms"
        )
        await conn.execute("ANALYZE room_summaries")
        plan = await conn.fetch(
            "EXPLAIN SELECT * FROM room_summaries s WHERE s.published AND s.joined_members > 0 "
            "AND (s.joined_members, s.room_nid) < (50, 5000) ORDER BY s.joined_members DESC, s.room_nid DESC LIMIT 50"
        )
    text = "\n".join(row[0] for row in plan)
    assert "room_summaries_directory" in text
    assert "Sort" not in text
