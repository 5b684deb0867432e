"""Names and pictures."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.support.api import Api


async def test_a_profile_is_set_and_read_by_anyone(alice: Api) -> None:
    """Name and picture are public, whole and each by itself; what is not set is not there."""
    path = f"/profile/{quote(alice.user_id)}"
    stranger = alice.as_token(None)
    assert (await stranger.get(path)).body == {}
    assert (await stranger.get(f"{path}/displayname")).errcode == "M_NOT_FOUND"
    assert (await alice.put(f"{path}/displayname", {"displayname": "Alice \u2764"})).body == {}
    assert (await alice.put(f"{path}/avatar_url", {"avatar_url": "mxc://test.example/pic"})).status == 200
    assert (await stranger.get(path)).body == {"displayname": "Alice \u2764", "avatar_url": "mxc://test.example/pic"}
    assert (await stranger.get(f"{path}/displayname")).body == {"displayname": "Alice \u2764"}


@pytest.mark.parametrize("value", ["", None])
async def test_a_name_is_taken_away(alice: Api, value: str | None) -> None:
    """Empty, null and DELETE all clear a field."""
    path = f"/profile/{alice.user_id}/displayname"
    for clear in (alice.put(path, {"displayname": value}), alice.delete(path)):
        await alice.put(path, {"displayname": "Alice"})
        assert (await clear).status == 200
        assert (await alice.get(path)).status == 404


async def test_a_new_name_is_told_to_the_rooms(alice: Api) -> None:
    """The member events of rooms that the user is in carry the new name."""
    room_id = quote((await alice.post("/createRoom", {})).body["room_id"])
    await alice.put(f"/profile/{alice.user_id}/displayname", {"displayname": "Alice"})
    member = await alice.get(f"/rooms/{room_id}/state/m.room.member/{quote(alice.user_id)}")
    assert member.body["displayname"] == "Alice"


@pytest.mark.parametrize(
    ("key", "body", "status", "errcode"),
    [
        ("displayname", {}, 400, "M_MISSING_PARAM"),
        ("displayname", {"displayname": 5}, 400, "M_BAD_JSON"),
        ("displayname", {"displayname": "x" * 257}, 400, "M_INVALID_PARAM"),
        ("displayname", {"displayname": "a\0"}, 400, "M_INVALID_PARAM"),
        ("avatar_url", {"avatar_url": "https://example.org/x.png"}, 400, "M_INVALID_PARAM"),
        ("NotAField", {"NotAField": 1}, 400, "M_INVALID_PARAM"),
        ("a." + "b" * 300, {}, 400, "M_KEY_TOO_LARGE"),
    ],
)
async def test_a_field_that_can_not_be_set(
    alice: Api, key: str, body: dict[str, object], status: int, errcode: str
) -> None:
    """Wrong types, lengths, schemes and names are refused, and nothing changes."""
    answer = await alice.put(f"/profile/{alice.user_id}/{key}", body)
    assert (answer.status, answer.errcode) == (status, errcode)
    assert (await alice.get(f"/profile/{alice.user_id}")).body == {}


async def test_nobody_changes_anothers_profile(alice: Api) -> None:
    """The profile in the path must be one's own."""
    bob = await alice.as_token(None).register("bob")
    answer = await bob.put(f"/profile/{alice.user_id}/displayname", {"displayname": "Mallory"})
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")


async def test_profiles_that_are_not_here(alice: Api) -> None:
    """Nobody has no profile; strangers can't make this server ask others; what is no user id is refused."""
    assert (await alice.get("/profile/@nobody:test.example")).errcode == "M_NOT_FOUND"
    assert (await alice.as_token(None).get("/profile/@bob:other.example")).status == 403
    assert (await alice.get("/profile/nonsense")).errcode == "M_INVALID_PARAM"
