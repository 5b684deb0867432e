"""Presence as clients set and see it.  # spec: client-server-api/#presence"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from homeserver.main import Server, running_server
from tests.support.api import Api, open_api
from tests.support.servers import server_config


async def together(*users: Api) -> str:
    """A room in which all of them are."""
    first, *others = users
    room = (await first.post("/createRoom", {"preset": "public_chat"})).body["room_id"]
    for user in others:
        assert (await user.post(f"/join/{room}", {})).status == 200
    return str(room)


async def sync(user: Api, since: str | None = None, **query: str) -> tuple[dict[str, Any], str]:
    """Who is how, as a sync that says nothing of its own presence tells; and the next token."""
    sent = {"set_presence": "offline", **query} | ({"since": since} if since else {})
    body = (await user.get("/sync", query=sent)).body
    return {event["sender"]: event["content"] for event in body["presence"]["events"]}, body["next_batch"]


@pytest.fixture
async def bob(alice: Api) -> Api:
    return await alice.as_token(None).register("bob")


async def test_presence_is_set_and_read(alice: Api, bob: Api) -> None:
    """What a user sets is what those who share a room with them read."""
    await together(alice, bob)
    path = f"/presence/{alice.user_id}/status"
    assert (await bob.get(path)).body == {"presence": "offline"}
    assert (await alice.put(path, {"presence": "online", "status_msg": "here"})).body == {}
    for reader in (alice, bob):
        body = (await reader.get(path)).body
        assert 0 <= body.pop("last_active_ago") < 10_000
        assert body == {"presence": "online", "currently_active": True, "status_msg": "here"}
    await alice.put(path, {"presence": "unavailable", "status_msg": None})
    assert (await bob.get(path)).body["presence"] == "unavailable"
    assert "status_msg" not in (await bob.get(path)).body


async def test_strangers_see_nothing(alice: Api, bob: Api) -> None:
    """Presence is for those who share a room: others are refused, and are not told whether there is such a user."""
    await alice.put(f"/presence/{alice.user_id}/status", {"presence": "online"})
    assert (await bob.get(f"/presence/{alice.user_id}/status")).errcode == "M_FORBIDDEN"
    assert (await bob.get("/presence/@nobody:test.example/status")).errcode == "M_FORBIDDEN"
    assert (await bob.get("/presence/nobody/status")).errcode == "M_INVALID_PARAM"
    await together(bob)
    assert (await sync(bob))[0] == {}


@pytest.mark.parametrize(
    "body", [{}, {"presence": "busy"}, {"presence": 1}, {"presence": "online", "status_msg": 5}, {"presence": None}, []]
)
async def test_malformed_presence_is_refused(alice: Api, body: Any) -> None:
    """The state is one of three, the message a string; what is refused changes nothing."""
    path = f"/presence/{alice.user_id}/status"
    assert (await alice.put(path, body)).status == 400
    assert (await alice.get(path)).body == {"presence": "offline"}


async def test_nobody_sets_anothers_presence(alice: Api, bob: Api) -> None:
    """You cannot set the presence state of another user."""
    assert (await bob.put(f"/presence/{alice.user_id}/status", {"presence": "online"})).errcode == "M_FORBIDDEN"


async def test_syncing_marks_as_online_unless_told_otherwise(alice: Api, bob: Api) -> None:
    """A client that syncs is online; with set_presence it says what it is, or that it is not to count."""
    await together(alice, bob)
    path = f"/presence/{bob.user_id}/status"
    await bob.get("/sync?set_presence=offline")
    assert (await alice.get(path)).body == {"presence": "offline"}
    await bob.get("/sync?set_presence=unavailable")
    assert (await alice.get(path)).body["presence"] == "unavailable"
    await bob.get("/sync")
    assert (await alice.get(path)).body["presence"] == "online"
    assert (await bob.get("/sync?set_presence=busy")).errcode == "M_INVALID_PARAM"


async def test_a_sync_tells_who_is_there_and_then_what_changes(alice: Api, bob: Api) -> None:
    """A first sync has everyone who is not offline, a later one those whose presence changed."""
    await together(alice, bob)
    seen, token = await sync(alice)
    assert seen == {}
    await bob.put(f"/presence/{bob.user_id}/status", {"presence": "online", "status_msg": "hi"})
    seen, later = await sync(alice, token)
    assert seen[bob.user_id]["status_msg"] == "hi"
    assert (await sync(alice, later))[0] == {}
    assert (await sync(alice))[0].keys() == {bob.user_id}
    await bob.put(f"/presence/{bob.user_id}/status", {"presence": "offline"})
    assert (await sync(alice, later))[0][bob.user_id]["presence"] == "offline"
    assert (await sync(alice))[0] == {}


async def test_a_change_ends_a_long_poll(alice: Api, bob: Api) -> None:
    """Who waits is told of a change at once."""
    await together(alice, bob)
    _, token = await sync(alice)
    waiting = asyncio.create_task(sync(alice, token, timeout="20000"))
    await bob.put(f"/presence/{bob.user_id}/status", {"presence": "online"})
    seen, _ = await asyncio.wait_for(waiting, 10)
    assert seen.keys() == {bob.user_id}


async def test_who_comes_to_share_a_room_is_told_of(alice: Api, bob: Api) -> None:
    """Joining a room tells who is there, and those who are there who has come."""
    room = await together(alice)
    await alice.put(f"/presence/{alice.user_id}/status", {"presence": "online"})
    await bob.put(f"/presence/{bob.user_id}/status", {"presence": "unavailable"})
    (_, of_alice), (_, of_bob) = await sync(alice), await sync(bob)
    await bob.post(f"/join/{room}", {})
    assert (await sync(bob, of_bob))[0][alice.user_id]["presence"] == "online"
    assert (await sync(alice, of_alice))[0][bob.user_id]["presence"] == "unavailable"


async def test_ignored_and_filtered_users_are_left_out(alice: Api, bob: Api) -> None:
    """Those whom the user ignores, and those whom the filter leaves out, are not in the section."""
    await together(alice, bob)
    await bob.put(f"/presence/{bob.user_id}/status", {"presence": "online"})
    filter = '{"presence":{"not_senders":["' + bob.user_id + '"]}}'
    assert (await sync(alice, filter=filter))[0] == {}
    assert (await sync(alice, filter='{"presence":{"types":["x"]}}'))[0] == {}
    await alice.put(f"/user/{alice.user_id}/account_data/m.ignored_user_list", {"ignored_users": {bob.user_id: {}}})
    assert (await sync(alice))[0] == {}


@pytest.mark.parametrize("action", ["send", "type", "receipt", "read_markers"])
async def test_what_a_user_does_counts_as_activity(alice: Api, bob: Api, action: str) -> None:
    """A message, typing or a receipt makes a user who was idle online again."""
    room = await together(alice, bob)
    sent = await alice.put(f"/rooms/{room}/send/m.room.message/1", {"msgtype": "m.text", "body": "x"})
    event_id = sent.body["event_id"]
    await bob.put(f"/presence/{bob.user_id}/status", {"presence": "unavailable"})
    answer = await {
        "send": lambda: bob.put(f"/rooms/{room}/send/m.room.message/1", {"msgtype": "m.text", "body": "x"}),
        "type": lambda: bob.put(f"/rooms/{room}/typing/{bob.user_id}", {"typing": True}),
        "receipt": lambda: bob.post(f"/rooms/{room}/receipt/m.read/{event_id}", {}),
        "read_markers": lambda: bob.post(f"/rooms/{room}/read_markers", {"m.read": event_id}),
    }[action]()
    assert answer.status == 200
    assert (await alice.get(f"/presence/{bob.user_id}/status")).body["presence"] == "online"


async def test_syncs_write_nothing(server: Server, alice: Api) -> None:
    """Being online costs no row: presence is written by and by, not by syncs."""
    await together(alice)
    for _ in range(3):
        await alice.get("/sync")
    async with server.services.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM presence") == 0


async def test_presence_survives_a_restart(database: str, tmp_path: Path) -> None:
    """Status messages are kept, and clients that sync on are told anew who is there."""
    config = server_config(database, tmp_path)
    async with running_server(config) as server, open_api(server.url) as api:
        alice, bob = await api.register("alice"), await api.register("bob")
        await together(alice, bob)
        await bob.put(f"/presence/{bob.user_id}/status", {"presence": "online", "status_msg": "hi"})
        _, token = await sync(alice)
    async with running_server(config) as server, open_api(server.url) as api:
        alice = Api(api.session, api.url, alice.token, alice.user_id)
        seen, _ = await sync(alice, token)
        assert seen[bob.user_id]["status_msg"] == "hi"
        assert seen[bob.user_id]["presence"] == "online"


@pytest.fixture
async def quiet(database: str, tmp_path: Path) -> AsyncIterator[Api]:
    """A server without presence."""
    config = server_config(database, tmp_path, presence={"enabled": False})
    async with running_server(config) as server, open_api(server.url) as api:
        yield api


async def test_presence_can_be_switched_off(quiet: Api) -> None:
    """Without presence requests are answered, and everyone is offline."""
    alice, bob = await quiet.register("alice"), await quiet.register("bob")
    await together(alice, bob)
    assert (await bob.put(f"/presence/{bob.user_id}/status", {"presence": "online"})).status == 200
    await bob.get("/sync")
    assert (await alice.get(f"/presence/{bob.user_id}/status")).body == {"presence": "offline"}
    assert (await sync(alice))[0] == {}
