"""createRoom as clients call it, where it differs from what the action does."""

from __future__ import annotations

from tests.support.api import Api, Json


async def test_a_creator_above_all_levels_may_be_given_one_by_who_does_not_name_the_version(alice: Api) -> None:
    """Where the server picks a version whose creator has no level, the one given is left out; else it is refused."""
    levels: Json = {"power_level_content_override": {"users": {alice.user_id: 100, "@bob:test.example": 50}}}
    made = await alice.post("/createRoom", levels)
    assert made.status == 200, made
    room_id = made.body["room_id"]
    create = (await alice.get(f"/rooms/{room_id}/state/m.room.create")).body
    assert create["room_version"] == "12"
    users = (await alice.get(f"/rooms/{room_id}/state/m.room.power_levels")).body["users"]
    assert users == {"@bob:test.example": 50}

    refused = await alice.post("/createRoom", {**levels, "room_version": "12"})
    assert (refused.status, refused.errcode) == (400, "M_INVALID_PARAM")
    older = await alice.post("/createRoom", {**levels, "room_version": "11"})
    users = (await alice.get(f"/rooms/{older.body['room_id']}/state/m.room.power_levels")).body["users"]
    assert users == {alice.user_id: 100, "@bob:test.example": 50}


async def test_users_that_are_no_object_are_refused(alice: Api) -> None:
    """What is no map of levels makes no room, whoever it names."""
    for users in ([alice.user_id], alice.user_id, 1):
        answer = await alice.post("/createRoom", {"power_level_content_override": {"users": users}})
        assert answer.status == 400, (users, answer)
    assert (await alice.get("/joined_rooms")).body == {"joined_rooms": []}
