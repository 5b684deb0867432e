"""Walking through spaces, and summaries of rooms, on one server."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from homeserver.rooms.space_hierarchy import in_order
from tests.support.api import Answer, Api

SPACE = {"type": "m.space"}


async def _create(user: Api, name: str, **fields: Any) -> str:
    answer = await user.post("/createRoom", {"name": name, "preset": "public_chat", **fields})
    assert answer.status == 200, answer
    return str(answer.body["room_id"])


async def _space(user: Api, name: str, *children: str, **fields: Any) -> str:
    room_id = await _create(user, name, creation_content=SPACE, **fields)
    for number, child in enumerate(children):
        await _add(user, room_id, child, order=chr(ord("a") + number))
    return room_id


async def _add(user: Api, space: str, child: str, **content: Any) -> None:
    path = f"/rooms/{quote(space)}/state/m.space.child/{quote(child)}"
    assert (await user.put(path, {"via": ["test.example"], **content})).status == 200


async def _hierarchy(user: Api, space: str, **query: Any) -> Answer:
    text = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in query.items()}
    return await user.get(f"/_matrix/client/v1/rooms/{quote(space)}/hierarchy", query=text)


def _names(answer: Answer) -> list[str]:
    assert answer.status == 200, answer
    return [room["name"] for room in answer.body["rooms"]]


async def test_a_space_is_walked_depth_first_in_its_order(alice: Api) -> None:
    """Rooms come depth first, the children of a space in the order that it gives them, with its child events."""
    one, two, three = [await _create(alice, name) for name in ("one", "two", "three")]
    inner = await _space(alice, "inner", two)
    outer = await _space(alice, "outer", one, inner, three)
    answer = await _hierarchy(alice, outer)
    assert _names(answer) == ["outer", "one", "inner", "two", "three"]
    root = answer.body["rooms"][0]
    assert [event["state_key"] for event in root["children_state"]] == [one, inner, three]
    assert root["children_state"][0].keys() == {"type", "state_key", "sender", "content", "origin_server_ts"}
    assert root["room_type"] == "m.space"
    assert "next_batch" not in answer.body


async def test_depth_and_suggestions_limit_the_walk(alice: Api) -> None:
    """max_depth says how far down the walk goes; suggested_only leaves out children that are not suggested."""
    leaf, plain = await _create(alice, "leaf"), await _create(alice, "plain")
    inner = await _space(alice, "inner", leaf)
    outer = await _space(alice, "outer", plain)
    await _add(alice, outer, inner, suggested=True)
    assert _names(await _hierarchy(alice, outer, max_depth=0)) == ["outer"]
    assert _names(await _hierarchy(alice, outer, max_depth=1)) == ["outer", "plain", "inner"]
    assert _names(await _hierarchy(alice, outer, suggested_only=True)) == ["outer", "inner"]


async def test_loops_end(alice: Api) -> None:
    """Spaces that contain each other are each shown once."""
    first = await _space(alice, "first")
    second = await _space(alice, "second", first)
    await _add(alice, first, second)
    assert _names(await _hierarchy(alice, first)) == ["first", "second"]


async def test_pages_are_bound_to_user_and_request(api: Api, alice: Api) -> None:
    """A token leads on where the page ended, as often as it is used, and only for its user and the same request."""
    bob = await api.register("bob")
    rooms = [await _create(alice, f"room {number}") for number in range(5)]
    space = await _space(alice, "space", *rooms)
    first = await _hierarchy(alice, space, limit=2)
    assert _names(first) == ["space", "room 0"]
    token = first.body["next_batch"]
    second, repeated = [await _hierarchy(alice, space, limit=3, **{"from": token}) for _ in range(2)]
    assert _names(second) == _names(repeated) == ["room 1", "room 2", "room 3"]
    third = await _hierarchy(alice, space, limit=3, **{"from": second.body["next_batch"]})
    assert _names(third) == ["room 4"]
    assert "next_batch" not in third.body
    for answer in (
        await _hierarchy(bob, space, **{"from": token}),
        await _hierarchy(alice, space, suggested_only=True, **{"from": token}),
        await _hierarchy(alice, space, max_depth=3, **{"from": token}),
        await _hierarchy(alice, rooms[0], **{"from": token}),
        await _hierarchy(alice, space, **{"from": "made up"}),
        await _hierarchy(alice, space, limit=0),
        await _hierarchy(alice, space, max_depth=-1),
    ):
        assert answer.errcode == "M_INVALID_PARAM"


async def test_rooms_are_shown_to_those_who_could_join_or_read_them(api: Api, alice: Api) -> None:
    """Others see of a space what they could join, knock at or read; members and the invited see the rest too."""
    bob = await api.register("bob")
    closed = await _create(alice, "closed", preset="private_chat")
    readable = await _create(
        alice,
        "readable",
        preset="private_chat",
        initial_state=[{"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}],
    )
    knock = await _create(
        alice, "knock", initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]
    )
    space = await _space(alice, "space", closed, readable, knock)
    allow = [{"type": "m.room_membership", "room_id": space}]
    restricted = await _create(
        alice,
        "restricted",
        initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}],
    )
    await _add(alice, space, restricted)
    assert _names(await _hierarchy(bob, space)) == ["space", "readable", "knock"]
    await bob.post(f"/join/{quote(space)}", {})
    assert _names(await _hierarchy(bob, space)) == ["space", "readable", "knock", "restricted"]
    await alice.post(f"/rooms/{quote(closed)}/invite", {"user_id": bob.user_id})
    assert _names(await _hierarchy(bob, space)) == ["space", "closed", "readable", "knock", "restricted"]


async def test_a_space_that_one_may_not_see_is_forbidden(api: Api, alice: Api) -> None:
    """A closed space, one that the user is banned from and one that doesn't exist are answered alike."""
    bob = await api.register("bob")
    closed = await _space(alice, "closed", preset="private_chat")
    public = await _space(alice, "public")
    await alice.post(f"/rooms/{quote(public)}/ban", {"user_id": bob.user_id})
    answers = [await _hierarchy(bob, room_id) for room_id in (closed, public, "!unknown:test.example", "nonsense")]
    assert [answer.errcode for answer in answers] == ["M_FORBIDDEN"] * 4
    assert len({answer.body["error"] for answer in answers}) == 1


