"""Invitations that are not wanted.  # spec: client-server-api/#invite-permission"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import Answer, Api

_BLOCK = ("m.invite_permission_config", {"default_action": "block"})
_FILTERS = "org.matrix.msc4155.invite_permission_config"


@pytest.fixture
async def bob(alice: Api) -> Api:
    return await alice.as_token(None).register("bob")


async def set_data(user: Api, type: str, content: Any) -> None:
    assert (await user.put(f"/user/{user.user_id}/account_data/{type}", content)).status == 200


async def new_room(user: Api) -> str:
    return str((await user.post("/createRoom", {})).body["room_id"])


async def invites(user: Api, since: str | None = None) -> set[str]:
    body = (await user.get("/sync" + (f"?since={since}" if since else ""))).body
    return set(body["rooms"]["invite"])


async def invite_in_every_way(alice: Api, bob: Api) -> list[Answer]:
    room = await new_room(alice)
    return [
        await alice.post(f"/rooms/{room}/invite", {"user_id": bob.user_id}),
        await alice.put(f"/rooms/{room}/state/m.room.member/{bob.user_id}", {"membership": "invite"}),
        await alice.post("/createRoom", {"invite": [bob.user_id]}),
    ]


@pytest.mark.parametrize(("type", "content"), [_BLOCK, (_FILTERS, {"blocked_servers": ["*"]})])
async def test_blocked_invitations_are_refused(alice: Api, bob: Api, type: str, content: Any) -> None:
    """Every way to invite answers 403 M_INVITE_BLOCKED, and the user is not invited."""
    await set_data(bob, type, content)
    for answer in await invite_in_every_way(alice, bob):
        assert (answer.status, answer.errcode) == (403, "M_INVITE_BLOCKED"), answer
    assert await invites(bob) == set()
    await set_data(bob, type, {})
    for answer in await invite_in_every_way(alice, bob):
        assert answer.status == 200


async def test_ignored_invitations_seem_to_arrive(alice: Api, bob: Api) -> None:
    """An ignored inviter is told nothing, but the invitation is not in the invited's sync, now or later."""
    await set_data(bob, _FILTERS, {"ignored_users": [alice.user_id]})
    since = (await bob.get("/sync")).body["next_batch"]
    answers = await invite_in_every_way(alice, bob)
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert await invites(bob, since) == await invites(bob) == set()
    await set_data(bob, _FILTERS, {})
    assert len(await invites(bob)) == 2


async def test_invitations_by_ignored_users_are_hidden(alice: Api, bob: Api) -> None:
    """Servers must not send room invites from ignored users to clients."""
    await set_data(bob, "m.ignored_user_list", {"ignored_users": {alice.user_id: {}}})
    assert [answer.status for answer in await invite_in_every_way(alice, bob)] == [200, 200, 200]
    assert await invites(bob) == set()


async def test_invitations_that_are_there_are_hidden_too(alice: Api, bob: Api) -> None:
    """Invitations from before the user blocked them are not served by sync, but can still be seen as state."""
    room = await new_room(alice)
    await alice.post(f"/rooms/{room}/invite", {"user_id": bob.user_id})
    assert await invites(bob) == {room}
    await set_data(bob, *_BLOCK)
    assert await invites(bob) == set()
    member = await alice.get(f"/rooms/{room}/state/m.room.member/{bob.user_id}")
    assert member.body["membership"] == "invite"
