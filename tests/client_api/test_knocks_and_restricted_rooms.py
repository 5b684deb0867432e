"""Knocking at rooms, and joining those that members of other rooms may join."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.support.api import Answer, Api


async def _room(user: Api, join_rule: str, *allowed: str, **fields: Any) -> str:
    content: dict[str, Any] = {"join_rule": join_rule}
    if allowed:
        content["allow"] = [{"type": "m.room_membership", "room_id": room_id} for room_id in allowed]
    initial = [{"type": "m.room.join_rules", "content": content}]
    answer = await user.post("/createRoom", {"initial_state": initial, "name": "Den", **fields})
    assert answer.status == 200, answer
    return str(answer.body["room_id"])


async def _join(user: Api, room_id: str) -> Answer:
    return await user.post(f"/join/{quote(room_id)}", {})


async def _knock(user: Api, room_id: str) -> Answer:
    return await user.post(f"/knock/{quote(room_id)}", {"reason": "please"})


async def _member(user: Api, room_id: str, of: Api) -> dict[str, Any]:
    answer = await user.get(f"/rooms/{quote(room_id)}/state/m.room.member/{of.user_id}")
    assert answer.status == 200, answer
    return dict(answer.body)


@pytest.mark.parametrize("version", ["7", "11", "12"])
async def test_a_knock_is_answered_by_an_invitation(api: Api, alice: Api, version: str) -> None:
    """Who knocks is seen to knock, with the reason, can't come in by that alone, but can when invited."""
    bob = await api.register("bob")
    room_id = await _room(alice, "knock", room_version=version)
    assert (await _join(bob, room_id)).errcode == "M_FORBIDDEN"
    assert (await _knock(bob, room_id)).body == {"room_id": room_id}
    assert (await _member(alice, room_id, bob)) == {"membership": "knock", "reason": "please"}
    knocked = (await bob.get("/sync")).body["rooms"]["knock"][room_id]["knock_state"]["events"]
    assert {"type": "m.room.name", "state_key": "", "sender": alice.user_id, "content": {"name": "Den"}} in knocked
    assert (await _join(bob, room_id)).errcode == "M_FORBIDDEN"
    await alice.post(f"/rooms/{quote(room_id)}/invite", {"user_id": bob.user_id})
    assert (await _join(bob, room_id)).status == 200
    assert (await _knock(bob, room_id)).errcode == "M_FORBIDDEN"


async def test_a_knock_is_taken_back_or_refused(api: Api, alice: Api) -> None:
    """Who knocks may leave it at that, and may be turned away; both may knock again, the banned may not."""
    bob = await api.register("bob")
    room_id = await _room(alice, "knock")
    await _knock(bob, room_id)
    assert (await bob.post(f"/rooms/{quote(room_id)}/leave", {})).status == 200
    assert (await _knock(bob, room_id)).status == 200
    assert (await alice.post(f"/rooms/{quote(room_id)}/kick", {"user_id": bob.user_id})).status == 200
    assert (await _knock(bob, room_id)).status == 200
    await alice.post(f"/rooms/{quote(room_id)}/ban", {"user_id": bob.user_id})
    assert (await _knock(bob, room_id)).errcode == "M_FORBIDDEN"


@pytest.mark.parametrize(("join_rule", "version"), [("public", "12"), ("invite", "12"), ("knock", "6")])
async def test_not_every_room_takes_knocks(api: Api, alice: Api, join_rule: str, version: str) -> None:
    """Only rooms whose join rule, in a version that knows of it, says so can be knocked at."""
    bob = await api.register("bob")
    room_id = await _room(alice, join_rule, room_version=version)
    assert (await _knock(bob, room_id)).errcode == "M_FORBIDDEN"


@pytest.mark.parametrize("version", ["8", "10", "12"])
async def test_members_of_an_allowed_room_join(api: Api, alice: Api, version: str) -> None:
    """A member of a room that the join rules name joins, authorised by somebody who may invite; nobody else does."""
    bob, carol = await api.register("bob"), await api.register("carol")
    lobby = await _room(alice, "public")
    room_id = await _room(alice, "restricted", lobby, room_version=version)
    assert (await _join(bob, room_id)).errcode == "M_FORBIDDEN"
    await _join(bob, lobby)
    assert (await _join(bob, room_id)).status == 200
    member = await _member(alice, room_id, bob)
    assert member == {"membership": "join", "join_authorised_via_users_server": alice.user_id}
    await alice.post(f"/rooms/{quote(room_id)}/invite", {"user_id": carol.user_id})
    assert (await _join(carol, room_id)).status == 200
    assert await _member(alice, room_id, carol) == {"membership": "join"}


async def test_leaving_the_allowed_room_ends_the_right_to_join(api: Api, alice: Api) -> None:
    """Whoever is no longer in the allowed room can't join any more, but who is in stays, and may change name."""
    bob, carol = await api.register("bob"), await api.register("carol")
    lobby = await _room(alice, "public")
    room_id = await _room(alice, "restricted", lobby)
    for user in (bob, carol):
        await _join(user, lobby)
    await _join(bob, room_id)
    for user in (bob, carol):
        await user.post(f"/rooms/{quote(lobby)}/leave", {})
    assert (await _join(carol, room_id)).errcode == "M_FORBIDDEN"
    await bob.put(f"/profile/{bob.user_id}/displayname", {"displayname": "Bobby"})
    assert await _member(alice, room_id, bob) == {"membership": "join", "displayname": "Bobby"}


async def test_nobody_there_may_invite(api: Api, alice: Api) -> None:
    """If nobody in the room has the power to invite, nobody can authorise a join."""
    bob, carol = await api.register("bob"), await api.register("carol")
    lobby = await _room(alice, "public")
    room_id = await _room(alice, "restricted", lobby, room_version="11", power_level_content_override={"invite": 50})
    await _join(bob, lobby)
    await _join(carol, lobby)
    assert (await _join(bob, room_id)).status == 200
    await alice.post(f"/rooms/{quote(room_id)}/leave", {})
    assert (await _join(carol, room_id)).status in (403, 404)


async def test_knock_restricted_is_both(api: Api, alice: Api) -> None:
    """In a knock_restricted room members of the allowed room join, and all others may knock."""
    bob, carol = await api.register("bob"), await api.register("carol")
    lobby = await _room(alice, "public")
    room_id = await _room(alice, "knock_restricted", lobby)
    await _join(bob, lobby)
    assert (await _join(bob, room_id)).status == 200
    assert (await _join(carol, room_id)).errcode == "M_FORBIDDEN"
    assert (await _knock(carol, room_id)).status == 200
