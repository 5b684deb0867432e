"""Searching for users."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from homeserver.main import Server, running_server
from tests.support.api import Api, open_api
from tests.support.servers import server_config


async def _room(user: Api, **fields: Any) -> str:
    return str((await user.post("/createRoom", fields)).body["room_id"])


async def _join(user: Api, room: str) -> None:
    answer = await user.post(f"/join/{quote(room)}", {})
    assert answer.status == 200, answer


async def _share(alice: Api, *others: Api) -> str:
    """A private room with these in it."""
    room = await _room(alice, invite=[other.user_id for other in others])
    for other in others:
        await _join(other, room)
    return room


async def _name(user: Api, name: str) -> None:
    answer = await user.put(f"/profile/{quote(user.user_id)}/displayname", {"displayname": name})
    assert answer.status == 200, answer


async def _search(user: Api, term: str, **more: Any) -> Any:
    answer = await user.post("/user_directory/search", {"search_term": term, **more})
    assert answer.status == 200, answer
    return answer.body


async def _found(user: Api, term: str) -> list[str]:
    return [result["user_id"].split(":")[0] for result in (await _search(user, term))["results"]]


@pytest.fixture
async def bob(api: Api) -> Api:
    return await api.register("bob")


async def test_users_who_share_a_room_are_found_with_their_profiles(alice: Api, bob: Api) -> None:
    """Who shares a room is found by name, with name and picture, and the searcher is not."""
    await _name(bob, "Robert Näf")
    await bob.put(f"/profile/{quote(bob.user_id)}/avatar_url", {"avatar_url": "mxc://test.example/bob"})
    assert await _found(alice, "robert") == []
    await _share(alice, bob)
    assert await _search(alice, "robert") == {
        "results": [{"user_id": bob.user_id, "display_name": "Robert Näf", "avatar_url": "mxc://test.example/bob"}],
        "limited": False,
    }
    assert await _found(bob, "robert") == []


@pytest.mark.parametrize(
    "term",
    ["Robert", "ROB", "näf", "NÄF rob", "ober", "bob", "@bob", "@bob:test.example", "bob:test", "王", "小明", "王小"],
)
async def test_names_and_ids_are_found_by_any_part(alice: Api, bob: Api, term: str) -> None:
    """The beginning or any part of a name, in any script, or of an id finds the user, in any case."""
    await _name(bob, "Robert Näf 王小明")
    await _share(alice, bob)
    assert await _found(alice, term) == ["@bob"]


@pytest.mark.parametrize("term", ["robertz", "robert q", "明王", "%", "b_b", "", "   "])
async def test_others_are_not_found(alice: Api, bob: Api, term: str) -> None:
    """What is no part of name or id finds nobody."""
    await _name(bob, "Robert 王小明")
    await _share(alice, bob)
    assert await _found(alice, term) == []


async def test_members_of_open_rooms_are_found_by_everyone(alice: Api, bob: Api, api: Api) -> None:
    """Who is in a room that everyone may join or read can be found by everyone, until they or the room change."""
    carol = await api.register("carol")
    public = await _room(alice, preset="public_chat")
    assert await _found(carol, "alice") == ["@alice"]
    await alice.put(f"/rooms/{quote(public)}/state/m.room.join_rules/", {"join_rule": "invite"})
    assert await _found(carol, "alice") == []
    readable = await _room(bob)
    path = f"/rooms/{quote(readable)}/state/m.room.history_visibility/"
    await bob.put(path, {"history_visibility": "world_readable"})
    assert await _found(carol, "bob") == ["@bob"]
    await bob.post(f"/rooms/{quote(readable)}/leave", {})
    assert await _found(carol, "bob") == []


async def test_who_left_is_no_longer_found(alice: Api, bob: Api) -> None:
    """When the last shared room is left, neither finds the other."""
    room = await _share(alice, bob)
    assert await _found(alice, "bob") == ["@bob"]
    await bob.post(f"/rooms/{quote(room)}/leave", {})
    assert await _found(alice, "bob") == []
    assert await _found(bob, "alice") == []


async def test_the_directory_follows_profiles(alice: Api, bob: Api) -> None:
    """A new name is found at once and the old one no more; a name that one room alone knows is not the user's."""
    room = await _share(alice, bob)
    await _name(bob, "Robert")
    assert await _found(alice, "robert") == ["@bob"]
    await _name(bob, "Bobby")
    assert await _found(alice, "robert") == []
    assert await _found(alice, "bobby") == ["@bob"]
    content = {"membership": "join", "displayname": "Secret nick"}
    await bob.put(f"/rooms/{quote(room)}/state/m.room.member/{quote(bob.user_id)}", content)
    assert await _found(alice, "secret") == []


async def test_a_deactivated_account_is_not_found(alice: Api, bob: Api, server: Server) -> None:
    """Who has deactivated the account is gone from the directory."""
    await _room(bob, preset="public_chat")
    assert await _found(alice, "bob") == ["@bob"]
    await server.services.pool.execute(
        "UPDATE accounts SET deactivated = true WHERE user_nid = ANY($1)",
        [await server.services.timeline.names.user_nid(bob.user_id)],
    )
    assert await _found(alice, "bob") == []


async def test_the_best_come_first_and_the_limit_holds(alice: Api, api: Api) -> None:
    """Exact names come before beginnings, these before parts; `limited` says that there are more."""
    names = {"u1": "Hannah", "u2": "Anna", "u3": "Annabel", "u4": "Joanna Smith", "u5": "Mary Anna"}
    users = [await api.register(user) for user in names]
    for user, name in zip(users, names.values(), strict=True):
        await _name(user, name)
    await _share(alice, *users)
    found = await _search(alice, "anna")
    ranked = [result["display_name"] for result in found["results"]]
    assert ranked[0] == "Anna"
    assert ranked.index("Annabel") < ranked.index("Hannah")
    assert found["limited"] is False
    found = await _search(alice, "anna", limit=2)
    assert (len(found["results"]), found["limited"]) == (2, True)


async def test_all_local_users_are_found_where_so_configured(database: str, tmp_path: Path) -> None:
    """With user_directory.search_all_users a stranger on the same server is found."""
    config = server_config(database, tmp_path, user_directory={"search_all_users": True})
    async with running_server(config) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        bob = await api.register("bob")
        await _name(bob, "Robert")
        assert await _found(alice, "robert") == ["@bob"]


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({}, "M_MISSING_PARAM"),
        ({"search_term": 1}, "M_BAD_JSON"),
        ({"search_term": "x\0"}, "M_INVALID_PARAM"),
        ({"search_term": "x", "limit": "1"}, "M_BAD_JSON"),
        ({"search_term": "x", "limit": 0}, "M_INVALID_PARAM"),
    ],
)
async def test_broken_searches_are_refused(alice: Api, body: Any, errcode: str) -> None:
    """A body that is not as the specification says is refused with its errcode."""
    answer = await alice.post("/user_directory/search", body)
    assert (answer.status, answer.errcode) == (400, errcode)


async def test_guests_do_not_search(alice: Api) -> None:
    """Without a token nobody searches the directory."""
    answer = await alice.as_token(None).post("/user_directory/search", {"search_term": "alice"})
    assert answer.status == 401