@pytest.mark.parametrize("valid", [True, False])
def test_children_are_ordered_as_the_specification_says(valid: bool) -> None:
    """First those with a valid order, by it; then by timestamp; then by room id. Without via it is no child."""

    def child(room_id: str, ts: int, **content: Any) -> dict[str, Any]:
        return {"state_key": room_id, "origin_server_ts": ts, "content": {"via": ["x"], **content}}

    state = [
        child("!e:x", 1640641000000),
        child("!d:x", 1640741000000),
        child("!b:x", 1640341000000, order=" "),
        child("!c:x", 1640841000000, order="first"),
        child("!a:x", 1640141000000, order="aaaa"),
        child("!gone:x", 1, via=[]),
        child("!odd:x", 2, via="x"),
    ]
    if not valid:
        state += [child("!z:x", 1640641000000, order="é"), child("!y:x", 1640641000000, order="a" * 51)]
    expected = ["!b:x", "!a:x", "!c:x", "!e:x", *([] if valid else ["!y:x", "!z:x"]), "!d:x"]
    assert [event["state_key"] for event in in_order(state)] == expected


async def _summary(user: Api, room: str, prefix: str = "v1/room_summary/{}") -> Answer:
    return await user.get("/_matrix/client/" + prefix.format(quote(room, safe="")))


async def test_a_summary_says_what_the_room_is(api: Api, alice: Api) -> None:
    """A summary is had by id and by alias, on the stable and the unstable paths, with the membership of who asks."""
    room_id = await _create(alice, "Harbour", room_alias_name="harbour", room_version="11")
    await alice.put(f"/rooms/{quote(room_id)}/state/m.room.encryption/", {"algorithm": "m.megolm.v1.aes-sha2"})
    answer = await _summary(alice, room_id)
    expected = {
        "room_id": room_id,
        "name": "Harbour",
        "canonical_alias": "#harbour:test.example",
        "num_joined_members": 1,
        "join_rule": "public",
        "world_readable": False,
        "guest_can_join": False,
        "room_version": "11",
        "encryption": "m.megolm.v1.aes-sha2",
        "membership": "join",
    }
    assert expected.items() <= answer.body.items()
    unstable = "unstable/im.nheko.summary/"
    for prefix in ("v1/room_summary/{}", f"{unstable}summary/{{}}", f"{unstable}rooms/{{}}/summary"):
        assert (await _summary(alice, "#harbour:test.example", prefix)).body == answer.body
    assert "membership" not in (await _summary(api, room_id)).body
    bob = await api.register("bob")
    assert (await _summary(bob, room_id)).body["membership"] == "leave"


async def test_a_closed_room_is_not_summarised_for_others(api: Api, alice: Api) -> None:
    """Who could not join, knock or read is told the same as of a room that doesn't exist."""
    bob = await api.register("bob")
    room_id = await _create(alice, "closed", preset="private_chat")
    answers = [await _summary(who, room) for who in (api, bob) for room in (room_id, "!unknown:test.example")]
    assert [answer.status for answer in answers] == [404] * 4
    assert len({answer.body["error"] for answer in answers}) == 1
    await alice.post(f"/rooms/{quote(room_id)}/invite", {"user_id": bob.user_id})
    assert (await _summary(bob, room_id)).body["membership"] == "invite"
