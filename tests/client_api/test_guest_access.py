"""What guests may do, and where.  # spec: client-server-api/#guest-access"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from homeserver.main import Server, running_server
from tests.support.api import Api, open_api
from tests.support.client import eventually
from tests.support.servers import server_config

_CAN_JOIN = {"type": "m.room.guest_access", "content": {"guest_access": "can_join"}}
_OPEN = {"preset": "public_chat", "initial_state": [_CAN_JOIN]}


@pytest.fixture
async def server(database: str, tmp_path: Path) -> AsyncIterator[Server]:
    async with running_server(server_config(database, tmp_path, registration={"guests": True})) as server:
        yield server


async def new_guest(api: Api) -> Api:
    answer = await api.as_token(None).post("/register?kind=guest", {})
    assert answer.status == 200, answer
    return Api(api.session, api.url, answer.body["access_token"], answer.body["user_id"])


@pytest.fixture
async def guest(alice: Api) -> Api:
    return await new_guest(alice)


async def create(user: Api, body: Any) -> str:
    return str((await user.post("/createRoom", body)).body["room_id"])


async def membership(reader: Api, room: str, user: Api) -> str | None:
    answer = await reader.get(f"/rooms/{room}/state/m.room.member/{user.user_id}")
    return str(answer.body["membership"]) if answer.status == 200 else None


@pytest.mark.parametrize("content", [None, {"guest_access": "forbidden"}, {"guest_access": 1}, {}])
async def test_guests_join_only_where_they_may(alice: Api, guest: Api, content: Any) -> None:
    """Servers must only allow guests to join rooms whose guest access is `can_join`: by either endpoint or by state."""
    room = await create(alice, {"preset": "public_chat"})
    state = f"/rooms/{room}/state/m.room.member/{guest.user_id}"
    if content is not None:
        await alice.put(f"/rooms/{room}/state/m.room.guest_access", content)
    for answer in (
        await guest.post(f"/join/{room}", {}),
        await guest.post(f"/rooms/{room}/join", {}),
        await guest.put(state, {"membership": "join"}),
    ):
        assert (answer.status, answer.errcode) == (403, "M_GUEST_ACCESS_FORBIDDEN")
    assert await membership(alice, room, guest) is None
    bob = await alice.as_token(None).register("bob")
    assert (await bob.post(f"/join/{room}", {})).status == 200


async def test_guests_take_part(alice: Api, guest: Api) -> None:
    """In a room that takes them guests read, send events and state, and leave."""
    room = await create(alice, _OPEN)
    assert (await guest.post(f"/join/{room}", {})).status == 200
    assert (await guest.put(f"/rooms/{room}/send/m.room.message/1", {"msgtype": "m.text", "body": "hi"})).status == 200
    assert (await guest.put(f"/profile/{guest.user_id}/displayname", {"displayname": "Visitor"})).status == 200
    assert (await guest.put(f"/profile/{guest.user_id}/avatar_url", {"avatar_url": "mxc://a/b"})).status == 403
    for path in ("/state", "/members", "/messages?dir=b", "/initialSync"):
        assert (await guest.get(f"/rooms/{room}{path}")).status == 200
    assert room in (await guest.get("/sync")).body["rooms"]["join"]
    assert (await guest.post("/createRoom", {})).errcode == "M_GUEST_ACCESS_FORBIDDEN"
    assert (await guest.post(f"/rooms/{room}/invite", {"user_id": alice.user_id})).status == 403
    assert (await guest.post(f"/rooms/{room}/leave", {})).status == 200


@pytest.mark.parametrize("how", ["forbidden", "redacted"])
async def test_guests_leave_when_the_room_closes(alice: Api, guest: Api, how: str) -> None:
    """If guest access changes to anything else, the server must let its guests leave, and nobody else."""
    room = await create(alice, {"preset": "public_chat"})
    path = f"/rooms/{room}/state/m.room.guest_access"
    event_id = (await alice.put(path, {"guest_access": "can_join"})).body["event_id"]
    other, bob = await new_guest(alice), await alice.as_token(None).register("bob")
    for user in (guest, other, bob):
        assert (await user.post(f"/join/{room}", {})).status == 200
    if how == "redacted":
        await alice.put(f"/rooms/{room}/redact/{event_id}/1", {})
    else:
        await alice.put(path, {"guest_access": "forbidden"})

    async def are_gone() -> bool:
        return [await membership(alice, room, user) for user in (guest, other)] == ["leave", "leave"]

    await eventually(are_gone, "the guests to be gone")
    assert await membership(alice, room, bob) == "join"
    assert await membership(alice, room, alice) == "join"


async def test_a_room_that_opens_keeps_its_guests(alice: Api, guest: Api) -> None:
    """A change that leaves guest access as it is puts nobody out."""
    room = await create(alice, _OPEN)
    await guest.post(f"/join/{room}", {})
    await alice.put(f"/rooms/{room}/state/m.room.guest_access", {"guest_access": "can_join", "org.example": 1})
    await alice.put(f"/rooms/{room}/state/m.room.topic", {"topic": "x"})
    # Whoever was to be put out before would be by the time that another is.
    other = await new_guest(alice)
    closed = await create(alice, _OPEN)
    await other.post(f"/join/{closed}", {})
    await alice.put(f"/rooms/{closed}/state/m.room.guest_access", {})

    async def is_gone() -> bool:
        return await membership(alice, closed, other) == "leave"

    await eventually(is_gone, "the other guest to be gone")
    assert await membership(alice, room, guest) == "join"


async def test_what_a_server_did_not_get_to_it_does_at_its_start(database: str, tmp_path: Path) -> None:
    """Guests who are in a room that was closed when the server died leave when it is back."""
    config = server_config(database, tmp_path, registration={"guests": True})
    async with running_server(config) as server, open_api(server.url) as api:
        alice = await api.register("alice")
        guest = await new_guest(api)
        room = await create(alice, _OPEN)
        await guest.post(f"/join/{room}", {})
        server.services.timeline.on_guests_shut_out(lambda room: None)
        await alice.put(f"/rooms/{room}/state/m.room.guest_access", {"guest_access": "forbidden"})
        assert await membership(alice, room, guest) == "join"
    async with running_server(config) as server, open_api(server.url) as api:
        alice = Api(api.session, api.url, alice.token, alice.user_id)

        async def is_gone() -> bool:
            return await membership(alice, room, guest) == "leave"

        await eventually(is_gone, "the guest to be gone")


async def test_guests_upgrade_and_stay(alice: Api, guest: Api) -> None:
    """A guest who has become a user is no guest any more: closing the room leaves them in."""
    room = await create(alice, _OPEN)
    await guest.post(f"/join/{room}", {})
    name = guest.user_id[1:].partition(":")[0]
    body = {"username": name, "password": "correct horse battery staple", "guest_access_token": guest.token}
    upgraded = await alice.as_token(None).post("/register", body | {"auth": {"type": "m.login.dummy"}})
    assert upgraded.status == 200, upgraded
    await alice.put(f"/rooms/{room}/state/m.room.guest_access", {"guest_access": "forbidden"})
    other = await new_guest(alice)
    assert (await other.post(f"/join/{room}", {})).status == 403
    assert await membership(alice, room, guest) == "join"
